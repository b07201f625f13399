"""The lines with which `clara-search index` ends."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING

from clara_search.commands.options import name_options
from clara_search.commands.output import echo_line

if TYPE_CHECKING:
    from clara_search.store.database import Database
    from indexer.pipeline import IndexResult

FAILURES_SHOWN = 20
"""Failures of a run that are listed at its end."""


def unpruned_line(summary: IndexResult) -> str | None:
    """Return on one line why --prune left rows, if it did."""
    if summary.unlisted:
        return f"Nothing was pruned: {summary.unlisted:,} folders or shards could not be listed to their end."
    if summary.unanswered:
        return f"{summary.unanswered:,} recordings were not pruned: their store does not say that they are gone."
    return None


def left_alone_line(summary: IndexResult) -> str:
    """Return on one line what the sources hold beside the items."""
    listed = ", ".join(f"{kind} {count:,}" for kind, count in summary.left_alone.items())
    return f"{sum(summary.left_alone.values()):,} left alone: {listed}"


def transcripts_line(summary: IndexResult) -> str | None:
    """Return on one line what was transcribed, if anything was."""
    if not (summary.transcribed or summary.silent or summary.untranscribed):
        return None
    return (
        f"{summary.transcribed:,} recordings transcribed, {summary.silent:,} in which nothing is said, "
        f"{summary.untranscribed:,} that could not be"
    )


def summary_line(summary: IndexResult, table: str) -> str:
    """Return the counts on one line."""
    minutes, seconds = divmod(round(summary.audio_s), 60)
    return (
        f"{summary.indexed:,} indexed ({minutes:,} min {seconds} s of audio), {summary.unchanged:,} unchanged, "
        f"{summary.failed:,} failed, {summary.removed:,} rows removed; table '{table}' has {summary.rows:,} rows "
        f"({summary.seconds:.1f} s)"
    )


def print_failures(summary: IndexResult, database: Database, table: str, failed: Collection[str]) -> None:
    """Print the failures of this run on stderr."""
    from indexer.ledger.failures import failures

    if not summary.failed:
        return
    for failure in failures(database, table):
        if failure["uri"] in failed:
            echo_line(f"  failed: {failure['uri']}: {name_options(failure['reason'])}", err=True)
    if summary.failed > len(failed):
        command = f"clara-search db info --db {shlex.quote(database.location)} --table {table} --failures"
        echo_line(f"  and {summary.failed - len(failed):,} more: {command}", err=True)
