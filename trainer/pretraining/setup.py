"""Everything that a training run needs before its first step: recordings, splits, tokenizer, model, batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from clara_search.datasets.example import Example
from clara_search.errors import ConfigError, SourceError
from clara_search.files.atomic import make_folder
from clara_search.text.tokenizer import Tokenizer
from trainer.config.evaluation import load_evaluation
from trainer.config.recipe import Recipe
from trainer.config.sections import DataConfig
from trainer.data.corpus import Corpus, load_corpus
from trainer.data.dataset import PairDataset
from trainer.data.loader import BatchLoader
from trainer.data.sampler import LengthBucketSampler, sampling_weights
from trainer.data.splits import Splits, split_corpus
from trainer.losses.auxiliary import AuxiliaryLoss, LossContext, create_auxiliary_losses
from trainer.phones.g2p import PhoneTargets
from trainer.pretraining.init import init_weights, load_or_train_tokenizer, load_tokenizer, resolve_recipe
from trainer.pretraining.module import Pretraining
from trainer.pretraining.validation import ValidationCaptions
from trainer.runtime.folder import check_recipe_unchanged

log = logging.getLogger(__name__)

_VALIDATION_BATCH = 128


@dataclass(frozen=True)
class RunSetup:
    """A training run before its first step.

    Attributes:
        recipe: with the model's configuration resolved.
        corpus: all recordings.
        splits: which of them are trained on, validated on and tested on.
        tokenizer: of the model.
        module: the model with its losses.
        auxiliary: the auxiliary losses, which are sources of targets too.
        phones: phones of the training transcripts; None for a model without a phone head.
    """

    recipe: Recipe
    corpus: Corpus
    splits: Splits
    tokenizer: Tokenizer
    module: Pretraining
    auxiliary: Sequence[AuxiliaryLoss[Any]]
    phones: PhoneTargets | None


def set_up(recipe: Recipe, run: Path, dry_run: bool = False) -> RunSetup:
    """List and split the recordings, load or train the tokenizer, and build the model.

    Decoded recordings are cached in the folder `cache` beside `run`.

    Args:
        recipe: of the run.
        run: folder of the run.
        dry_run: write nothing to `run`, and leave out the auxiliary losses that need a teacher.

    Returns:
        All parts of the run.

    Raises:
        ConfigError: settings contradict each other, or `run` was started with others.
        SourceError: there is nothing to train on.
    """
    if not recipe.data.sources:
        raise ConfigError("nothing to train on: name shards or manifests with `data`, or as data.sources")
    recipe = resolve_recipe(recipe)
    cache = make_folder(run.parent / "cache")
    data = recipe.data
    rate = recipe.model.mel.sample_rate
    corpus = load_corpus(data.sources, rate, cache, data.cache_decoded, data.manifest_columns)
    with corpus.locked():  # the first of several processes does it, the others find it done
        tokenizer_path = None if dry_run else run / "tokenizer.json"
        if tokenizer_path is not None:
            check_recipe_unchanged(run, recipe, tokenizer_path)
        splits = _split(recipe, corpus)
        train = [corpus.examples[index] for index in splits.train]
        tokenizer = load_tokenizer(recipe) or load_or_train_tokenizer(recipe, train, tokenizer_path)
        phone_head = recipe.model.phone_head
        phones = PhoneTargets(train, phone_head.phones) if phone_head else None
        auxiliary = create_auxiliary_losses(LossContext(recipe, corpus, train, phones), dry_run)
    module = Pretraining(recipe, auxiliary, [example.key for example in corpus.examples])
    positions = recipe.model.text.max_positions
    module.validated = ValidationCaptions(corpus, splits.valid, tokenizer, positions)
    init_weights(module.model, recipe, phones.all() if phones else [])
    if recipe.init.from_:
        module.loss.load_logit_scales(module.model.audio_logit_scale, module.model.text_logit_scale)
    return RunSetup(recipe, corpus, splits, tokenizer, module, auxiliary, phones)


def _split(recipe: Recipe, corpus: Corpus) -> Splits:
    """Return the splits of `corpus`; training and validation must not be empty."""
    splits = split_corpus(corpus, recipe.data, load_evaluation(recipe.evaluation).digits)
    for name, indices in (("train", splits.train), ("valid", splits.valid)):
        if not indices:
            raise SourceError(f"none of the {len(corpus)} recordings is in the {name} split")
    _warn_of_unused_weights(recipe.data, [corpus.examples[index] for index in splits.train])
    log.info("%d recordings: %d train, %d valid", len(corpus), len(splits.train), len(splits.valid))
    return splits


def _warn_of_unused_weights(config: DataConfig, train: Sequence[Example]) -> None:
    known = {name for example in train for name in (example.source, example.kind)}
    if unused := sorted(config.weights.keys() - known):
        log.warning("data.weights: no training recording has the source or kind %s", ", ".join(unused))


class Loaders(pl.LightningDataModule):
    """The batches of a run, for each of its processes."""

    def __init__(self, setup: RunSetup) -> None:
        super().__init__()
        self.run_setup = setup

    def train_dataloader(self) -> BatchLoader:
        """Return this process's share of the training batches."""
        return BatchLoader(self._pairs(self.run_setup.splits.train, training=True), self.sampler())

    def val_dataloader(self) -> BatchLoader:
        """Return this process's share of the validation batches."""
        corpus, valid = self.run_setup.corpus, self.run_setup.splits.valid
        sampler = LengthBucketSampler(
            corpus, valid, _VALIDATION_BATCH, 0, shuffle=False, rank=self._rank, world=self._world
        )
        return BatchLoader(self._pairs(valid, training=False), sampler)

    def sampler(self) -> LengthBucketSampler:
        """Return the sampler of the training batches.

        Raises ConfigError for a batch size that the processes cannot share, SourceError for less than a batch.
        """
        recipe, corpus, train = self.run_setup.recipe, self.run_setup.corpus, self.run_setup.splits.train
        size = recipe.data.batch_size
        if size % self._world:
            raise ConfigError(f"data.batch_size {size} cannot be divided by {self._world} processes")
        weights = sampling_weights(corpus, train, recipe.data.weights)
        sampler = LengthBucketSampler(corpus, train, size, recipe.seed, True, weights, self._rank, self._world)
        if len(sampler) == 0:
            raise SourceError(f"{len(train)} recordings to train on do not fill a batch of {size}")
        return sampler

    def _pairs(self, indices: list[int], training: bool) -> PairDataset:
        run = self.run_setup
        targets = run.auxiliary if training else ()
        return PairDataset(run.corpus, indices, run.recipe, run.tokenizer, training, targets)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1
