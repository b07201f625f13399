from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE
from clara_search.models.clara.towers import Clara
from tests.trainer.pretraining.test_text_pretraining import CONFIG
from trainer.pretraining.interpolate import interpolate
from trainer.pretraining.tokenizer import train_tokenizer


def test_the_mean_lies_on_the_line_between_two_models(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d"] * 9, 300, set())
    for name in ("first", "second"):
        save_model(tmp_path / name, Clara(CONFIG), tokenizer, "", torch.float32)
    (tmp_path / "first" / PRONUNCIATION_FILE).write_text("rules")
    interpolate(str(tmp_path / "first"), str(tmp_path / "second"), 0.25, tmp_path / "mean")
    first, second, mean = (load_model(tmp_path / name)[0].state_dict() for name in ("first", "second", "mean"))
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name], rtol=2e-3, atol=2e-3)
    assert (tmp_path / "mean" / PRONUNCIATION_FILE).read_text() == "rules"  # of the first, as its tokenizer


def test_models_of_different_configurations_cannot_be_interpolated(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d"] * 9, 300, set())
    save_model(tmp_path / "first", Clara(CONFIG), tokenizer, "")
    save_model(tmp_path / "second", Clara(replace(CONFIG, phone_head=None)), tokenizer, "")
    with pytest.raises(ConfigError, match="their configurations or tokenizers differ"):
        interpolate(str(tmp_path / "first"), str(tmp_path / "second"), 0.5, tmp_path / "mean")
