from __future__ import annotations

import pytest

from clara_search.models import registry
from clara_search.retrieval import opened as index_module
from clara_search.store import verify
from indexer.pipeline import index as index_corpus
from tests.helpers import ToneEncoder


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Two models to load: the tone encoder by its name or by default, and another version of it. Keeps devices."""
    devices, real = [], registry.load_encoder

    def load(model=registry.DEFAULT_MODEL, device=None, precision="auto", compile_model=False):
        devices.append(device)
        encoders = {"tone": ToneEncoder(), registry.DEFAULT_MODEL: ToneEncoder(), "other": ToneEncoder("2")}
        return encoders.get(str(model)) or real(model)

    monkeypatch.setattr(registry, "load_encoder", load)
    monkeypatch.setattr(index_module, "load_encoder", load)
    monkeypatch.setattr(verify, "load_encoder", load)
    return devices


@pytest.fixture
def corpus(tmp_path, database, recordings, encoder):
    """A database of three tones, two texts, and a file that is no recording."""
    (recordings / "broken.wav").write_text("this is no sound")
    texts = tmp_path / "captions.txt"
    texts.write_text("a dog barks\nrain on a roof\n", encoding="utf-8")
    index_corpus([recordings, texts], database, encoder)
    return database
