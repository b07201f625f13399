"""Released checkpoints: read strictly, never executed, converted to folders that every command takes."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from clara_search.audio.mel import log_mel
from clara_search.commands.main import main
from clara_search.errors import FormatError, OutputError, SourceError
from clara_search.models.clara.checkpoint import load_model, read_config
from clara_search.models.clara.convert import PRESETS, convert, load_released
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import load_encoder
from tests.helpers import PARITY

RELEASED = PARITY / "clara-small-random.ckpt"


def whole_checkpoint(path: Path, **parameters: Any) -> Path:
    """The checkpoint of the parity data with embeddings for all of CLARA's tokens, as a released one has them."""
    checkpoint = torch.load(RELEASED, weights_only=True)
    torch.manual_seed(0)
    width = checkpoint["state_dict"]["model.text_embedding.weight"].shape[1]
    checkpoint["state_dict"]["model.text_embedding.weight"] = torch.randn(50373, width)
    checkpoint["hyper_parameters"] |= {"vocab_size": 50373, **parameters}
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize(
    ("name", "parameters"), [("clara-60m", 67_281_410), ("clara-100m", 109_419_522), ("clara-600m", 641_476_610)]
)
def test_the_released_sizes_are_right_to_the_parameter(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = Clara(PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert PRESETS[name].name == name


@pytest.mark.slow
def test_conversion_changes_no_vector(tmp_path: Path, vocabulary: Path) -> None:
    checkpoint = whole_checkpoint(tmp_path / "clara-tiny.ckpt")
    original = load_released(checkpoint)
    convert(checkpoint, tmp_path / "m", vocabulary, sample_rate=16000)
    model, tokenizer = load_model(tmp_path / "m")
    ids, mask = tokenizer.encode(["The sounds of rain", "犬が吠えている"], ["en", "Japanese"], 4096)
    log_mels = log_mel(np.random.default_rng(0).standard_normal(9000).astype(np.float32), model.config.mel)[None]
    with torch.inference_mode():
        together = model.embed_tokens(torch.from_numpy(ids), torch.from_numpy(mask))
        alone = original.embed_tokens(torch.from_numpy(ids[:1, : mask[0].sum()]))
        torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.embed_log_mels(log_mels), original.embed_log_mels(log_mels), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_command_writes_a_folder_that_describes_itself(tmp_path: Path, vocabulary: Path) -> None:
    checkpoint = whole_checkpoint(tmp_path / "clara-tiny.ckpt")
    arguments = ["models", "convert", str(checkpoint), "--out", str(tmp_path / "m"), "--vocabulary", str(vocabulary)]
    result = CliRunner().invoke(main, [*arguments, "--dtype", "fp16", "--name", "tiny"])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "README.md")
    }
    assert read_config(tmp_path / "m").name == "tiny"
    shown = CliRunner().invoke(main, ["models", "show", str(tmp_path / "m"), "--json"])
    described = json.loads(shown.stdout)
    assert (described["name"], described["sample_rate"], described["model_type"]) == ("tiny", 48000, "clara")
    assert described["parameters"] == sum(p.numel() for p in load_released(checkpoint).parameters())
    assert described["languages"][:3] == ["en", "zh", "zh-CN"]
    assert "clara-tiny.ckpt" in described["card"]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "ids"), [([], [220, 3322]), (["--transformers-version", "5"], [264])])
def test_the_folder_keeps_the_tokens_of_the_environment_it_was_trained_in(
    tmp_path: Path, vocabulary: Path, options: list[str], ids: list[int]
) -> None:
    checkpoint = whole_checkpoint(tmp_path / "clara-tiny.ckpt")
    arguments = ["models", "convert", str(checkpoint), "--out", str(tmp_path / "m"), "--vocabulary", str(vocabulary)]
    result = CliRunner().invoke(main, [*arguments, *options])
    assert result.exit_code == 0, result.output
    _, tokenizer = load_model(tmp_path / "m")
    assert tokenizer.encode(["the"], ["en"], 99)[0].tolist() == [[50259, 50372, *ids]]
    version = options[-1] if options else "4"
    assert f"as under transformers {version}" in (tmp_path / "m" / "README.md").read_text()


@pytest.mark.slow
def test_a_recording_longer_than_the_position_table_is_cut_and_averaged(tmp_path: Path, vocabulary: Path) -> None:
    """The table of this checkpoint has 40 positions, for 80 frames: one at sample 0 and 79 a hop apart."""
    checkpoint = torch.load(whole_checkpoint(tmp_path / "tiny.ckpt"), weights_only=True)
    positions = 40
    checkpoint["state_dict"]["model.audio_positional_embedding.weight"] = torch.randn(positions, 24)
    checkpoint["hyper_parameters"]["audio_encoder_pos_embedding_size"] = positions
    torch.save(checkpoint, tmp_path / "tiny.ckpt")
    convert(tmp_path / "tiny.ckpt", tmp_path / "m", vocabulary, sample_rate=16000)
    encoder = load_encoder(tmp_path / "m")
    longest = (2 * positions - 1) * 512
    noise = np.random.default_rng(0).standard_normal(3 * longest).astype(np.float32)
    for samples in (longest - 1, longest, longest + 1, 3 * longest):
        vector = encoder.encode_audio([noise[:samples]])[0]
        np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-6)
    thirds = encoder.encode_audio([noise[:longest], noise[longest : 2 * longest], noise[2 * longest :]])
    mean = thirds.mean(axis=0)
    np.testing.assert_allclose(encoder.encode_audio([noise])[0], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.slow
def test_a_text_of_ten_thousand_words_is_cut_and_an_empty_one_has_a_vector(tmp_path: Path, vocabulary: Path) -> None:
    checkpoint = torch.load(whole_checkpoint(tmp_path / "tiny.ckpt"), weights_only=True)
    positions = checkpoint["hyper_parameters"]["text_encoder_pos_embedding_size"]
    convert(tmp_path / "tiny.ckpt", tmp_path / "m", vocabulary)
    encoder = load_encoder(tmp_path / "m")
    long = "rain " * 10_000
    vectors = encoder.encode_text([long, long[: 5 * positions], ""])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda name: name, None),
        (lambda name: name.removeprefix("model."), None),
        (lambda name: f"module.{name}", "stripped 'module.model.' from the names of 90 tensors"),
        (lambda name: f"module._orig_mod.{name}", "stripped 'module._orig_mod.model.' from the names of 90"),
        (lambda name: f"_orig_mod.{name.removeprefix('model.')}", "stripped '_orig_mod.' from the names of 90"),
        (lambda name: f"_forward_module.model.{name}", "stripped '_forward_module.model.model.' from the names of 90"),
        (lambda name: name.replace(".fn.", "._checkpoint_wrapped_module.fn."), "stripped 'model._checkpoint_wrapped_"),
        (lambda name: name.replace("model.text_encoder", "model.text_encoder._orig_mod"), "from the names of 30"),
    ],
)
def test_prefixes_of_wrappers_are_stripped_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrap: Callable[[str], str], message: str | None
) -> None:
    checkpoint = torch.load(RELEASED, weights_only=True)
    checkpoint["state_dict"] = {wrap(name): tensor for name, tensor in checkpoint["state_dict"].items()}
    torch.save(checkpoint, tmp_path / "wrapped.ckpt")
    wrapped, plain = load_released(tmp_path / "wrapped.ckpt"), load_released(RELEASED)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(wrapped.state_dict()[name], tensor), name
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (message is not None)
    assert message is None or message in messages[0]


def test_an_averaged_model_is_taken_without_its_counter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = torch.load(RELEASED, weights_only=True)
    averaged = {f"module.{name}": tensor for name, tensor in checkpoint["state_dict"].items()}
    checkpoint["state_dict"] = {"n_averaged": torch.tensor(3), **averaged}
    torch.save(checkpoint, tmp_path / "averaged.ckpt")
    load_released(tmp_path / "averaged.ckpt")
    assert "left out 'n_averaged'" in caplog.records[0].getMessage()


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    checkpoint = torch.load(RELEASED, weights_only=True)
    averaged = {f"module.{name}": tensor + 1 for name, tensor in checkpoint["state_dict"].items()}
    checkpoint["state_dict"] |= averaged
    torch.save(checkpoint, tmp_path / "twice.ckpt")
    with pytest.raises(FormatError, match=r"ckpt: model\.\S+ and module\.model\.\S+ are the same tensor of the model"):
        load_released(tmp_path / "twice.ckpt")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_probe_is_refused_with_its_base_and_its_head(tmp_path: Path, prefix: str) -> None:
    base = torch.load(RELEASED, weights_only=True)
    state = {f"{prefix}feature_extractor.{name}": tensor for name, tensor in base["state_dict"].items()}
    for number, (inputs, outputs) in {0: (48, 512), 3: (512, 128), 6: (128, 5)}.items():
        state[f"{prefix}classifier.sequential.{number}.weight"] = torch.zeros(outputs, inputs)
        state[f"{prefix}classifier.sequential.{number}.bias"] = torch.zeros(outputs)
    parameters = {"in_features": 48, "num_classes": 5, "task": "emotion", "clara_checkpoint_path": "logs/60M.ckpt"}
    torch.save({"hyper_parameters": parameters, "state_dict": state}, tmp_path / "probe.ckpt")
    message = r"probe\.ckpt: the checkpoint of a probe: convert its base, logs/60M\.ckpt; its classifier \(48 -> 512"
    with pytest.raises(FormatError, match=message + " -> 128 -> 5"):
        load_released(tmp_path / "probe.ckpt")


def test_a_checkpoint_with_a_missing_an_extra_and_a_misshaped_tensor_is_refused(tmp_path: Path) -> None:
    checkpoint = torch.load(RELEASED, weights_only=True)
    del checkpoint["state_dict"]["model.conv1.bias"]
    checkpoint["state_dict"]["model.extra"] = torch.zeros(1)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    with pytest.raises(FormatError, match=r"convolutions\.0\.bias is missing; model\.extra is unknown"):
        load_released(tmp_path / "broken.ckpt")
    checkpoint = torch.load(RELEASED, weights_only=True)
    checkpoint["state_dict"]["model.text_tempeture"] = torch.zeros(2)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    with pytest.raises(FormatError, match=r"text_logit_scale has shape \(2,\), expected \(\)"):
        load_released(tmp_path / "broken.ckpt")


def test_an_unknown_prefix_can_be_seen_in_the_error(tmp_path: Path) -> None:
    checkpoint = torch.load(RELEASED, weights_only=True)
    checkpoint["state_dict"] = {f"clip.{name}": tensor for name, tensor in checkpoint["state_dict"].items()}
    torch.save(checkpoint, tmp_path / "prefix.ckpt")
    with pytest.raises(
        FormatError, match=r"audio_logit_scale is missing; clip\.model\.audio_tempeture is unknown; .* 177 m"
    ):
        load_released(tmp_path / "prefix.ckpt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": Bomb(), "hyper_parameters": {}}, tmp_path / "bomb.ckpt")
    with pytest.raises(
        FormatError, match=r"not a checkpoint of tensors and plain values: it holds .*system"
    ) as refused:
        load_released(tmp_path / "bomb.ckpt")
    assert "weights_only" not in str(refused.value)
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FormatError, match="not a checkpoint of tensors"):
        load_released(tmp_path / "raw.ckpt")
    assert not (tmp_path / "ran").exists()


def _without(key: str) -> Any:
    checkpoint = torch.load(RELEASED, weights_only=True)
    del checkpoint[key]
    return checkpoint


def _with(**values: Any) -> Any:
    return torch.load(RELEASED, weights_only=True) | values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _without("hyper_parameters"), "no hyper_parameters"),
        (lambda: _with(hyper_parameters=[1]), "not a mapping"),
        (lambda: _with(hyper_parameters={}), "its hyper_parameters lack 'audio_encoder_weight_tie_layers'"),
        (lambda: _with(state_dict={"model.conv1.bias": 3}), r"model\.conv1\.bias is not a tensor"),
        (lambda: _with(hyper_parameters={"audio_encoder_weight_tie_layers": torch.zeros(3)}), "tied layers"),
        (lambda: [1, 2], "not a CLARA checkpoint"),
    ],
)
def test_a_wrong_typed_checkpoint_is_refused_with_its_reason(tmp_path: Path, make: Any, message: str) -> None:
    torch.save(make(), tmp_path / "wrong.ckpt")
    with pytest.raises(FormatError, match=message):
        load_released(tmp_path / "wrong.ckpt")


@pytest.mark.parametrize("size", [0, 10, 5000, 900_000])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "cut.ckpt").write_bytes(RELEASED.read_bytes()[:size])
    with pytest.raises(FormatError, match=r"cut\.ckpt: not a checkpoint of tensors"):
        load_released(tmp_path / "cut.ckpt")


@pytest.mark.slow
def test_a_missing_checkpoint_and_one_that_the_vocabulary_does_not_fit_are_named(
    tmp_path: Path, vocabulary: Path
) -> None:
    with pytest.raises(SourceError, match=r"none\.ckpt: there is no such file"):
        load_released(tmp_path / "none.ckpt")
    with pytest.raises(FormatError, match="embeddings for 300 tokens, but CLARA's tokenizer has 50373"):
        convert(RELEASED, tmp_path / "m", vocabulary)


@pytest.mark.slow
def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path, vocabulary: Path) -> None:
    checkpoint = whole_checkpoint(tmp_path / "clara-tiny.ckpt")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("mine")
    with pytest.raises(OutputError, match="holds other files and no model"):
        convert(checkpoint, tmp_path / "m", vocabulary)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["config.json"]
