"""Batch sampler: recordings of similar length together, the same order for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from trainer.data.corpus import Corpus

BatchAddress = tuple[int, list[tuple[int, int]]]
"""A batch: the epoch, and for each pair its number in the corpus and the number of its draw in the epoch."""


class LengthBucketSampler(Sampler[BatchAddress]):
    """Batches of recordings of similar length, in an order of their own each epoch, the same for the same seed.

    An epoch draws each recording as often as `weights` says. Of a batch of `batch_size`, process `rank` of `world` is
    given its share. `start_at` lets an epoch begin behind the batches that were trained on before a run stopped.
    """

    def __init__(
        self,
        corpus: Corpus,
        indices: Sequence[int],
        batch_size: int,
        seed: int,
        shuffle: bool,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.indices, self.batch_size, self.seed, self.shuffle = np.array(indices, dtype=int), batch_size, seed, shuffle
        self.weights = np.ones(len(indices)) if weights is None else np.array(weights)
        self.durations = np.array([corpus.duration_s(index) for index in range(len(corpus))])
        self.rank, self.world = rank, world
        self.epoch, self._start = 0, (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`; Lightning calls it before each."""
        self.epoch = epoch

    def start_at(self, epoch: int, batches: int) -> None:
        """Go to `epoch` and leave out its first `batches`, which were trained on before."""
        self.epoch, self._start = epoch, (epoch, batches)

    @property
    def first(self) -> int:
        """How many batches of the epoch are left out."""
        return self._start[1] if self._start[0] == self.epoch else 0

    def __len__(self) -> int:
        whole, rest = divmod(self._drawn(), self.batch_size)
        return whole if self.shuffle else whole + (rest > 0)

    def __iter__(self) -> Iterator[BatchAddress]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = self._draws(rng)
        jitter = rng.uniform(0.5, 2.0, len(drawn)) if self.shuffle else 1.0
        order = np.argsort(self.durations[drawn] * jitter, kind="stable")
        starts = np.arange(0, len(order), self.batch_size)
        if self.shuffle:
            # A random remainder is left out, not always the longest recordings.
            order = np.delete(order, rng.choice(len(order), len(order) - len(self) * self.batch_size, replace=False))
            starts = rng.permutation(len(self)) * self.batch_size
        for start in starts[self.first :]:
            batch = order[start : start + self.batch_size][self.rank :: self.world]
            yield self.epoch, [(int(drawn[draw]), int(draw)) for draw in batch]

    def _drawn(self) -> int:
        weights, counts = np.unique(self.weights, return_counts=True)
        return sum(round(weight * count) for weight, count in zip(weights.tolist(), counts.tolist(), strict=True))

    def _draws(self, rng: np.random.Generator) -> npt.NDArray[np.int_]:
        """Return recordings, each as often as its weight says: what is left of a whole number is drawn by chance."""
        parts = []
        for weight in np.unique(self.weights).tolist():
            members = self.indices[self.weights == weight]
            times = int(weight)
            spare = round(weight * len(members)) - times * len(members)
            parts += [members] * times + [np.sort(rng.choice(members, spare, replace=False))]
        return np.concatenate(parts)


def sampling_weights(corpus: Corpus, indices: Sequence[int], weights: dict[str, float]) -> list[float]:
    """Return how often an epoch has each of `indices`, by its source times by its kind."""
    examples = (corpus.examples[index] for index in indices)
    return [weights.get(example.source, 1.0) * weights.get(example.kind, 1.0) for example in examples]
