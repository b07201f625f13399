"""The option `per_recording`: moments instead of windows, and how many of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clara_search.errors import QueryError

if TYPE_CHECKING:
    from clara_search.retrieval.query import Query
    from clara_search.retrieval.ranked import RankedRows
    from clara_search.retrieval.snapshot import Snapshot

_MORE = 4


class PerRecording:
    """Joins the windows of a recording into moments, and keeps the best of them; 0 leaves every window a hit."""

    help: ClassVar[str] = "Most moments of a recording, of neighbouring windows; 0: every window. Default: 1."
    metavar: ClassVar[str | None] = "N"
    default: ClassVar[int] = 1

    def __init__(self, value: int) -> None:
        if value < 0:
            raise QueryError(f"per_recording must be at least 1, or 0 for every window, got {value}")
        self.per_recording = value

    def depth(self, snapshot: Snapshot, wanted: int) -> int:
        """Return how many rows to rank first: more than are wanted where recordings have several windows."""
        return wanted * _MORE if self.per_recording and snapshot.recordings.has_parts else wanted

    def select(self, snapshot: Snapshot, query: Query, rows: RankedRows) -> RankedRows:
        """Return the best row of each moment."""
        from clara_search.retrieval.moments import join_windows

        if not self.per_recording or not len(rows):
            return rows
        return join_windows(snapshot, query.vector, rows, self.per_recording)
