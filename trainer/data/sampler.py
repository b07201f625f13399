"""Batch sampler: recordings of similar length together, in the same order for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from trainer.data.corpus import Corpus

BatchAddress = tuple[int, list[tuple[int, int]]]
"""A batch: the epoch, and for each pair its number in the corpus and the number of its draw in the epoch."""


class LengthBucketSampler(Sampler[BatchAddress]):
    """Batches of recordings of similar length, in another order each epoch, the same for the same seed.

    Args:
        corpus: all recordings.
        indices: recordings to sample.
        batch_size: over all processes.
        seed: of the order.
        shuffle: whether the order is random; if so, a random remainder of less than a batch is left out.
        weights: how often an epoch samples each of `indices`; once by default.
        rank: of this process, which gets its share of each batch.
        world: number of processes.
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
        """Set the epoch; Lightning calls it before each."""
        self.epoch = epoch

    def start_at(self, epoch: int, batches: int) -> None:
        """Set the epoch and skip its first `batches`, which were trained on before."""
        self.epoch, self._start = epoch, (epoch, batches)

    @property
    def first(self) -> int:
        """Number of batches of the epoch that are skipped."""
        return self._start[1] if self._start[0] == self.epoch else 0

    def __len__(self) -> int:
        full, remainder = divmod(self._num_draws(), self.batch_size)
        return full if self.shuffle else full + (remainder > 0)

    def __iter__(self) -> Iterator[BatchAddress]:
        rng = np.random.default_rng((self.seed, self.epoch))
        draws = self._draws(rng)
        jitter = rng.uniform(0.5, 2.0, len(draws)) if self.shuffle else 1.0
        order = np.argsort(self.durations[draws] * jitter, kind="stable")
        starts = np.arange(0, len(order), self.batch_size)
        if self.shuffle:
            # The remainder is random: cutting off the end would always lose the longest recordings.
            order = np.delete(order, rng.choice(len(order), len(order) - len(self) * self.batch_size, replace=False))
            starts = rng.permutation(len(self)) * self.batch_size
        for start in starts[self.first :]:
            batch = order[start : start + self.batch_size][self.rank :: self.world]
            yield self.epoch, [(int(draws[number]), int(number)) for number in batch]

    def _num_draws(self) -> int:
        weights, counts = np.unique(self.weights, return_counts=True)
        return sum(round(weight * count) for weight, count in zip(weights.tolist(), counts.tolist(), strict=True))

    def _draws(self, rng: np.random.Generator) -> npt.NDArray[np.int_]:
        """Return recordings repeated by their weights; the fractional part of a weight is sampled at random."""
        parts = []
        for weight in np.unique(self.weights).tolist():
            members = self.indices[self.weights == weight]
            repeats = int(weight)
            remainder = round(weight * len(members)) - repeats * len(members)
            parts += [members] * repeats + [np.sort(rng.choice(members, remainder, replace=False))]
        return np.concatenate(parts)


def sampling_weights(corpus: Corpus, indices: Sequence[int], weights: dict[str, float]) -> list[float]:
    """Return how often an epoch samples each of `indices`: the weight of its source times that of its kind."""
    examples = (corpus.examples[index] for index in indices)
    return [weights.get(example.source, 1.0) * weights.get(example.kind, 1.0) for example in examples]
