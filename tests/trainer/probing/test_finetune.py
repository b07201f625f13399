"""Training the encoder below a head."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clara_search.classification.head_files import load_head
from clara_search.commands.main import main as clara_search
from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import load_model
from clara_search.models.registry import load_encoder
from clara_search.models.training_sources import training_sources
from tests.trainer.probing.conftest import probe_config, run
from trainer.probing.run import probe
from trainer.probing.unfreezing import unfreeze


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["last:0", "last:1", "lora:2", "all"])
def test_unfrozen_parts_are_trained_and_nothing_else(parts: str, small: Path, tones: Path, tmp_path: Path) -> None:
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    wanted = replace(probe_config(tones, small, encoder_lr=1e-2), unfreeze=parts)
    probe(wanted, tmp_path / "run", tmp_path / "cache")
    folder = tmp_path / "run" / "head"
    before, after = load_model(small)[0].state_dict(), load_model(folder / "encoder")[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    tops = {".".join(name.split(".")[:2]) for name in changed}
    ends = {"audio.norm", "audio.output", "audio_projection.weight", "audio_projection.bias"}
    layers = {"audio.cross", "audio.layers", "audio.frame_layers"}
    if parts == "last:0":
        assert tops == ends
    elif parts == "last:1":
        assert tops == ends | {"audio.layers"}
    elif parts == "all":
        assert tops >= ends | layers | {"audio.stem", "audio.latents"}
    else:
        assert {name.split(".")[-1] for name in changed} <= {"weight", "in_proj_weight"}
        assert tops >= layers | {"audio.output"}
    assert not any(name.startswith("text") or "logit_scale" in name for name in changed)
    assert {"CREMA-D", "crema_d"} <= set(training_sources(folder / "encoder") or ())
    head = load_head(folder)
    assert head.config.model.fingerprint == load_encoder(folder / "encoder").fingerprint
    output = run(clara_search, "classify", tones.parent / "1.wav", "--head", folder, "--json").stdout
    assert json.loads(output)["scores"].keys() == {"high", "low"}


def test_only_unfrozen_parts_get_gradients(small: Path) -> None:
    model = load_model(small)[0]
    trained = unfreeze(model, "last:1", text=True)
    wanted = {id(p) for module in trained for p in module.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == wanted
    assert not model.audio.stem.convolutions[0].weight.requires_grad
    for parts, message in (("last:9", "has only 3"), ("lora:x", "take none, last:N"), ("", "take none")):
        with pytest.raises(ConfigError, match=message):
            unfreeze(model, parts, text=False)


def test_heads_that_cannot_be_fine_tuned_are_refused_before_anything_is_embedded(
    small: Path, tones: Path, tmp_path: Path
) -> None:
    for fitted, message in (({"head": "knn"}, "not below knn"), ({"inputs": "late"}, "late")):
        with pytest.raises(ConfigError, match=message):
            probe(replace(probe_config(tones, small, **fitted), unfreeze="all"), tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
