"""When a table is worth being written anew: a decision by what lies on the disk, whoever left it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple

FULL_FRAGMENT_ROWS = 2**20
"""Lance joins fragments up to this size, and leaves those of it as they are until a tenth of them is deleted."""

Moment = Literal["before", "during", "after"]
"""When a run looks at its tables: before it writes, while it does, after it has."""

NEVER = timedelta(days=36_525)
"""An age that no version reaches; what is much older is out of the range of LanceDB's clock."""

_LEAST_AGE = timedelta(milliseconds=1)  # of none at all LanceDB warns on stderr
_SHORT_DAYS = 1 / 24
"""Up to this many days of retention, a table that nobody wrote to for as long is compacted without keeping a copy."""

_MOST_FRAGMENTS = 32
_MOST_DELETED = {"before": 0.1, "after": 0.3}
"""After a run its own versions are kept, and what is written anew lies beside them: that has to be worth it."""

_MOST_OLD_VERSIONS = 64
_GROWING_FRAGMENTS = 16


class Version(NamedTuple):
    """A version of a table: when it was committed, in seconds since the epoch, and how many rows it marks deleted."""

    time: float
    deleted_rows: int


@dataclass(frozen=True)
class Layout:
    """How a table lies on the disk.

    Attributes:
        fragments: Number of fragments of the newest version.
        rows: Rows in them, deleted ones included.
        largest: Rows of the largest one.
        versions: Those that are kept, the oldest first.
    """

    fragments: int
    rows: int
    largest: int
    versions: Sequence[Version]

    def wants_compaction_while_growing(self) -> bool:
        """Tell whether a table that is written to should be compacted: ever more rarely, as all of it is written anew.

        The versions are not looked at.
        """
        rest = self.rows - self.largest
        return self.fragments >= _GROWING_FRAGMENTS and rest >= min(self.largest, FULL_FRAGMENT_ROWS)

    def wants_compaction(self, moment: Literal["before", "after"], retain_days: float, now: float) -> bool:
        """Tell whether the table should be compacted, at a time `now` in seconds since the epoch.

        It should where reading has become slow (many fragments), where many rows are deleted ones, where many versions
        are older than `retain_days`, where deleted rows have been on the disk for as long, and where giving up old
        versions costs nothing: when the newest one is that old too, nothing has to be kept beside what is written anew.
        """
        oldest_kept = now - retain_days * 86_400
        newest = self.versions[-1]
        old = sum(version.time <= oldest_kept for version in self.versions[:-1])
        return (
            self.fragments - self.rows // FULL_FRAGMENT_ROWS > _MOST_FRAGMENTS
            or newest.deleted_rows > _MOST_DELETED[moment] * self.rows
            or (old > 0 and newest.time <= oldest_kept)
            or (moment == "before" and (old >= _MOST_OLD_VERSIONS or self._has_deleted_before(oldest_kept)))
        )

    def age_to_delete(self, retain_days: float, now: float) -> timedelta:
        """Return the age from which versions are deleted, once this table was compacted."""
        is_old = self.versions[-1].time <= now - retain_days * 86_400
        if is_old and retain_days <= _SHORT_DAYS:
            # Compacting commits a version that still needs all of the old files, and that nobody asked to keep.
            return _LEAST_AGE
        return max(timedelta(days=min(retain_days, NEVER.days)), _LEAST_AGE)

    def _has_deleted_before(self, time: float) -> bool:
        """Tell whether rows that were deleted by then are still in the fragments of the newest version."""
        if not self.versions[-1].deleted_rows or self.largest >= FULL_FRAGMENT_ROWS:
            return False
        since = self.versions[-1].time
        for version in reversed(self.versions):
            if not version.deleted_rows:
                break
            since = version.time
        return since <= time


def read_layout(table: Any, versions: bool = True) -> Layout:
    """Return how a LanceDB table lies on the disk, with or without its `versions`, which take time to list."""
    facts = table.stats()["fragment_stats"]
    return Layout(
        fragments=facts["num_fragments"],
        rows=facts["num_fragments"] * facts["lengths"]["mean"],
        largest=facts["lengths"]["max"],
        versions=[
            Version(version["timestamp"].timestamp(), int(version["metadata"]["total_deletion_file_rows"]))
            for version in (table.list_versions() if versions else [])
        ],
    )
