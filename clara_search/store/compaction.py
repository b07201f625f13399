"""The decision when to compact a table, by its state on the disk, whichever process left it there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple

FULL_FRAGMENT_ROWS = 2**20
"""Lance merges fragments up to this size; it rewrites a full one only when a tenth of its rows are deleted."""

DEFAULT_RETAIN_DAYS = 0.5
"""Age in days at which versions of a table are deleted: a nightly run drops what the one before has left."""

Moment = Literal["before", "during", "after"]
"""When a run considers compaction: before, while or after it writes."""

NEVER = timedelta(days=36_525)
"""An age that no version reaches; much greater ages are out of the range of LanceDB's clock."""

_MIN_AGE = timedelta(milliseconds=1)  # for an age of 0 LanceDB warns on stderr
_MOST_FRAGMENTS = 32
_MOST_DELETED = {"before": 0.1, "after": 0.3}
"""Share of deleted rows. After a run its own versions are kept beside the rewritten files, so the limit is higher."""

_MOST_OLD_VERSIONS = 64
_MOST_OWN_VERSIONS = 8
_GROWING_FRAGMENTS = 16


class Version(NamedTuple):
    """A version of a table: when it was committed, in seconds since the epoch, and how many rows it marks deleted."""

    time: float
    deleted_rows: int


@dataclass(frozen=True)
class Layout:
    """The state of a table on the disk.

    Attributes:
        fragments: Number of fragments of the newest version.
        rows: Rows in them, deleted ones included.
        largest: Rows of the largest one.
        versions: The versions that are kept, the oldest first.
    """

    fragments: int
    rows: int
    largest: int
    versions: Sequence[Version]

    def wants_compaction_while_growing(self) -> bool:
        """Tell whether a table should be compacted while it is written to.

        This happens more and more rarely, as each compaction rewrites the table. The versions do not matter.
        """
        rest = self.rows - self.largest
        return self.fragments >= _GROWING_FRAGMENTS and rest >= min(self.largest, FULL_FRAGMENT_ROWS)

    def wants_compaction(
        self, moment: Literal["before", "after"], retain_days: float, now: float, since: float = math.inf
    ) -> bool:
        """Tell whether the table should be compacted.

        Reasons are many fragments (slow reads), many deleted rows, many versions older than `retain_days`, rows deleted
        longer ago than that, old versions that cost nothing to drop, since the newest one is that old too, and many
        versions of the run itself, which cost nothing either if no other has to be kept.

        Args:
            moment: Whether a run is about to write or has written.
            retain_days: Age in days up to which versions are kept.
            now: Seconds since the epoch.
            since: When the run began: its own versions need not be kept.
        """
        oldest_kept = now - retain_days * 86_400
        newest = self.versions[-1]
        old = sum(version.time <= oldest_kept for version in self.versions[:-1])
        own = sum(version.time >= since for version in self.versions)
        return (
            self.fragments - self.rows // FULL_FRAGMENT_ROWS > _MOST_FRAGMENTS
            or newest.deleted_rows > _MOST_DELETED[moment] * self.rows
            or (old > 0 and newest.time <= oldest_kept)
            or (own > _MOST_OWN_VERSIONS and self._needs_none(oldest_kept, since))
            or (moment == "before" and (old >= _MOST_OLD_VERSIONS or self._has_deleted_before(oldest_kept)))
        )

    def age_to_delete(self, retain_days: float, now: float, since: float = math.inf) -> timedelta:
        """Return the age from which versions are deleted after a run that began `since` has compacted the table."""
        if self._needs_none(now - retain_days * 86_400, since):
            # Compacting commits a version that still needs all of the old files, and that nobody asked to keep.
            return _MIN_AGE
        return max(timedelta(days=min(retain_days, NEVER.days)), _MIN_AGE)

    def _needs_none(self, oldest_kept: float, since: float) -> bool:
        """Tell whether each version is old enough to go, or of the run itself, whose beginning nobody asked to keep."""
        return all(version.time <= oldest_kept or version.time >= since for version in self.versions)

    def _has_deleted_before(self, time: float) -> bool:
        """Tell whether rows deleted by `time` are still in the fragments of the newest version."""
        if not self.versions[-1].deleted_rows or self.largest >= FULL_FRAGMENT_ROWS:
            return False
        since = self.versions[-1].time
        for version in reversed(self.versions):
            if not version.deleted_rows:
                break
            since = version.time
        return since <= time


def read_layout(table: Any, versions: bool = True) -> Layout:
    """Return the state of a LanceDB table on the disk, with or without its `versions`, which take time to list."""
    stats = table.stats()["fragment_stats"]
    return Layout(
        fragments=stats["num_fragments"],
        rows=stats["num_fragments"] * stats["lengths"]["mean"],
        largest=stats["lengths"]["max"],
        versions=[
            Version(version["timestamp"].timestamp(), int(version["metadata"]["total_deletion_file_rows"]))
            for version in (table.list_versions() if versions else [])
        ],
    )
