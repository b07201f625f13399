"""The judge of a table's hits: it gives each its probability, and calibrates the table when that is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import RLock

import numpy as np

from clara_search.models.base import Encoder
from clara_search.retrieval.calibration import files
from clara_search.retrieval.calibration.agreement import text_agreement
from clara_search.retrieval.calibration.logistic import Floats
from clara_search.retrieval.calibration.model import DEFAULTS, Calibration, fit
from clara_search.retrieval.calibration.trials import audio_trials, text_trials
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot

log = logging.getLogger(__name__)

FEWEST_ROWS = 32
"""A smaller table has no probabilities: what it holds says too little about what it does not."""

_FEWEST_QUERIES = 16
_DECIMALS = 4


class Judge:
    """Gives hits their probabilities.

    Args:
        searcher: The table.
        encoder: Returns the encoder that built it.
    """

    def __init__(self, searcher: Searcher, encoder: Callable[[], Encoder]):
        self._searcher = searcher
        self._encoder = encoder
        self._stored: files.StoredCalibration | None = None
        self._state: tuple[int, ...] | None = None
        self._failed: set[str] = set()
        self._lock = RLock()

    def judge(self, query: Query, snapshot: Snapshot, rows: RankedRows) -> RankedRows:
        """Return the rows of a query with the fields `probability` and `is_significant`, where they are known.

        Args:
            query: The query.
            snapshot: The table.
            rows: Its best rows.

        Returns:
            The rows, in the same order.
        """
        facts = snapshot.columns.select(["kind", "text"]).take(rows.positions)
        kinds = facts["kind"].to_pylist()
        agreements = _agreements(query, facts["text"].to_pylist())
        probabilities: list[float | None] = [None] * len(rows)
        significant: list[bool | None] = [None] * len(rows)
        for kind in set(kinds):
            calibration = self.calibration(snapshot, f"{query.modality}-{kind}")
            if calibration is None:
                continue
            numbers = [number for number, other in enumerate(kinds) if other == kind]
            found = calibration.probabilities(rows.scores[numbers], agreements[numbers])
            for number, probability in zip(numbers, found.tolist(), strict=True):
                probabilities[number] = round(probability, _DECIMALS)
                significant[number] = probability >= calibration.threshold
        return rows.with_fields(probability=probabilities, is_significant=significant)

    def calibration(self, snapshot: Snapshot, direction: str) -> Calibration | None:
        """Return the calibration of a direction, fitted now unless there is one for a table of about this size.

        Args:
            snapshot: The table.
            direction: Such as "text-audio".

        Returns:
            The calibration; None where the direction is not known, or the table is too small.
        """
        if direction not in DEFAULTS or len(snapshot) < FEWEST_ROWS:
            return None
        with self._lock:
            stored = self._stored or files.read(snapshot.table)
            if stored is None or (self._state != snapshot.state and not stored.is_of(snapshot)):
                stored, self._failed = files.StoredCalibration.empty(snapshot), set()
            self._state = snapshot.state
            if direction not in stored.directions and direction not in self._failed:
                fitted = self._fit(snapshot, direction)
                if fitted is None:
                    self._failed.add(direction)
                else:
                    stored = replace(stored, directions={**stored.directions, direction: fitted})
                    files.write(snapshot.table, stored)
            self._stored = stored
            return stored.directions.get(direction)

    def _fit(self, snapshot: Snapshot, direction: str) -> Calibration | None:
        asked, kind = direction.split("-")
        if int(snapshot.kind_is(kind).sum()) < FEWEST_ROWS:
            return None
        log.info("table '%s': calibrating probabilities of %s", snapshot.table.name, direction)
        if asked == "text":
            background, matched = text_trials(self._searcher, snapshot, self._encoder(), kind)
        else:
            background, matched = audio_trials(self._searcher, snapshot, kind)
        return fit(direction, background, matched) if len(background.cosines) >= _FEWEST_QUERIES else None


def _agreements(query: Query, texts: Sequence[str | None]) -> Floats:
    """Return how much a text and the text of each row agree, shape (n,); NaN where one is missing."""
    is_typed = query.modality == "text" and not query.exclude  # else the label is the id of a row
    return np.array([text_agreement(query.label, text) if is_typed and text else np.nan for text in texts])
