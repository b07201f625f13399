from pathlib import Path

import pytest
import safetensors.torch
import torch

from clara_search.errors import FormatError
from clara_search.models.checkpoint import describe, fingerprint, load_model, save_model
from clara_search.models.clara import Clara
from clara_search.tokenizer import Tokenizer
from tests.models.test_clara import MASKED


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


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 300', '"vocab_size": 200'))
    with pytest.raises(FormatError, match=r"tokenizer\.json: has \d+ tokens, the model has embeddings for 200"):
        load_model(folder)


def test_an_unknown_key_is_refused_and_the_nearest_named(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"latents": 3', '"latentz": 3'))
    with pytest.raises(FormatError, match=r"unknown key 'latentz', did you mean 'latents'"):
        load_model(folder)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["audio_projection.bias"] = weights["audio_projection.bias"].to(torch.int32)
    safetensors.torch.save_file(dict(weights), path)
    with pytest.raises(FormatError, match=r"audio_projection\.bias holds torch\.int32"):
        load_model(folder)


def test_saving_over_a_loaded_model_leaves_it_as_it_is(folder: Path) -> None:
    model, tokenizer = load_model(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = Clara(MASKED)
    save_model(folder, other, tokenizer, "", torch.float32)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_folder_is_described_without_its_weights_being_read(folder: Path) -> None:
    described = describe(folder)
    assert described["parameters"] == sum(p.numel() for p in Clara(MASKED).parameters())
    assert (described["name"], described["dim"], described["sample_rate"]) == ("masked", 24, 16000)
    assert described["fingerprint"] == fingerprint(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"dim": 24', '"dim": 0', "dim must lie between 1"),
        ('"heads": 4', '"heads": 5', "width 16 cannot be divided by 5 heads"),
        ('"layers": 2', '"layers": 10000000', "layers must lie between 0 and 1000"),
        ('"hop": 512', '"hop": 0', "a log-mel needs positive sizes"),
        ('"vocab_size": 300', '"vocab_size": 1000000000000000000000', "vocab_size must lie between"),
        ('"dropout": 0.0', '"dropout": 5.0', "dropout must lie between 0 and 1"),
        ('"dim": 24', '"dim": ' + "[" * 100_000, "broken JSON"),
    ],
    ids=["dim", "heads", "layers", "hop", "vocabulary", "dropout", "nesting"],
)
def test_a_size_that_no_model_has_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    config = folder / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(FormatError, match=message):
        load_model(folder)
