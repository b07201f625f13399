"""Indexing of very many short recordings: whether memory stays flat, and how long a look at unchanged files takes."""

from __future__ import annotations

import os
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks.report import markdown, out_option, publish
from benchmarks.tasks.faults import SlowEncoder, write_clip
from clara_search.store.database import Database
from indexer.pipeline import IndexResult, index
from indexer.runtime.allocator import limit_allocator
from indexer.sources.item import Item
from indexer.write.writer import ItemStatus

_PER_FOLDER = 1000
_OLD = 1_700_000_000
"""A time of modification that is long past: a file as young as a second is never taken for untouched."""


class QuickEncoder(SlowEncoder):
    """Takes no time, so that what is measured is the indexer."""

    pause_s = 0.0


@click.command()
@click.option("--items", type=click.IntRange(min=1000), default=100_000, show_default=True, help="Recordings.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where they are kept for next time.")
@out_option
def scale(items: int, folder: Path | None, out: Path | None) -> None:
    """Index ITEMS clips of 50 ms with an encoder that takes no time, and again; print memory and seconds."""
    limit_allocator()
    with ExitStack() as stack:
        kept = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_clips(kept / "clips", items)
        database = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "db"
        first, first_cpu_s, memory = measured(kept / "clips", database)
        second, second_cpu_s, _ = measured(kept / "clips", database)
    reference = memory[1000]
    rows = [[f"{count:,} items", f"{size / 2**20:.0f}", f"{size / reference:.3f}"] for count, size in memory.items()]
    result: dict[str, Any] = {
        "benchmark": "scale",
        "items": items,
        "resident_bytes": memory,
        "first": {"seconds": first.seconds, "cpu_s": first_cpu_s, "indexed": first.indexed},
        "second": {"seconds": second.seconds, "cpu_s": second_cpu_s, "unchanged": second.unchanged},
    }
    sentence = (
        f"The first run took {first.seconds:.1f} s ({first_cpu_s:.1f} s of processor); the second, over "
        f"{second.unchanged:,} unchanged files, {second.seconds:.1f} s ({second_cpu_s:.1f} s of processor)."
    )
    table = markdown(["after", "resident MiB", "of that after 1,000"], rows)
    publish(result, f"{table}\n\n{sentence}", out)


def measured(folder: Path, database: Path) -> tuple[IndexResult, float, dict[int, int]]:
    """Index `folder`; return what was done, the seconds of processor, and resident bytes after 1,000, 2,000 ..."""
    memory: dict[int, int] = {}
    settled = 0

    def note(item: Item, status: ItemStatus) -> None:
        nonlocal settled
        settled += 1
        if settled % 1000 == 0 and str(settled // 1000).strip("0") in ("1", "2", "5"):
            memory[settled] = resident_bytes()

    began = time.process_time()
    summary = index([folder], Database(database, create=True), QuickEncoder(), progress=note)
    memory[settled] = resident_bytes()
    return summary, round(time.process_time() - began, 2), memory


def resident_bytes() -> int:
    """Return how much memory this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_clips(folder: Path, count: int) -> None:
    """Write `count` clips of noise below `folder`, those that are not there yet."""
    for number in range(count):
        path = folder / f"{number // _PER_FOLDER:03}" / f"{number:06}.wav"
        if not path.is_file():
            write_clip(path, random.Random(number), 0.05, 0.05)
            os.utime(path, (_OLD, _OLD))
