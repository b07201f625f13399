"""Initial weights and tokenizer of a run: those of another model, or new ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clara_search.datasets.example import Example
from clara_search.errors import ConfigError
from clara_search.files.atomic import atomic_path
from clara_search.models.clara.checkpoint import TOKENIZER_FILE, read_weights
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model
from clara_search.models.state_dict import summarize
from clara_search.text.tokenizer import Tokenizer
from trainer.config.recipe import Recipe
from trainer.losses.auxiliary import auxiliary_classes
from trainer.phones.g2p import principal_bigrams
from trainer.pretraining.tokenizer import train_tokenizer

log = logging.getLogger(__name__)


def resolve_recipe(recipe: Recipe) -> Recipe:
    """Return `recipe` with its model under its own name.

    Raises ConfigError for settings that need something that the model or this machine does not have.
    """
    for loss in auxiliary_classes(recipe):
        loss.check(recipe)
    generator = recipe.captions.generator
    if generator and not Path(generator).is_dir():
        raise ConfigError(f"captions.generator: no folder {generator}")
    largest = max(recipe.loss.matryoshka_dims, default=0)
    if largest > recipe.model.dim:
        raise ConfigError(f"loss.matryoshka_dims holds {largest}, but the model has {recipe.model.dim} dimensions")
    return replace(recipe, model=replace(recipe.model, name=recipe.name))


def init_weights(model: Clara, recipe: Recipe, texts: Sequence[Sequence[int]] = ()) -> None:
    """Load the weights of `init.from` into `model`, all but the modules of `init.new`.

    A new bigram projection is initialised with the principal components of `texts` (phones by index).

    Raises:
        ConfigError: naming the tensors, if a weight is missing, left over or of another shape.
    """
    loaded: Mapping[str, Tensor] = {}
    if recipe.init.from_:
        weights = read_weights(find_model(recipe.init.from_))
        loaded = _matching(model.state_dict(), weights, recipe.init.new, recipe.init.from_)
        model.load_state_dict(loaded, strict=False)
        log.info("starts from %d of the %d tensors of %s", len(loaded), len(weights), recipe.init.from_)
    if model.phone_head is not None and texts and "phone_head.bigram_projection.weight" not in loaded:
        with torch.no_grad():
            model.phone_head.bigram_projection.weight.copy_(
                principal_bigrams(texts, model.phone_head.num_phones, model.config.dim)
            )


def _matching(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], new: Sequence[str], source: str
) -> dict[str, Tensor]:
    """Return the `weights` of all modules but the `new` ones, as float32."""
    for module in new:
        if not any(_belongs(name, [module]) for name in (*expected, *weights)):
            raise ConfigError(f"init.new: neither the model nor {source} has a module {module!r}")
    missing = [f"{name} is missing" for name in expected if name not in weights and not _belongs(name, new)]
    kept = {name: tensor.float() for name, tensor in weights.items() if not _belongs(name, new)}
    unknown = [f"{name} is unknown" for name in kept if name not in expected]
    misshapen = [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in kept.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if missing or unknown or misshapen:
        raise ConfigError(
            f"init.from: the weights of {source} do not fit the model of the recipe: "
            f"{summarize(missing, unknown, misshapen)}; name modules to initialise anew in init.new"
        )
    return kept


def _belongs(name: str, modules: Sequence[str]) -> bool:
    """Return whether a tensor is, or is in, one of `modules`."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def load_tokenizer(recipe: Recipe) -> Tokenizer | None:
    """Return the tokenizer of `tokenizer.path`, or else of `init.from`; None if one has to be trained.

    The tokenizer of `init.from` is not taken if the text tower's token embeddings are new.
    """
    path = Path(recipe.tokenizer.path) if recipe.tokenizer.path else None
    if path is None and recipe.init.from_ and not _belongs("text.tokens.weight", recipe.init.new):
        path = find_model(recipe.init.from_) / TOKENIZER_FILE
    return None if path is None else _check_size(Tokenizer.load(path), recipe, path)


def load_or_train_tokenizer(recipe: Recipe, train: Sequence[Example], path: Path | None) -> Tokenizer:
    """Return the tokenizer at `path`, or train one on the texts of `train` and store it there; None stores nothing."""
    if path is not None and path.exists():
        return _check_size(Tokenizer.load(path), recipe, path)
    texts = sorted(text for example in train for text in (example.text, *example.alternatives))
    languages = {example.text_language for example in train}
    tokenizer = train_tokenizer(texts, recipe.model.text.vocab_size, languages)
    if path is None:
        return tokenizer
    with atomic_path(path) as partial:
        tokenizer.save(partial)
    return Tokenizer.load(path)


def _check_size(tokenizer: Tokenizer, recipe: Recipe, path: Path) -> Tokenizer:
    if tokenizer.vocab_size > recipe.model.text.vocab_size:
        raise ConfigError(f"{path}: has {tokenizer.vocab_size} tokens, the model {recipe.model.text.vocab_size}")
    return tokenizer
