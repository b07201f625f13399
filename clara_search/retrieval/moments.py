"""Moments: the windows of one recording that answer a query together, as one span of time.

A moment is a window, the best of its recording, joined with the windows before and after it that touch and score at
least half way between it and what the query scores on the recordings of the table in general; one that scores no more
than that stays alone. These scores are computed
whether the windows were ranked or not: a moment does not depend on how many rows were ranked, or how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clara_search.models.base import Embeddings
from clara_search.retrieval.exact.scan import SCORE_DECIMALS, RowPositions
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.snapshot import Snapshot

_TOUCH_S = 1e-3
"""Windows at most this far apart touch: times are rounded."""
_NEIGHBOURS = 2


@dataclass(frozen=True)
class Moment:
    """A span of a recording.

    Attributes:
        number: Number of its best window in the ranking.
        start_s: Start in seconds.
        end_s: End in seconds.
        best_s: Where in it the query is, as far as the scores of windows tell; None for a recording of one window.
    """

    number: int
    start_s: float | None
    end_s: float | None
    best_s: float | None


def join_windows(snapshot: Snapshot, query: Embeddings, rows: RankedRows, per_recording: int) -> RankedRows:
    """Join ranked windows into moments.

    Args:
        snapshot: The table.
        query: Unit vector, shape (dim,).
        rows: Ranked rows, best first.
        per_recording: Most moments of a recording, at least 1.

    Returns:
        The best row of each moment, and each text, best first, with the fields `start_s`, `end_s` and `best_s`.
    """
    if not snapshot.recordings.has_parts:
        return rows
    codes = snapshot.recordings.codes[rows.positions]
    moments = list(_moments(snapshot, query, rows, codes.tolist(), per_recording))
    chosen = rows.take([moment.number for moment in moments])
    names = ("start_s", "end_s", "best_s")
    return chosen.with_fields(**{name: [getattr(moment, name) for moment in moments] for name in names})


def _moments(
    snapshot: Snapshot, query: Embeddings, rows: RankedRows, codes: list[int], per_recording: int
) -> Iterator[Moment]:
    found: dict[int, list[Moment]] = {}
    scores: _Scores | None = None
    for number, code in enumerate(codes):
        position = int(rows.positions[number])
        if code < 0:
            yield Moment(number, None, None, None)
            continue
        others = found.setdefault(code, [])
        if len(others) == per_recording:
            continue
        recordings = snapshot.recordings
        start_s, end_s = float(recordings.starts[position]), float(recordings.ends[position])
        if any(_touch(start_s, end_s, other) for other in others):
            continue
        windows, own = recordings.windows(position)
        if len(windows) == 1:
            moment = Moment(number, start_s, end_s, None)
        else:
            if scores is None:
                scores = _Scores(snapshot, query, rows)
            moment = _extend(snapshot, scores, windows, own, number)
        others.append(moment)
        yield moment


def _touch(start_s: float, end_s: float, moment: Moment) -> bool:
    assert moment.start_s is not None
    assert moment.end_s is not None
    return start_s <= moment.end_s + _TOUCH_S and end_s >= moment.start_s - _TOUCH_S


def _extend(snapshot: Snapshot, scores: _Scores, windows: RowPositions, own: int, number: int) -> Moment:
    """Return the moment around window `own` of a recording's `windows`."""
    starts, ends = snapshot.recordings.starts[windows], snapshot.recordings.ends[windows]
    best = scores[int(windows[own])]
    if best <= scores.background:  # found by its words: its sound says nothing of its neighbours
        return Moment(number, float(starts[own]), float(ends[own]), float((starts[own] + ends[own]) / 2))
    level = (best + scores.background) / 2
    first = last = own
    end_s = float(ends[own])
    while last + 1 < len(windows) and starts[last + 1] <= end_s + _TOUCH_S and scores[int(windows[last + 1])] >= level:
        last += 1
        end_s = max(end_s, float(ends[last]))
    while first and ends[first - 1] >= starts[first] - _TOUCH_S and scores[int(windows[first - 1])] >= level:
        first -= 1
    # Overlapping windows that score alike have the sound in what they share: the centres of windows, by their height
    # above the level, say where.
    heights = np.array([max(scores[int(windows[other])] - level, 0.0) for other in range(first, last + 1)])
    centres = (starts[first : last + 1] + ends[first : last + 1]) / 2
    near = np.abs(centres - centres[own - first]) < ends[own] - starts[own]
    weights = heights * near
    best_s = float(weights @ centres / weights.sum()) if weights.sum() > 0 else float(centres[own - first])
    best_s = min(max(best_s, float(starts[own])), float(ends[own]))
    return Moment(number, float(starts[first]), end_s, round(best_s, 3))


class _Scores:
    """The cosines of a query with rows, ranked or not; the neighbours of all ranked windows are read at once."""

    def __init__(self, snapshot: Snapshot, query: Embeddings, rows: RankedRows):
        self._snapshot = snapshot
        self._query = query
        self._allowed = rows.allowed
        self._known: dict[int, float] = dict(zip(rows.positions.tolist(), rows.scores.tolist(), strict=True))
        if not snapshot.has_vectors:
            self._read(self._neighbours(rows.positions))

    @property
    def background(self) -> float:
        """The mean cosine of the query with recordings of the table."""
        return float(self._query @ self._snapshot.mean_recording)

    def __getitem__(self, position: int) -> float:
        if position not in self._known:
            self._read([position])
        return self._known[position]

    def _read(self, positions: list[int]) -> None:
        wanted = [position for position in positions if self._passes(position)]
        self._known.update((position, -np.inf) for position in positions)
        if wanted:
            cosines = self._snapshot.vectors_at(np.array(wanted)) @ self._query
            self._known.update(zip(wanted, cosines.astype(float).round(SCORE_DECIMALS).tolist(), strict=True))

    def _passes(self, position: int) -> bool:
        """Return whether the filters of the search let a row pass."""
        if self._allowed is None:
            return True
        slot = int(np.searchsorted(self._allowed, position))
        return slot < len(self._allowed) and int(self._allowed[slot]) == position

    def _neighbours(self, positions: RowPositions) -> list[int]:
        near: set[int] = set()
        for position in positions.tolist():
            if self._snapshot.recordings.codes[position] >= 0:
                windows, own = self._snapshot.recordings.windows(position)
                near.update(windows[max(own - _NEIGHBOURS, 0) : own + _NEIGHBOURS + 1].tolist())
        return sorted(near - self._known.keys())
