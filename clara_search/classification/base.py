"""Classifications, and what all classifiers share: from scores to labels, thresholds and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np

from clara_search.audio.windows import Window
from clara_search.classification.calibration import Floats
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings

SCORE_DECIMALS = 6
MULTI_LABEL_THRESHOLD = 0.5
"""Where any number of labels may be right: those that are more likely right than wrong are given."""

_NOISE = 4 * float(np.finfo(np.float32).eps)
"""Relative differences that are those of single precision: such scores are equal."""


@dataclass(frozen=True)
class Classification:
    """A window of a recording and its label.

    Attributes:
        uri: Path or URL of the recording.
        start_s: Start of the window in seconds.
        end_s: End of the window in seconds.
        label: The label of the highest score; None where its probability is below the classifier's threshold, and
            where no score is a number.
        score: The highest score.
        scores: The score of each label: cosines with prompts, or probabilities.
        probability: Probability of that label; None where it is not known.
        labels: Where any number of labels may be right, all of enough probability, best first; otherwise None.
    """

    uri: str
    start_s: float
    end_s: float
    label: str | None
    score: float
    scores: dict[str, float]
    probability: float | None = None
    labels: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as `classify --json` prints them, without those of the last two that do not apply."""
        values = asdict(self)
        return {name: x for name, x in values.items() if x is not None or name not in ("probability", "labels")}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a window that is to be classified, beside its vector.

    Attributes:
        uri: Path or URL of the recording.
        window: The window.
        text: The transcript, where one is known.
        id: Id of its row, for a row of a table.
    """

    uri: str
    window: Window
    text: str | None = None
    id: str | None = None


class Classifier(Protocol):
    """A classifier of embeddings. An implementation has the attributes and `score`; it inherits the rest.

    Attributes:
        labels: The labels to choose from.
        min_probability: Probability below which no label is given; None: one is always given, or where any number of
            labels may be right, those that are more likely right than wrong.
    """

    labels: Sequence[str]
    min_probability: float | None

    @property
    def needs_text(self) -> bool:
        """Whether `score` needs the transcript of each recording."""
        return False

    @property
    def has_probabilities(self) -> bool:
        """Whether scores are probabilities."""
        return True

    @property
    def is_multi_label(self) -> bool:
        """Whether any number of labels may be right at once: scores are then probabilities, independent of another."""
        return False

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Score the labels.

        Args:
            vectors: Unit vectors, shape (n, dim).
            texts: The transcripts, n of them; "" where none is known.

        Returns:
            Scores, shape (n, labels).
        """

    def score_windows(self, vectors: Embeddings, windows: Sequence[Recorded]) -> Embeddings:
        """Score the labels of windows of which more is known than their vectors; by default as `score` does.

        Args:
            vectors: Unit vectors, shape (n, dim).
            windows: The windows, n of them.

        Returns:
            Scores, shape (n, labels).
        """
        return self.score(vectors, [window.text or "" for window in windows])

    def probabilities(self, scores: Floats) -> Floats | None:
        """Return the probabilities that belong to scores.

        Args:
            scores: What `score` returned, shape (n, labels).

        Returns:
            Probabilities, shape (n, labels); None where they are not known.
        """
        return scores if self.has_probabilities else None

    def with_threshold(self, min_probability: float) -> Self:
        """Return a classifier that gives no label below a probability.

        Args:
            min_probability: The threshold, from 0 to 1.

        Returns:
            A classifier with the same scores.

        Raises:
            QueryError: The scores are cosines, of which no probabilities are known, or the threshold is none.
        """
        if not 0 <= min_probability <= 1:
            raise QueryError(f"the probability must be from 0 to 1, got {min_probability!r}")
        if self.probabilities(np.zeros((1, len(self.labels)))) is None:
            raise QueryError("cosines are no probabilities: calibrate them on labelled recordings to use a threshold")
        changed = copy(self)
        object.__setattr__(changed, "min_probability", min_probability)
        return changed

    def predict(self, uri: str, window: Window, vector: Embeddings, text: str | None = None) -> Classification:
        """Classify a window. Of equal scores the first label's wins.

        Args:
            uri: Path or URL of the recording.
            window: The window.
            vector: Its embedding, shape (dim,).
            text: The transcript, where one is known.

        Returns:
            The classification.

        Raises:
            QueryError: The classifier needs a transcript, and `text` is missing.
        """
        return self.predict_all([Recorded(uri, window, text)], vector[None])[0]

    def predict_all(self, windows: Sequence[Recorded], vectors: Embeddings) -> list[Classification]:
        """Classify windows. Of equal scores the first label's wins; the label is always that of the highest score.

        Args:
            windows: The windows.
            vectors: Their embeddings, shape (n, dim).

        Returns:
            A classification for each.

        Raises:
            QueryError: The classifier needs transcripts, and one is missing.
        """
        for window in windows:
            if self.needs_text and not (window.text or "").strip():
                raise QueryError(
                    f"{window.uri}: the head needs the transcript of a recording, and this one has no text"
                )
        if not windows:
            return []
        scores = np.asarray(self.score_windows(vectors, windows), dtype=np.float64)
        probabilities = self.probabilities(scores)
        rows = [None] * len(windows) if probabilities is None else list(probabilities)
        return [self._classification(*row) for row in zip(windows, scores, rows, strict=True)]

    def _classification(self, window: Recorded, scores: Floats, probabilities: Floats | None) -> Classification:
        best = _first_of_the_best(scores)
        probability = None if best is None or probabilities is None else _rounded(probabilities[best])
        label = None if best is None else self.labels[best]
        labels: tuple[str, ...] | None = None
        threshold = self.min_probability
        if self.is_multi_label:
            threshold = MULTI_LABEL_THRESHOLD if threshold is None else threshold
            order = np.argsort(-scores, kind="stable")
            labels = tuple(self.labels[number] for number in order if _rounded(scores[number]) >= threshold)
            label = labels[0] if labels else None
        elif probability is not None and threshold is not None and probability < threshold:
            label = None
        score = math.nan if best is None else _rounded(scores[best])
        by_label = dict(zip(self.labels, scores.round(SCORE_DECIMALS).tolist(), strict=True))
        return Classification(window.uri, *window.window, label, score, by_label, probability, labels)


def _rounded(score: float) -> float:
    return round(float(score), SCORE_DECIMALS)


def _first_of_the_best(scores: Floats) -> int | None:
    """Return the number of the first of the highest scores; None if one of them is not a number."""
    best = scores.max()
    if not np.isfinite(best):
        return None
    return int(np.flatnonzero(scores >= best - _NOISE * abs(best))[0])
