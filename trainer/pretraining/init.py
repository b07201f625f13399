"""What a run begins with: towers, weights and a tokenizer of other models, or new ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from clara_search.datasets.example import Example
from clara_search.errors import ConfigError
from clara_search.files.atomic import atomic_path
from clara_search.models.clara.checkpoint import TOKENIZER_FILE, load_model, read_weights
from clara_search.models.clara.config import ClaraConfig
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model
from clara_search.text.tokenizer import Tokenizer
from trainer.config.recipe import Recipe
from trainer.config.sections import TowersConfig
from trainer.phones.g2p import principal_bigrams
from trainer.pretraining.tokenizer import train_tokenizer

log = logging.getLogger(__name__)

Towers = Mapping[str, tuple[Clara, Tokenizer]]
"""The models whose towers a run takes, by "audio" and "text"."""


def load_towers(config: TowersConfig) -> Towers:
    """Load the models that `config` takes a tower of."""
    named = (("audio", config.audio), ("text", config.text))
    return {name: load_model(find_model(model)) for name, model in named if model}


def resolve_config(recipe: Recipe, towers: Towers) -> ClaraConfig:
    """Return the configuration of the model to train: that of the recipe, with the towers it takes from others.

    Raises ConfigError for towers of different dimensions, and for losses that ask for what is not there.
    """
    config = replace(recipe.model, name=recipe.name)
    for name, (model, _) in towers.items():
        if name == "audio":
            config = replace(config, mel=model.config.mel, audio=model.config.audio, dim=model.config.dim)
        else:
            config = replace(config, text=model.config.text, dim=model.config.dim)
    for name, (model, _) in towers.items():
        if model.config.dim != config.dim:
            raise ConfigError(f"the {name} tower has {model.config.dim} dimensions, the other {config.dim}")
    if (recipe.phones.weight or recipe.phones.text_weight) and config.phone_head is None:
        raise ConfigError("phones.weight asks for phones, and the model has none: name them in model.phone_head.phones")
    for name, place in (("teacher.text", recipe.teacher.text), ("captions.generator", recipe.captions.generator)):
        if place and not Path(place).is_dir():
            raise ConfigError(f"{name}: there is no folder {place}")
    if max(recipe.loss.prefixes, default=0) > config.dim:
        raise ConfigError(f"loss.prefixes holds {max(recipe.loss.prefixes)}, and the model has {config.dim} dimensions")
    return config


def init_weights(model: Clara, recipe: Recipe, towers: Towers, texts: Sequence[Sequence[int]] = ()) -> None:
    """Give `model` the weights that the recipe begins with.

    A matrix of phone pairs that comes from nowhere begins as the principal components of `texts`, phones by index.
    """
    taken: dict[str, torch.Tensor] = {}
    if recipe.towers.begin:
        wanted = model.state_dict()
        weights = read_weights(find_model(recipe.towers.begin))
        taken = {name: x.float() for name, x in weights.items() if name in wanted and x.shape == wanted[name].shape}
        left = sorted({name.rpartition(".")[0] for name in wanted if name not in taken})
        log.info("begins with %d tensors of %s; new: %s", len(taken), recipe.towers.begin, ", ".join(left) or "none")
    for name, (tower, _) in towers.items():
        taken |= {key: value for key, value in tower.state_dict().items() if key.startswith(name)}
    model.load_state_dict(taken, strict=False)
    if model.phone_head is not None and texts and "phone_head.bigram_projection.weight" not in taken:
        dim = model.config.dim
        with torch.no_grad():
            model.phone_head.bigram_projection.weight.copy_(principal_bigrams(texts, model.phone_head.num_phones, dim))


def first_tokenizer(recipe: Recipe, towers: Towers) -> Tokenizer | None:
    """Return the tokenizer that the recipe names or that comes with a model; None where it has to be learnt."""
    if "text" in towers:
        return towers["text"][1]
    path = Path(recipe.tokenizer.path) if recipe.tokenizer.path else None
    if path is None and recipe.towers.begin:
        path = find_model(recipe.towers.begin) / TOKENIZER_FILE
    return None if path is None else _fitting(Tokenizer.load(path), recipe, path)


def learn_tokenizer(recipe: Recipe, trained: Sequence[Example], path: Path | None) -> Tokenizer:
    """Return the tokenizer at `path`; where there is none, learn one from the texts that are `trained` on.

    It is kept at `path` for when the run goes on, or nowhere for None.
    """
    if path is not None and path.exists():
        return _fitting(Tokenizer.load(path), recipe, path)
    texts = sorted(text for example in trained for text in (example.text, *example.alternatives))
    learnt = train_tokenizer(texts, recipe.model.text.vocab_size, {example.text_language for example in trained})
    if path is None:
        return learnt
    with atomic_path(path) as partial:
        learnt.save(partial)
    return Tokenizer.load(path)


def _fitting(tokenizer: Tokenizer, recipe: Recipe, path: Path) -> Tokenizer:
    if tokenizer.vocab_size > recipe.model.text.vocab_size:
        raise ConfigError(f"{path}: has {tokenizer.vocab_size} tokens, the model {recipe.model.text.vocab_size}")
    return tokenizer
