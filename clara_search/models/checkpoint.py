"""The model folder (config.json, model.safetensors, tokenizer.json, README.md), and the released checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from clara_search.config import from_mapping
from clara_search.errors import FormatError
from clara_search.models.clara import Clara, ClaraConfig
from clara_search.tokenizer import Tokenizer

FORMAT_VERSION = 1
MODEL_TYPE = "clara"
CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, CARD_FILE = "config.json", "model.safetensors", "tokenizer.json", "README.md"


def save_model(folder: Path, model: Clara, tokenizer: Tokenizer, card: str, dtype: torch.dtype = torch.float16) -> None:
    """Write a model folder. Weights are stored as `dtype`; they are computed with in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, "format_version": FORMAT_VERSION, **dataclasses.asdict(model.config)}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    tokenizer.save(folder / TOKENIZER_FILE)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def load_model(folder: Path) -> tuple[Clara, Tokenizer]:
    """Read a model folder, in evaluation mode, float32. Raises FormatError, naming the file, for what is broken."""
    model = Clara(read_config(folder))
    path = folder / WEIGHTS_FILE
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error
    _fill(model, weights, path)
    return model, Tokenizer.load(folder / TOKENIZER_FILE)


def read_config(folder: Path) -> ClaraConfig:
    """Read the configuration of a model folder. Raises FormatError where there is none, or one of another kind."""
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{folder}: not a model folder, it has no readable {CONFIG_FILE}") from error
    except ValueError as error:
        raise FormatError(f"{path}: broken JSON ({error})") from error
    if not isinstance(values, dict) or values.pop("model_type", None) != MODEL_TYPE:
        raise FormatError(f"{path}: not a {MODEL_TYPE} model")
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise FormatError(f"{path}: format version {version}, this release reads {FORMAT_VERSION}")
    return from_mapping(ClaraConfig, values, str(path))


def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, over what decides a vector: configuration (but the name), weights and tokenizer."""
    config = dataclasses.asdict(read_config(folder))
    del config["name"]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in (WEIGHTS_FILE, TOKENIZER_FILE):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise FormatError(f"{folder}: not a whole model folder, {name} cannot be read") from error
    return digest.hexdigest()


def load_released(path: Path, sample_rate: int = 48000) -> Clara:
    """Read a Lightning checkpoint of the released CLARA code, strictly, in evaluation mode.

    `sample_rate` is the rate in Hz that the model was trained at, which the checkpoint does not say. Nothing but
    tensors and plain values is ever unpickled. Raises FormatError, naming it, for a tensor that is missing, extra or
    of another shape.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FormatError(f"{path}: not a checkpoint of tensors and plain values ({reason})") from error
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict"} <= set(checkpoint):
        raise FormatError(f"{path}: not a CLARA checkpoint, it has no hyper_parameters or no state_dict")
    model = Clara(_released_config(checkpoint["hyper_parameters"], path, sample_rate))
    _fill(model, {_our_name(name): tensor for name, tensor in checkpoint["state_dict"].items()}, path)
    return model


def _fill(model: Clara, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = model.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in weights]
    problems += [f"{name} is unknown" for name in weights if name not in wanted]
    problems += [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
        for name, tensor in weights.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise FormatError(f"{path}: {'; '.join(problems[:3])}{more}")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.eval()


# Names of the released code, as patterns, and ours. Order matters: the first that matches is used.
_RELEASED_NAMES = [
    (r"model\.audio_tempeture", "audio_log_scale"),
    (r"model\.text_tempeture", "text_log_scale"),
    (r"model\.text_encoder\.transformer_encoder\.transformer_encoder\.(.*)", r"text.layers.\1"),
    (r"model\.text_encoder\.transformer_encoder\.project\.(.*)", r"text.out.\1"),
    (r"model\.text_encoder\.ln\.(.*)", r"text.out_norm.\1"),
    (r"model\.text_embedding\.(.*)", r"text.tokens.\1"),
    (r"model\.text_positional_embedding\.(.*)", r"text.positions.\1"),
    (r"model\.audio_positional_embedding\.(.*)", r"audio.positions.\1"),
    (r"model\.(text|audio)_layer_norm\.(.*)", r"\1.norm.\2"),
    (r"model\.(text|audio)_fc1\.(.*)", r"\1.output.\2"),
    (r"model\.(text|audio)_transform\.sequential\.0\.(.*)", r"\1_projection.\2"),
    (r"model\.conv1\.(.*)", r"audio.stem.convolutions.0.\1"),
    (r"model\.conv2\.(.*)", r"audio.stem.convolutions.1.\1"),
    (r"model\.audio_encoder\.latents", "audio.latents"),
]
_RELEASED_BLOCKS = [
    (r"model\.audio_encoder\.cross_attend_blocks\.(\d+)\.(.*)", "audio.cross"),
    (r"model\.audio_encoder\.layers\.(\d+)\.(\d+)\.(.*)", "audio.layers.{0}"),
]
_BLOCK_PARTS = {  # by place in the block: attention, then feed-forward
    "0": {"fn.": "attention.", "norm.": "attention_norm.", "norm_context.": "context_norm."},
    "1": {"fn.net.0.": "feed_forward.expand.", "fn.net.2.": "feed_forward.contract.", "norm.": "feed_forward_norm."},
}


def _our_name(released: str) -> str:
    for pattern, replacement in _RELEASED_NAMES:
        if match := re.fullmatch(pattern, released):
            return match.expand(replacement)
    for pattern, block in _RELEASED_BLOCKS:
        if match := re.fullmatch(pattern, released):
            *_, place, rest = groups = match.groups()
            for theirs, ours in _BLOCK_PARTS.get(place, {}).items():
                if rest.startswith(theirs):
                    return f"{block.format(*groups)}.{ours}{rest.removeprefix(theirs)}"
    return released


def _released_config(parameters: Mapping[str, Any], path: Path, sample_rate: int) -> ClaraConfig:
    try:
        if parameters["audio_encoder_weight_tie_layers"]:
            raise FormatError(f"{path}: tied layers are not supported")
        values = {
            "name": path.stem,
            "dim": parameters["output_dim"],
            "mel": {"sample_rate": sample_rate, "n_mels": parameters["n_mels"]},
            "audio": {
                "width": parameters["audio_encoder_embedding"],
                "max_positions": parameters["audio_encoder_pos_embedding_size"],
                "latents": parameters["audio_encoder_num_latents"],
                "latent_dim": parameters["audio_encoder_latent_dim"],
                "cross_heads": parameters["audio_encoder_cross_heads"],
                "cross_head_dim": parameters["audio_encoder_cross_dim_head"],
                "latent_layers": parameters["audio_encoder_layers"],
                "latent_heads": parameters["audio_encoder_latent_heads"],
                "latent_head_dim": parameters["audio_encoder_latent_dim_head"],
                "hidden": parameters["audio_encoder_project"],
            },
            "text": {
                "vocab_size": parameters["vocab_size"],
                "max_positions": parameters["text_encoder_pos_embedding_size"],
                "width": parameters["text_encoder_embedding"],
                "layers": parameters["text_encoder_layers"],
                "heads": parameters["text_encoder_heads"],
                "out": parameters["text_encoder_out_channels"],
                "hidden": parameters["text_encoder_project"],
            },
        }
    except KeyError as error:
        raise FormatError(f"{path}: its hyper_parameters lack {error}") from error
    return from_mapping(ClaraConfig, values, str(path))
