"""The mean of two models: `python -m trainer average`.

What was fine-tuned and what it began with lie close together; on the line between them lies a model that keeps what the
one knew and has what the other learnt (arXiv 2109.01903).
"""

from __future__ import annotations

from pathlib import Path

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.registry import find_model


def interpolate(first: str, second: str, share: float, folder: Path) -> None:
    """Write the model that lies `share` of the way from `first` to `second`, names or folders, to `folder`.

    Raises ConfigError for models of different configurations or tokenizers.
    """
    (model, tokenizer), (other, others) = load_model(find_model(first)), load_model(find_model(second))
    if model.config != other.config or tokenizer.vocab_size != others.vocab_size:
        raise ConfigError(f"{first} and {second} are not of one kind: they have no mean")
    reached = other.state_dict()
    mean = {name: weights.lerp(reached[name], share) for name, weights in model.state_dict().items()}
    model.load_state_dict(mean)
    save_model(folder, model, tokenizer, card="")
