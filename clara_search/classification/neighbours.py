"""Classify by the labels of the nearest labelled rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clara_search.classification.base import Classifier, Recorded
from clara_search.classification.calibration import softmax
from clara_search.classification.head import NEIGHBOUR_SCALE
from clara_search.errors import EncoderMismatch, QueryError
from clara_search.models.base import Embeddings

DEFAULT_NEIGHBOURS = 10

_COSINES_A_BATCH = 1 << 24


@dataclass(frozen=True)
class Examples:
    """Labelled windows.

    Attributes:
        vectors: Unit vectors, shape (n, dim).
        labels: The labels of each, n of them; without any where none applies.
        uris: Path or URL of the recording of each.
        ids: Id of the row of each.
    """

    vectors: Embeddings = field(repr=False)
    labels: Sequence[tuple[str, ...]] = field(repr=False)
    uris: Sequence[str] = field(repr=False)
    ids: Sequence[str] = field(repr=False)


@dataclass(frozen=True)
class NeighbourClassifier(Classifier):
    """Scores labels by the votes of the nearest labelled windows; nearer ones have more weight.

    A window that is itself among the examples is classified by other recordings than its own: its label is known.

    Attributes:
        examples: The labelled windows.
        k: Number of neighbours.
        is_multi_label: Whether any number of labels may be right at once; otherwise each example has one.
        min_probability: Probability below which no label is given.

    Raises:
        QueryError: There are no labels, `k` is not at least 1, or an example of a single choice has several labels.
    """

    examples: Examples
    k: int = DEFAULT_NEIGHBOURS
    is_multi_label: bool = False
    min_probability: float | None = None
    labels: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted(set().union(*self.examples.labels))))
        if isinstance(self.k, bool) or not hasattr(self.k, "__index__") or self.k < 1:
            raise QueryError(f"the number of neighbours must be a whole number, at least 1, got {self.k!r}")
        if not self.labels:
            raise QueryError("no example has a label")
        if not self.is_multi_label and any(len(labels) != 1 for labels in self.examples.labels):
            raise QueryError("examples have several labels or none: let any number of labels be right")

    @cached_property
    def _targets(self) -> list[list[int]]:
        numbers = {label: number for number, label in enumerate(self.labels)}
        return [[numbers[label] for label in dict.fromkeys(labels)] for labels in self.examples.labels]

    @cached_property
    def _recordings(self) -> tuple[dict[str, int], npt.NDArray[np.int64]]:
        """The number of each recording of the examples, and that of the recording of each example."""
        numbers = dict[str, int]()
        return numbers, np.array([numbers.setdefault(uri, len(numbers)) for uri in self.examples.uris], dtype=np.int64)

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(self.examples.ids)

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Return the share of the votes of each label, shape (n, labels)."""
        return self._score(vectors, [-1] * len(vectors))

    def score_windows(self, vectors: Embeddings, windows: Sequence[Recorded]) -> Embeddings:
        """Return the share of the votes of each label, shape (n, labels); NaN for a window without a neighbour."""
        numbers, _ = self._recordings
        return self._score(vectors, [numbers[window.uri] if window.id in self._ids else -1 for window in windows])

    def _score(self, vectors: Embeddings, own: Sequence[int]) -> Embeddings:
        """Score vectors by all recordings but that of the number in `own`, -1 for none."""
        examples = self.examples.vectors
        if vectors.shape[1] != examples.shape[1]:
            raise EncoderMismatch(f"the examples have {examples.shape[1]} numbers, the vectors {vectors.shape[1]}")
        scores = np.zeros((len(vectors), len(self.labels)), dtype=np.float32)
        _, recordings = self._recordings
        step = max(1, _COSINES_A_BATCH // len(examples))
        k = min(int(self.k), len(examples))
        for start in range(0, len(vectors), step):
            cosines = vectors[start : start + step] @ examples.T
            for row, number in enumerate(own[start : start + step]):
                if number >= 0:
                    cosines[row, recordings == number] = -np.inf
            nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
            found = np.take_along_axis(cosines, nearest, axis=1)
            for row, (examples_of, near) in enumerate(zip(nearest, found, strict=True), start=start):
                scores[row] = self._votes(examples_of, near)
        return scores

    def _votes(self, examples: npt.NDArray[np.int64], cosines: Embeddings) -> Embeddings:
        """Return the share of the votes of each label, shape (labels,), of the nearest examples of one window."""
        votes = np.full(len(self.labels), np.nan, dtype=np.float32)
        is_other = cosines > -np.inf  # False also for what is not a number
        if not is_other.any() or np.isnan(cosines).any():
            return votes
        votes[:] = 0.0
        weights = softmax(cosines[is_other] * NEIGHBOUR_SCALE)
        for example, weight in zip(examples[is_other], weights, strict=True):
            votes[self._targets[example]] += weight
        return np.minimum(votes, np.float32(1.0))
