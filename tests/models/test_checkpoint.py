import os
import pickle
from pathlib import Path

import pytest
import torch

from clara_search.errors import FormatError
from clara_search.models.checkpoint import fingerprint, load_model, load_released, save_model
from clara_search.models.clara import Clara
from clara_search.tokenizer import Tokenizer
from tests.models.test_clara import MASKED

RELEASED = Path(__file__).parents[1] / "fixtures" / "parity" / "clara-small-random.ckpt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "m", Clara(MASKED), Tokenizer.train(["a b"], 300, ["en"]), "# card", torch.float32)
    return tmp_path / "m"


def test_a_folder_gives_back_the_model(folder: Path) -> None:
    torch.manual_seed(0)
    original = Clara(MASKED)
    loaded, _ = load_model(folder)
    assert not loaded.training
    assert loaded.config == MASKED
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def test_half_precision_on_disk_is_single_in_memory(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(folder)
    save_model(tmp_path / "half", model, tokenizer, "")
    again, _ = load_model(tmp_path / "half")
    assert {tensor.dtype for tensor in again.state_dict().values()} == {torch.float32}
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        folder / "model.safetensors"
    ).stat().st_size


def test_the_fingerprint_follows_the_content_and_not_the_name(folder: Path) -> None:
    before = fingerprint(folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"masked"', '"renamed"'))
    assert fingerprint(folder) == before
    model, tokenizer = load_model(folder)
    with torch.no_grad():
        model.audio_log_scale += 1
    save_model(folder, model, tokenizer, "", torch.float32)
    assert fingerprint(folder) != before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_or_broken_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"garbage")
    with pytest.raises(FormatError, match=name):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(FormatError, match=name):
        load_model(folder)


def test_another_architecture_is_refused_by_name_of_tensor(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"dim": 24', '"dim": 25'))
    with pytest.raises(FormatError, match=r"audio_projection.* has shape \(24, .*\), expected \(25"):
        load_model(folder)


def test_a_checkpoint_with_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    checkpoint = torch.load(RELEASED, weights_only=True)
    del checkpoint["state_dict"]["model.conv1.bias"]
    checkpoint["state_dict"]["model.extra"] = torch.zeros(1)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    with pytest.raises(FormatError, match=r"convolutions\.0\.bias is missing; model\.extra is unknown"):
        load_released(tmp_path / "broken.ckpt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": Bomb(), "hyper_parameters": {}}, tmp_path / "bomb.ckpt")
    with pytest.raises(FormatError, match="not a checkpoint of tensors"):
        load_released(tmp_path / "bomb.ckpt")
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FormatError, match="not a checkpoint of tensors"):
        load_released(tmp_path / "raw.ckpt")
    assert not (tmp_path / "ran").exists()
