"""The package for a machine with a GPU: what is in it, and its script, run on a CPU without espeak-ng and wordfreq."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from clara_search.errors import FormatError
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model
from clara_search.text.pronunciation import Pronouncer
from tests.helpers import write_tone
from tests.trainer.speech.test_fit_speech import CONFIG
from trainer.data.corpus import load_corpus
from trainer.pretraining.tokenizer import train_tokenizer
from trainer.speech.build import SpeechFitting, pack_speech
from trainer.speech.package import FOLDER, PHONES_FILE, RECORDINGS_FILE, SCRIPT_FILE, read_phones

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with rules, and 16 tones, three quarters of them with transcripts."""
    folder = tmp_path_factory.mktemp("package")
    with (folder / "tones.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "kind", "split", "language", "text_language", "source"])
        for number in range(16):
            write_tone(folder / f"{number}.wav", 200 + 30 * number, duration_s=0.5, sample_rate=16000)
            kind = "speech" if number % 4 else "sound"
            rows.writerow([f"{number}.wav", f"tono {'ab'[number % 2]}", kind, "train", "es", "es", "abcd"[number % 4]])
    torch.manual_seed(0)
    save_model(folder / "model", Clara(CONFIG), train_tokenizer(["tono"] * 9, 300, ["es"]), "", torch.float32)
    rules = json.loads((find_model("clara-small") / PRONUNCIATION_FILE).read_text())
    Pronouncer.parse(rules, "rules").save(folder / "model" / PRONUNCIATION_FILE)
    return folder


def test_a_package_fits_its_size_and_prefers_what_counts_more(folder: Path) -> None:
    settings = SpeechFitting(excluded=("c",), weights={"b": 50.0, "sound": 1e-6})
    sources = [str(folder / "tones.csv")]
    whole = folder / "whole.tar.xz"
    assert pack_speech(str(folder / "model"), sources, settings, whole, 64 * 2**20) == 12
    model_bytes = sum(path.stat().st_size for path in (folder / "model").iterdir())
    small = folder / "small.tar.xz"
    count = pack_speech(str(folder / "model"), sources, settings, small, model_bytes + 4000)
    assert 2 <= count < 12
    assert small.stat().st_size <= model_bytes + 4000
    with tarfile.open(small) as tar:
        tar.extractall(folder / "small", filter="data")
    packed = load_corpus([str(folder / "small" / FOLDER / RECORDINGS_FILE)], 16000, folder / "small-cache")
    assert len(packed) == count
    assert packed.examples[0].source == "b"
    assert packed.duration_s(0) == pytest.approx(0.5, abs=0.02)
    assert set(read_phones(folder / "small" / FOLDER / PHONES_FILE)) == {"es"}


@pytest.mark.parametrize("content", ['{"es": []}', '{"es": {"hola": "ola"}}', '{"es": {"hola": [0]}}', "["])
def test_a_table_of_phones_of_another_form_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "phones.json").write_text(content)
    with pytest.raises(FormatError):
        read_phones(tmp_path / "phones.json")


@pytest.mark.slow
def test_the_script_trains_without_the_packages_for_synthetic_speech_and_goes_on(folder: Path) -> None:
    path = folder / "package.tar.xz"
    pack_speech(str(folder / "model"), [str(folder / "tones.csv")], SpeechFitting(), path, 64 * 2**20)
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    hidden = folder / "hidden"
    hidden.mkdir()
    for name in ("espeakng_loader", "wordfreq"):
        (hidden / f"{name}.py").write_text("raise ImportError('hidden')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hidden), str(ROOT)])}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the script's python
    environment |= {"DEVICE": "cpu", "MINUTES": "60", "BATCH_S": "4", "WORKERS": "0", "PROJECTION_STEPS": "2"}
    script, out = folder / FOLDER / SCRIPT_FILE, folder / "runs" / "speech"

    def run(**variables: str) -> str:
        done = subprocess.run(
            ["sh", str(script), str(out)],
            env=environment | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "without synthetic speech" in run(STEPS="3")
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 3
    assert "resumes at step 3" in run(STEPS="5")
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 5
    assert (out / "model" / PRONUNCIATION_FILE).is_file()
