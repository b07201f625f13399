import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import tokenizers
import torch

from clara_search.errors import FormatError, OutputError
from clara_search.models.clara.checkpoint import describe, fingerprint, load_model, save_model
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import load_encoder
from tests.clara_search.models.clara.test_towers import MASKED
from trainer.pretraining.tokenizer import train_tokenizer

Spoil = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "m", Clara(MASKED), train_tokenizer(["a b"], 300, ["en"]), "# card", torch.float32)
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
        model.audio_logit_scale += 1
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


def test_integer_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["audio_projection.bias"] = weights["audio_projection.bias"].to(torch.int32)
    safetensors.torch.save_file(dict(weights), path)
    with pytest.raises(FormatError, match=r"audio_projection\.bias is torch\.int32"):
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
        ('"hop_length": 512', '"hop_length": 0', "a log-mel needs positive sizes"),
        ('"vocab_size": 300', '"vocab_size": 1000000000000', "vocab_size must lie between"),
        ('"dropout": 0.0', '"dropout": 5.0', "dropout must lie between 0 and 1"),
        ('"f_max": 8000.0', '"f_max": Infinity', "Infinity is not a finite number"),
        ('"f_max": 8000.0', '"f_max": ' + "9" * 400, "a number of 400 digits"),
        ('"conv_strides": [', '"conv_strides": [0, ', "conv_strides must be one to eight numbers"),
        ('"dim": 24', '"dim": ' + "[" * 100_000, "more than 100 levels of nesting"),
    ],
    ids=["dim", "heads", "layers", "hop", "vocabulary", "dropout", "endless", "digits", "strides", "nesting"],
)
def test_a_size_out_of_bounds_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    config = folder / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(FormatError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * torch.nan, r"projection\.bias is not finite"),
        (lambda x: x.double() + 1e300, r"projection\.bias is not finite"),
        (lambda x: x.to(torch.float8_e5m2), r"projection\.bias is torch\.float8_e5m2"),
    ],
)
def test_weights_that_cannot_be_computed_with_are_named(folder: Path, spoil: Spoil, message: str) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["text_projection.bias"] = spoil(weights["text_projection.bias"])
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    with pytest.raises(FormatError, match=message):
        load_model(folder)


@pytest.mark.parametrize("factor", [0.0, 1e38])
def test_weights_that_give_zero_vectors_are_noticed_at_use(folder: Path, factor: float) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    for name in ("text_projection.weight", "text_projection.bias"):
        weights[name] = weights[name] * factor if factor == 0 else torch.full_like(weights[name], factor)
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    with pytest.raises(FormatError, match="vectors that are zero or not finite"):
        load_encoder(folder).encode_text(["rain"])


def test_a_model_that_cannot_be_stored_leaves_the_old_one_whole(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model, tokenizer = load_model(folder)
    with torch.no_grad():
        model.text_projection.bias.fill_(1e6)
    with pytest.raises(OutputError, match=r"text_projection\.bias is not finite as torch\.float16: not written"):
        save_model(folder, model, tokenizer, "")
    with pytest.raises(OutputError, match="cannot be written there"):
        save_model(folder, model, tokenizer, "\ud800", torch.float32)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    model.text.norm.bias = model.text.norm.weight  # weights that share their memory are stored apart
    save_model(folder, model, tokenizer, "", torch.float32)
    assert torch.equal(load_model(folder)[0].text.norm.bias, model.text.norm.weight)


def test_a_setting_without_a_value_leaves_the_fingerprint_as_it_is(folder: Path) -> None:
    before = fingerprint(folder)
    config = (folder / "config.json").read_text()
    assert '"reference_db": null' in config
    (folder / "config.json").write_text(re.sub(r',\s*"reference_db": null', "", config))
    assert fingerprint(folder) == before


def test_a_tokenizer_that_pads_and_cuts_by_itself_does_neither(folder: Path) -> None:
    _, tokenizer = load_model(folder)
    expected = tokenizer.encode(["a b a b"], [None], 99)[0]
    bpe = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    bpe.enable_padding(pad_id=99_999, length=64)
    bpe.enable_truncation(1)
    bpe.save(str(folder / "tokenizer.json"))
    assert load_model(folder)[1].encode(["a b a b"], [None], 99)[0].tolist() == expected.tolist()
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a")).save(str(folder / "tokenizer.json"))
    with pytest.raises(FormatError, match="tokenizer's model is WordLevel, expected BPE"):
        load_model(folder)
