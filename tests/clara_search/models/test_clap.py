"""CLAP folders against what `transformers` computes from them, with small random weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tokenizers
import torch

from clara_search.errors import DeviceError, FormatError
from clara_search.models import registry as catalog
from clara_search.models.base import Encoder
from clara_search.models.clap import fingerprint
from clara_search.models.registry import load_encoder

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: clap)")

RATE = 16000
SECOND = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1


def write_clap(folder: Path, fusion: bool) -> Path:
    """A CLAP folder as `transformers` writes one: a second of audio at 16 kHz, words and bytes as tokens."""
    torch.manual_seed(0)
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "window_size": 4,
        "enable_fusion": fusion,
        "projection_dim": 12,
    }
    text = {
        "vocab_size": 300,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 40,
        "projection_dim": 12,
    }
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    transformers.ClapModel(config).save_pretrained(folder)
    bpe = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(["a dog barks"], vocab_size=280, special_tokens=special)
    bpe.save_model(str(folder))
    transformers.RobertaTokenizer.from_pretrained(folder).save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=160,
        max_length_s=1,
        fft_window_size=400,
        frequency_max=8000,
        truncation="fusion" if fusion else "rand_trunc",
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap(tmp_path_factory.mktemp("clap") / "tiny-clap", request.param)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(folder)


def of_transformers(folder: Path, waveform: np.ndarray) -> np.ndarray:
    """The vector that `transformers` gives a clip, where it is not the one that a batch must mark as longer."""
    model: Any = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    inputs = extractor(waveform, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        output = model.get_audio_features(inputs["input_features"].float(), is_longer=torch.tensor([[False]]))
    return output.pooler_output[0].numpy()


def test_it_is_an_encoder_of_the_folders_name(encoder: Encoder, folder: Path) -> None:
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim, encoder.sample_rate) == ("tiny-clap", 12, RATE)
    assert encoder.fingerprint == fingerprint(folder)


@pytest.mark.parametrize("samples", [1, 100, 4000, 7999, 9000, RATE])
def test_a_clip_has_the_vector_that_transformers_gives_it(encoder: Encoder, folder: Path, samples: int) -> None:
    clip = SECOND[:samples]
    np.testing.assert_allclose(encoder.encode_audio([clip])[0], of_transformers(folder, clip), atol=1e-5)


def test_a_long_clip_is_embedded_whole_and_the_same_every_time(encoder: Encoder, folder: Path) -> None:
    parts = np.random.default_rng(1).standard_normal((3, RATE)).astype(np.float32) * 0.1
    whole = encoder.encode_audio([parts.ravel()])[0]
    np.testing.assert_array_equal(whole, encoder.encode_audio([parts.ravel()])[0])
    mean = np.mean([of_transformers(folder, part) for part in parts], axis=0)
    np.testing.assert_allclose(whole, mean / np.linalg.norm(mean), atol=1e-5)


def test_texts_have_the_vectors_that_transformers_gives_them_padded_or_not(encoder: Encoder, folder: Path) -> None:
    texts = ["a dog barks", "rain", "", "una mujer habla", "a dog barks " * 100]
    model: Any = transformers.ClapModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    together = encoder.encode_text(texts)
    for text, vector in zip(texts, together, strict=True):
        inputs = tokenizer([text], truncation=True, max_length=38, return_tensors="pt")
        with torch.inference_mode():
            expected = model.get_text_features(**inputs).pooler_output[0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        np.testing.assert_allclose(encoder.encode_text([text])[0], vector, atol=1e-5)


def test_an_ignored_language_is_logged_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = load_encoder(folder)
    plain = encoder.encode_text(["rain"])
    for language in (None, "und", "de", "fr"):
        np.testing.assert_array_equal(encoder.encode_text(["rain"], language), plain)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "tiny-clap does not distinguish languages: the language 'de' is ignored"


def test_bf16_is_near_and_int8_is_refused(folder: Path, encoder: Encoder) -> None:
    near = load_encoder(folder, precision="bf16").encode_audio([SECOND])[0]
    assert near @ encoder.encode_audio([SECOND])[0] > 0.99
    with pytest.raises(DeviceError, match="not in int8"):
        load_encoder(folder, precision="int8")


def test_the_fingerprint_changes_with_settings_that_change_vectors(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    config = tmp_path / "copy" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"transformers_version": "9"}))
    assert fingerprint(tmp_path / "copy") == fingerprint(folder)
    config.write_text(json.dumps(values | {"projection_dim": 13}))
    assert fingerprint(tmp_path / "copy") != fingerprint(folder)


def test_a_folder_is_described(folder: Path) -> None:
    described = catalog.describe_model(folder)
    assert (described["name"], described["model_type"], described["dim"]) == ("tiny-clap", "clap", 12)
    assert described["sample_rate"] == RATE
    model = transformers.ClapModel.from_pretrained(folder)
    assert described["parameters"] == sum(tensor.numel() for tensor in model.state_dict().values())
    assert described["licence"] == "not stated"


def rewritten(folder: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """A copy of `folder` whose weights are what `change` makes of them."""
    shutil.copytree(folder, copy)
    state = change(safetensors.torch.load_file(folder / "model.safetensors"))
    safetensors.torch.save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def assert_same(vectors: np.ndarray, others: np.ndarray) -> None:
    np.testing.assert_allclose(vectors, others, atol=1e-6)  # where a tensor lies in memory may change its last bit


def without(*prefixes: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda state: {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("text_model."), r"text_model\.\S+ is missing; .* \(and \d+ more\)"),
        (without("audio_model."), r"audio_model\.\S+ is missing; .* \(and \d+ more\)"),
        (without("text_projection.linear2.bias"), r"config\.json: text_projection\.linear2\.bias is missing$"),
        (without("audio_model.audio_encoder.batch_norm.running_var"), r"batch_norm\.running_var is missing$"),
        (lambda state: state | {"extra.weight": torch.ones(2)}, r"config\.json: extra\.weight is unknown$"),
        (
            lambda state: state | {"text_projection.linear2.bias": torch.ones(3)},
            r"text_projection\.linear2\.bias has shape \(3,\), expected \(12,\)$",
        ),
        (
            lambda state: state | {"text_projection.linear2.bias": torch.full((12,), torch.nan)},
            r"text_projection\.linear2\.bias is not finite$",
        ),
        (lambda state: {f"encoder.{name}": tensor for name, tensor in state.items()}, r"is missing; .* more\)"),
        (
            lambda state: state | {"module.logit_scale_a": torch.ones(())},
            r"logit_scale_a and (module\.)?logit_scale_a are the same tensor",
        ),
    ],
)
def test_weights_that_do_not_fit_are_an_error_that_names_them(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    rewritten(folder, tmp_path / "m", change)
    with pytest.raises(FormatError, match=message) as refused:
        load_encoder(tmp_path / "m")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "clap.", "model.clap."])
def test_prefixes_of_wrappers_are_stripped_and_logged(
    folder: Path, encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    rewritten(folder, tmp_path / "m", lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()})
    wrapped = load_encoder(tmp_path / "m")
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("clara_search")]
    assert f"stripped '{prefix}' from the names of" in message
    assert_same(wrapped.encode_audio([SECOND]), encoder.encode_audio([SECOND]))
    assert_same(wrapped.encode_text(["rain"]), encoder.encode_text(["rain"]))


def test_a_folder_without_a_tokenizer_is_refused_and_one_with_the_older_files_is_not(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").unlink()
    assert_same(load_encoder(tmp_path / "m").encode_text(["a dog barks"]), encoder.encode_text(["a dog barks"]))
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "m" / name).unlink()
    with pytest.raises(FormatError, match=r"has no tokenizer: neither tokenizer\.json nor vocab\.json and merges\.txt"):
        load_encoder(tmp_path / "m")


def test_a_tokenizer_and_features_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    features = tmp_path / "m" / "preprocessor_config.json"
    written = features.read_text()
    features.write_text(json.dumps(json.loads(written) | {"feature_size": 32}))
    with pytest.raises(FormatError, match=r"preprocessor_config\.json: has 32 mel bands, the model 16"):
        load_encoder(tmp_path / "m")
    features.write_text(written)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{number}" for number in range(300)])
    tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(FormatError, match=r"its tokenizer has \d+ tokens, its model embeddings for 300"):
        load_encoder(tmp_path / "m")


def test_constants_that_older_files_lack_are_not_missed(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    def floats(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}

    rewritten(folder, tmp_path / "m", floats)
    older = load_encoder(tmp_path / "m")
    assert_same(older.encode_audio([SECOND]), encoder.encode_audio([SECOND]))
    assert_same(older.encode_text(["rain"]), encoder.encode_text(["rain"]))


def test_weights_in_parts_and_weights_of_torch_are_read_as_strictly(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    names = sorted(state)
    for kind in ("parts", "torch"):
        shutil.copytree(folder, tmp_path / kind)
        (tmp_path / kind / "model.safetensors").unlink()
    torch.save(state, tmp_path / "torch" / "pytorch_model.bin")
    parts = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(names)}
    for part in set(parts.values()):
        tensors = {name: state[name] for name in names if parts[name] == part}
        safetensors.torch.save_file(tensors, tmp_path / "parts" / part, metadata={"format": "pt"})
    (tmp_path / "parts" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    for kind in ("parts", "torch"):
        assert_same(load_encoder(tmp_path / kind).encode_text(["rain"]), encoder.encode_text(["rain"]))
    shutil.copy(tmp_path / "parts" / "part-0.safetensors", tmp_path / "parts" / "part-1.safetensors")
    with pytest.raises(FormatError, match=r"part-1\.safetensors: .* also in another file"):
        load_encoder(tmp_path / "parts")
    del state["text_projection.linear2.bias"]
    torch.save(state, tmp_path / "torch" / "pytorch_model.bin")
    with pytest.raises(FormatError, match=r"text_projection\.linear2\.bias is missing"):
        load_encoder(tmp_path / "torch")


@pytest.mark.parametrize(
    ("name", "message"), [("model.safetensors", "cannot be read"), ("preprocessor_config.json", "not JSON")]
)
def test_a_broken_folder_is_one_clear_error(folder: Path, tmp_path: Path, name: str, message: str) -> None:
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / name).write_bytes(b"garbage")
    with pytest.raises(FormatError, match=f"broken/{name}: {message}"):
        load_encoder(tmp_path / "broken")
    (tmp_path / "broken" / name).unlink()
    with pytest.raises(FormatError, match="broken"):
        load_encoder(tmp_path / "broken")


@pytest.mark.parametrize("listed", [{}, {"weight_map": [1]}, {"weight_map": {"a": "../../secret"}}])
def test_weights_are_files_of_the_folder(folder: Path, tmp_path: Path, listed: dict) -> None:
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(listed))
    with pytest.raises(FormatError, match="has no weight_map with names of files in the same folder"):
        catalog.describe_model(tmp_path / "m")
