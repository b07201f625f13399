"""Model folders of `transformers` that bring code: it is never run, and never asked about."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from clara_search.datasets.example import Example
from clara_search.errors import FormatError
from clara_search.models.registry import load_encoder
from trainer.data.captions import Generator
from trainer.data.teachers import compute_teacher_texts

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")

CLASSES = ("Config", "Model", "Tokenizer", "Extractor", "Processor")


def bring_code(folder: Path, marker: Path, model_type: str | None) -> Path:
    """Make a folder name code of its own wherever `transformers` looks for it; running it writes `marker`."""
    code = f"open({str(marker)!r}, 'w').write('ran')\n" + "".join(f"class {name}: pass\n" for name in CLASSES)
    for name in ("evil", "__init__", "custom_generate/generate"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(code)
    classes = {
        "AutoConfig": "evil.Config",
        **{f"AutoModel{kind}": "evil.Model" for kind in ("", "ForCausalLM")},
        "AutoFeatureExtractor": "evil.Extractor",
        "AutoProcessor": "evil.Processor",
        "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
    }
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        path = folder / name
        values = json.loads(path.read_text()) if path.is_file() else {}
        values["auto_map"] = classes
        if name == "config.json" and model_type is not None:
            values["model_type"] = model_type
        path.write_text(json.dumps(values))
    return folder


def small_bert(folder: Path) -> Path:
    import transformers

    folder.mkdir()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nrain\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model_type", [None, "evil"], ids=["known type", "own type"])
@pytest.mark.parametrize("kind", ["teacher", "generator", "clap"])
def test_code_in_a_model_folder_is_not_run_and_not_asked_about(
    kind: str, model_type: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.clara_search.models.test_clap import write_clap

    def ask(*_: Any) -> str:
        raise AssertionError("asked whether to run it")

    monkeypatch.setattr("builtins.input", ask)
    marker, folder = tmp_path / "marker", tmp_path / "model"
    folder = write_clap(folder, fusion=False) if kind == "clap" else small_bert(folder)
    bring_code(folder, marker, model_type if kind != "clap" else None)
    with caplog.at_level(logging.WARNING):
        # A type that only the folder's code knows is no model.
        expected = pytest.raises(FormatError) if model_type is not None and kind != "clap" else nullcontext()
        with expected:
            if kind == "teacher":
                compute_teacher_texts(folder, [Example("1", b"", "rain")], tmp_path)
            elif kind == "generator":
                Generator(folder)
            else:
                load_encoder(folder)
    assert not marker.exists()
    assert "which is not run" in caplog.text
