"""Nightly runs over a corpus that changes a little: how large the database becomes, and how long a night takes."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import ProjectionEncoder, write_noise
from benchmarks.tasks.scale import make_clips
from clara_search.store.database import Database
from indexer.pipeline import index
from indexer.runtime.allocator import limit_allocator

_SEED = 0
_OLD = 1_700_000_000
"""Modification time of the first night in seconds since the epoch, long past; each night has a later one."""


@click.command()
@click.option("--items", type=click.IntRange(min=100), default=5000, show_default=True, help="Recordings.")
@click.option("--nights", type=click.IntRange(min=1), default=60, show_default=True, help="Runs after the first.")
@click.option("--share", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="Changed each night.")
@click.option(
    "--retain-days", type=click.FloatRange(min=0), default=0.0, show_default=True, help="As `index` takes it."
)
@out_option
def operations(items: int, nights: int, share: float, retain_days: float, out: Path | None) -> None:
    """Index ITEMS clips of 50 ms night after night, with --prune; print files, size and seconds of the nights.

    Each night SHARE of the clips change: half of these are rewritten, the others are replaced by new files. Then half
    of all clips are deleted. A fresh index of the same clips is measured for comparison.
    """
    limit_allocator()
    with tempfile.TemporaryDirectory() as folder:
        result = simulate(Path(folder), items, nights, share, retain_days)
    shown = [night for night in result["nights"] if night["night"] in {1, 2, 5, 10, 20, 40, nights}]
    rows = [
        [f"night {night['night']}", f"{night['files']}", f"{night['bytes'] / 2**20:.2f}", f"{night['seconds']:.2f}"]
        for night in shown
    ]
    for name in ("fresh", "half deleted", "fresh half"):
        state = result[name]
        rows.append([name, f"{state['files']}", f"{state['bytes'] / 2**20:.2f}", f"{state['seconds']:.2f}"])
    sentence = (
        f"At most {result['most_files']} files and {result['largest_ratio']:.2f} times the bytes of a fresh index; the "
        f"last ten nights took {result['slowdown']:.2f} times as long as the first ten."
    )
    publish(result, f"{markdown(['', 'files', 'MiB', 's'], rows)}\n\n{sentence}", out)


def simulate(folder: Path, items: int, nights: int, share: float, retain_days: float) -> dict[str, Any]:
    """Run the nights over clips in `folder`; return the files, bytes and seconds of each."""
    rng = random.Random(_SEED)
    make_clips(folder / "clips", items)
    clips = sorted((folder / "clips").rglob("*.wav"))

    def run(name: str) -> dict[str, Any]:
        start = time.monotonic()
        database = Database(folder / name, create=True)
        summary = index([folder / "clips"], database, ProjectionEncoder(), prune=True, retain_days=retain_days)
        seconds = round(time.monotonic() - start, 3)
        sizes = [path.stat().st_size for path in (folder / name).rglob("*") if path.is_file()]
        return {"files": len(sizes), "bytes": sum(sizes), "seconds": seconds, "rows": summary.rows}

    run("db")
    measured = list[dict[str, Any]]()
    for night in range(1, nights + 1):
        changed = rng.sample(range(len(clips)), round(share * items))
        for number, position in enumerate(changed):
            if number % 2:
                clips[position].unlink()
                clips[position] = clips[position].with_name(f"night {night} {number}.wav")
            write_noise(clips[position], rng, 0.05, 0.05)
            os.utime(clips[position], (_OLD + night, _OLD + night))
        measured.append({"night": night, **run("db")})
    fresh = run("fresh")
    for clip in clips[: items // 2]:
        clip.unlink()
    ten = min(10, nights)
    seconds = [night["seconds"] for night in measured]
    return {
        "benchmark": "operations",
        "items": items,
        "share": share,
        "retain_days": retain_days,
        "nights": measured,
        "fresh": fresh,
        "half deleted": run("db"),
        "fresh half": run("fresh half"),
        "most_files": max(night["files"] for night in measured),
        "largest_ratio": round(max(night["bytes"] for night in measured) / fresh["bytes"], 3),
        "slowdown": round(sum(seconds[-ten:]) / sum(seconds[:ten]), 3),
    }
