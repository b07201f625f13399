"""Interpolation of the weights of two models.

A fine-tuned model and the one that it started from lie close together; a model on the line between them keeps much of
what either is good at (WiSE-FT, arXiv 2109.01903).
"""

from __future__ import annotations

from pathlib import Path

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import copy_optional_files, load_model, save_model
from clara_search.models.registry import find_model


def interpolate(first: str, second: str, weight: float, folder: Path) -> None:
    """Write the weighted mean of two models.

    Args:
        first: name or folder of a model, which has the weight 1 - `weight`.
        second: name or folder of another.
        weight: of the second model, from 0 to 1.
        folder: model folder to write, with the tokenizer of the first, and its sound head and pronunciation rules.

    Raises:
        ConfigError: the models have different configurations or tokenizers.
    """
    source = find_model(first)
    model, tokenizer = load_model(source)
    other, other_tokenizer = load_model(find_model(second))
    if model.config != other.config or tokenizer.vocab_size != other_tokenizer.vocab_size:
        raise ConfigError(f"cannot interpolate {first} and {second}: their configurations or tokenizers differ")
    target = other.state_dict()
    model.load_state_dict({name: tensor.lerp(target[name], weight) for name, tensor in model.state_dict().items()})
    save_model(folder, model, tokenizer, card="")
    copy_optional_files(source, folder)
