"""The probability that a label matches a row, by the calibration that the table's searches have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clara_search.classification.calibration import Floats
from clara_search.models.base import Embeddings, Encoder
from clara_search.retrieval.calibration.judge import Judge
from clara_search.retrieval.calibration.model import Calibration
from clara_search.retrieval.searcher import Searcher

_ROWS_PER_BATCH = 4096


def match_probabilities(
    searchers: Sequence[Searcher], encoder: Callable[[], Encoder], classes: Embeddings
) -> Callable[[Floats], Floats] | None:
    """Return what turns cosines of labels into probabilities of a match, each independent of the other labels.

    A label is what a query by its text is: a row has the probability that it would have as a hit.

    Args:
        searchers: The tables; the first calibrates.
        encoder: Returns their encoder.
        classes: A unit vector for each label, shape (labels, dim).

    Returns:
        A function of cosines, shape (n, labels); None for a table that is too small to be calibrated.
    """
    calibration = Judge(searchers[0], encoder).calibration(searchers[0].snapshot(), "text-audio")
    if calibration is None:
        return None
    best = np.full(len(classes), -1.0)
    for searcher in searchers:
        snapshot = searcher.snapshot()
        positions = np.flatnonzero(snapshot.kind_is("audio"))
        for start in range(0, len(positions), _ROWS_PER_BATCH):
            cosines = snapshot.vectors_at(positions[start : start + _ROWS_PER_BATCH]) @ classes.T
            best = np.fmax(best, np.fmax.reduce(cosines, axis=0))
    return _Match(calibration, best)


class _Match:
    """Judges the cosines of each label beside that of its best row."""

    def __init__(self, calibration: Calibration, best: Floats) -> None:
        self._calibration = calibration
        self._best = best

    def __call__(self, cosines: Floats) -> Floats:
        columns = [self._judge(best, column) for best, column in zip(self._best, cosines.T, strict=True)]
        return np.stack(columns, axis=1)

    def _judge(self, best: float, cosines: Floats) -> Floats:
        shown = np.concatenate([[best], np.minimum(cosines, best)])
        found = self._calibration.probabilities(shown, np.full(len(shown), np.nan))[1:]
        for number in np.flatnonzero(cosines > best):  # of a recording from elsewhere, which is then the best one
            found[number] = self._calibration.probabilities(cosines[number : number + 1], np.full(1, np.nan))[0]
        return found
