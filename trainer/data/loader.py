"""Batches for training, prefetched by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from trainer.data.dataset import Batch, PairDataset
from trainer.data.sampler import LengthBucketSampler


class BatchLoader(DataLoader[Batch]):
    """The batches of `pairs` in the order of `sampler`, from `data.workers` processes.

    Its state, the number of batches that an epoch has yielded, is stored in checkpoints by Lightning: a resumed run
    skips these batches.
    """

    def __init__(self, pairs: PairDataset, sampler: LengthBucketSampler) -> None:
        workers = pairs.recipe.data.workers if pairs.training else 0
        if workers:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
        super().__init__(
            pairs,
            sampler=sampler,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self._sampler, self._yielded = sampler, 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._yielded = self._sampler.first
        for batch in super().__iter__():
            self._yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were yielded."""
        return {"epoch": self._sampler.epoch, "batches": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip these batches."""
        self._sampler.start_at(state["epoch"], state["batches"])
