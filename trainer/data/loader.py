"""Batches for training, prefetched by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from trainer.data.dataset import Batch, PairDataset
from trainer.data.sampler import LengthBucketSampler


class BatchLoader(DataLoader[Batch]):
    """The batches of `pairs` in the order of `sampler`, made by as many processes as the recipe says.

    Its state is how many batches of the epoch it has given away: Lightning keeps that in checkpoints, and a run that
    goes on begins behind them.
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
        self._order, self._given = sampler, 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._given = self._order.first
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the batches of it that were given away."""
        return {"epoch": self._order.epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind them."""
        self._order.start_at(state["epoch"], state["batches"])
