"""Indexing of very many short recordings: memory use, and the time of a second run over unchanged files."""

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
from benchmarks.stand_ins import ProjectionEncoder, write_noise
from clara_search.store.database import Database
from indexer.pipeline import IndexResult, index
from indexer.runtime.allocator import limit_allocator
from indexer.sources.item import Item
from indexer.write.writer import ItemStatus

_PER_FOLDER = 1000
_OLD = 1_700_000_000
"""An old modification time: that of a young file is not trusted."""


@click.command()
@click.option("--items", type=click.IntRange(min=1000), default=100_000, show_default=True, help="Recordings.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps them for the next time."
)
@out_option
def scale(items: int, folder: Path | None, out: Path | None) -> None:
    """Index many short clips twice; measure memory and time.

    The clips have 50 ms, and the encoder takes no time. Prints the memory in use after 1,000, 2,000, 5,000 ... clips,
    and the time of each run.
    """
    limit_allocator()
    with ExitStack() as stack:
        data = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_clips(data / "clips", items)
        database = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "db"
        first, first_cpu_s, memory = measure(data / "clips", database)
        second, second_cpu_s, _ = measure(data / "clips", database)
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
        f"The first run took {first.seconds:.1f} s ({first_cpu_s:.1f} s of CPU); the second, over "
        f"{second.unchanged:,} unchanged files, {second.seconds:.1f} s ({second_cpu_s:.1f} s of CPU)."
    )
    table = markdown(["after", "resident MiB", "relative to 1,000 items"], rows)
    publish(result, f"{table}\n\n{sentence}", out)


def measure(folder: Path, database: Path) -> tuple[IndexResult, float, dict[int, int]]:
    """Index `folder`; return the result, the CPU seconds, and resident bytes after 1,000, 2,000, 5,000 ... items."""
    memory: dict[int, int] = {}
    num_done = 0

    def note(item: Item, status: ItemStatus) -> None:
        nonlocal num_done
        num_done += 1
        if num_done % 1000 == 0 and str(num_done // 1000).strip("0") in ("1", "2", "5"):
            memory[num_done] = resident_bytes()

    started = time.process_time()
    summary = index([folder], Database(database, create=True), ProjectionEncoder(), progress=note)
    memory[num_done] = resident_bytes()
    return summary, round(time.process_time() - started, 2), memory


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_clips(folder: Path, count: int) -> None:
    """Write `count` clips of noise below `folder`, unless they exist."""
    for number in range(count):
        path = folder / f"{number // _PER_FOLDER:03}" / f"{number:06}.wav"
        if not path.is_file():
            write_noise(path, random.Random(number), 0.05, 0.05)
            os.utime(path, (_OLD, _OLD))
