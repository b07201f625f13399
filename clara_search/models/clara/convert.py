"""The released CLARA models: configurations of their three sizes, and conversion of their Lightning checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clara_search.config import from_file
from clara_search.errors import FormatError, OutputError
from clara_search.models.clara.checkpoint import WEIGHTS_FILE, assemble, save_model
from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.released_names import name_of_released
from clara_search.models.clara.released_tokenizer import (
    FIRST_ADDED_TOKEN,
    RELEASED_TRANSFORMERS_VERSION,
    TransformersVersion,
    released_tokenizer,
)
from clara_search.models.clara.towers import Clara
from clara_search.models.folder import hash_file
from clara_search.models.state_dict import unwrap
from clara_search.models.stored.pickled import read_checkpoint

RELEASED_SAMPLE_RATE = 48000
"""Sample rate in Hz of the recordings that the released models were trained on; a checkpoint does not state it."""

TRAINING_SOURCES = tuple(
    "EMNS EmoV-DB CREMA-D RAVDESS MSWC Clotho AudioCaps AudioSet ESC-50 UrbanSound8K FSD50K VGGSound".split()
)
"""Datasets that the released models were trained on, among others."""

PRESETS: dict[str, ClaraConfig] = {
    "clara-60m": ClaraConfig(
        "clara-60m",
        audio=AudioTowerConfig(cross_heads=1, latent_layers=5, latent_heads=8),
        text=TextTowerConfig(layers=5, heads=4),
    ),
    "clara-100m": ClaraConfig("clara-100m"),
    "clara-600m": ClaraConfig(
        "clara-600m",
        audio=AudioTowerConfig(cross_heads=8, latent_layers=64, latent_heads=32),
        text=TextTowerConfig(layers=64, heads=32),
    ),
}
"""The released configurations: `pl_clara_60M.yaml`, `pl_clara_100M.yaml` (clara-medium) and `pl_clara_600M.yaml`."""


def convert(
    path: Path,
    folder: Path,
    vocabulary: Path | None = None,
    sample_rate: int = RELEASED_SAMPLE_RATE,
    name: str | None = None,
    dtype: torch.dtype = torch.float32,
    transformers_version: TransformersVersion = RELEASED_TRANSFORMERS_VERSION,
) -> Clara:
    """Convert a released checkpoint to a model folder.

    Args:
        path: The Lightning checkpoint.
        folder: The model folder to write; a model in it is replaced.
        vocabulary: As in `released_tokenizer`.
        sample_rate: Sample rate in Hz that the model was trained at.
        name: Name of the model; None: that of the checkpoint file.
        dtype: Type in which weights are stored.
        transformers_version: As in `released_tokenizer`; the folder's `tokenizer.json` has the resulting merges.

    Returns:
        The model.

    Raises:
        SourceError: The checkpoint or the vocabulary is missing.
        FormatError: The checkpoint is broken or not CLARA's, or the vocabulary does not fit it.
        OutputError: The folder cannot be written, or holds other files.
    """
    model = load_released(path, sample_rate)
    model.config = replace(model.config, name=name or path.stem)
    tokenizer = released_tokenizer(vocabulary, transformers_version)
    if tokenizer.vocab_size > model.config.text.vocab_size:
        raise FormatError(
            f"{path}: has embeddings for {model.config.text.vocab_size} tokens, but CLARA's tokenizer has "
            f"{tokenizer.vocab_size}: the model was not trained with it"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / WEIGHTS_FILE).is_file():
        raise OutputError(f"{folder}: holds other files and no model: choose an empty folder")
    save_model(folder, model, tokenizer, _card(model, path, transformers_version), dtype)
    return model


def load_released(path: Path, sample_rate: int = RELEASED_SAMPLE_RATE) -> Clara:
    """Load a Lightning checkpoint of the released CLARA code, strictly.

    Only tensors and plain values are unpickled. Prefixes that DistributedDataParallel, torch.compile and the like add
    to names are stripped, which is logged.

    Args:
        path: The checkpoint.
        sample_rate: Sample rate in Hz that the model was trained at, which the checkpoint does not state.

    Returns:
        The model, in evaluation mode, float32.

    Raises:
        SourceError: There is no such file.
        FormatError: It is broken, the checkpoint of a probe, or has a tensor that is missing, unknown or of another
            shape; the message names it.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict"} <= set(checkpoint):
        raise FormatError(f"{path}: not a CLARA checkpoint, it has no hyper_parameters or no state_dict")
    parameters, state = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    if not isinstance(parameters, Mapping) or not isinstance(state, Mapping):
        raise FormatError(f"{path}: not a CLARA checkpoint, hyper_parameters or state_dict is not a mapping")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise FormatError(f"{path}: {name} is not a tensor")
    _refuse_probe(parameters, state, path)
    state = {str(name): tensor for name, tensor in state.items()}
    weights = unwrap(state, path, roots=("model",), usual="model.", rename=name_of_released)
    return assemble(_released_config(parameters, path, sample_rate), weights, path)


def _released_config(parameters: Mapping[str, Any], path: Path, sample_rate: int) -> ClaraConfig:
    try:
        if parameters["audio_encoder_weight_tie_layers"] is not False:
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
                "proj_dim": parameters["text_encoder_out_channels"],
                "hidden": parameters["text_encoder_project"],
            },
        }
    except KeyError as error:
        raise FormatError(f"{path}: its hyper_parameters lack {error}") from error
    return from_file(ClaraConfig, values, path)


def _refuse_probe(parameters: Mapping[str, Any], state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise FormatError for a checkpoint of `LinearProbeCLARA`, which lacks the hyper-parameters of its base."""
    base = parameters.get("clara_checkpoint_path")
    names = list(map(str, state))
    if base is None and not any("feature_extractor" in name.split(".")[:-1] for name in names):
        return
    head = [tensor for name, tensor in state.items() if "classifier" in str(name).split(".")]
    shapes = [tensor.shape for tensor in head if tensor.ndim == 2]
    sizes = [*(str(shape[1]) for shape in shapes[:1]), *(str(shape[0]) for shape in shapes)]
    raise FormatError(
        f"{path}: the checkpoint of a probe: convert its base, {base or 'the checkpoint it was trained on'}; its "
        f"classifier ({' -> '.join(sizes) or 'missing'}) is not converted: train one on the converted base with "
        "python -m trainer probe"
    )


def _card(model: Clara, path: Path, transformers_version: TransformersVersion) -> str:
    digest = hashlib.sha256()
    hash_file(digest, path)
    config = model.config
    sources = "\n".join(f"- {source}" for source in TRAINING_SOURCES)
    size = next((name for name, preset in PRESETS.items() if _same_size(preset, config)), "none of the released")
    return f"""---
library_name: clara-search
pipeline_tag: feature-extraction
tags: [audio, text, retrieval, CLARA]
training_sources:
{sources}
---
# {config.name}

A released CLARA checkpoint (arXiv 2310.11830), converted to a model folder of clara-search. The weights are the same,
and so are the vectors that the released code gives for an unbatched clip or text.

- Checkpoint: `{path.name}`, SHA-256 `{digest.hexdigest()}`
- Size: {size}, {sum(p.numel() for p in model.parameters()):,} parameters, vectors of {config.dim}
- Audio: mono at {config.mel.sample_rate} Hz, {config.mel.n_mels} mel bands
- Tokens: Whisper's multilingual byte pairs and CLARA's {config.text.vocab_size - FIRST_ADDED_TOKEN} added tokens,
  as under transformers {transformers_version}

## Licence

The checkpoint states none. The code it was released with is under Apache-2.0, Whisper's vocabulary under MIT.

## Scores

None were measured here. CLARA was trained on {", ".join(TRAINING_SOURCES[:-1])} and
{TRAINING_SOURCES[-1]}, among others: scores on these are not scores on unseen data.

## Limits

The checkpoint does not state the sample rate of its training; {config.mel.sample_rate} Hz was assumed. A recording
longer than the position table is embedded in chunks, whose vectors are averaged.
"""


def _same_size(preset: ClaraConfig, config: ClaraConfig) -> bool:
    return (preset.dim, preset.audio, preset.text) == (config.dim, config.audio, config.text)
