"""Nightly runs over a corpus that changes a little: how large the database becomes, and how long a night takes."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import Any

import click

from benchmarks.command import Commands, Process, commands, compile_clock, footprint
from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import write_noise
from benchmarks.tasks.scale import make_clips
from clara_search.store.compaction import DEFAULT_RETAIN_DAYS
from indexer.runtime.signals import stop_on_signals

_SEED = 0
_WEEK = 7
_OLD = 1_700_000_000
"""Modification time of the first night in seconds since the epoch, long past; each night has a later one."""


@click.command()
@click.option("--items", type=click.IntRange(min=100), default=20_000, show_default=True, help="Recordings.")
@click.option("--nights", type=click.IntRange(min=0), default=400, show_default=True, help="Runs after the first.")
@click.option("--share", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="Changed each night.")
@click.option("--dim", type=click.IntRange(min=1), default=512, show_default=True, help="Dimensions of the vectors.")
@click.option("--daily", is_flag=True, help="A night is a day, by a clock that needs Linux and a C compiler.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Folder with the clips, kept for the next time."
)
@out_option
def operations(
    items: int,
    nights: int,
    share: float,
    dim: int,
    daily: bool,
    folder: Path | None,
    out: Path | None,
) -> None:
    """Index ITEMS clips of 50 ms night after night, with --prune; print files, size, seconds and memory.

    Each run is a process of `clara-search` with an encoder that takes no time. Each night SHARE of the clips change:
    half of these are rewritten, the others are replaced by new files. With --daily old versions are kept as
    long as by default; otherwise all nights happen at once, and old versions are not kept. At the end nothing changes
    for once, the database is verified, and half of all clips are deleted. A fresh index of the same clips is measured
    for comparison. Ctrl-C or SIGTERM ends the nights early.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        clips = folder / "clips" if folder else work / "clips"
        runner = stack.enter_context(commands(compile_clock(work) if daily else None))
        result = Simulation(runner, work, clips, items, share, dim, daily).run(nights, stop)
    states = {f"night {night['night']}": night for night in result["nights"]}
    shown = [
        f"night {night}" for night in sorted({1, 2, 5, 10, 20, 50, 100, 200, len(states)}) if f"night {night}" in states
    ]
    rows = [_row(name, states[name]) for name in shown]
    rows += [_row(name, result[name]) for name in result["after"]]
    publish(result, f"{markdown(['', 'files', 'MiB', 's', 'CPU s', 'MiB resident'], rows)}\n\n{_sentence(result)}", out)


def _row(name: str, state: Mapping[str, Any]) -> list[str]:
    sizes = [f"{state['files']}", f"{state['bytes'] / 2**20:.1f}"]
    return [name, *sizes, f"{state['seconds']:.2f}", f"{state['cpu_s']:.2f}", f"{state['resident_bytes'] / 2**20:.0f}"]


def _sentence(result: Mapping[str, Any]) -> str:
    if not result["nights"]:
        return ""
    return (
        f"At any time at most {result['most_files']} files and {result['largest_ratio']:.2f} times the bytes of a "
        f"fresh index; no week took more than {result['slowest_week']:.2f} times the processor time of the first, and "
        f"the last took {result['last_week']:.2f} times as much."
    )


class Simulation:
    """A corpus that changes, and the commands of its operator, each in a process of its own.

    Args:
        commands: Runs the commands.
        folder: Folder for the databases.
        clips: Folder of the recordings, made if they are missing.
        items: Number of recordings.
        share: Share of them that changes each night.
        dim: Dimensions of the vectors.
        daily: Whether each night happens a day after the one before.
    """

    def __init__(self, commands: Commands, folder: Path, clips: Path, items: int, share: float, dim: int, daily: bool):
        self._commands = commands
        self._folder = folder
        self._source = clips
        self._items = items
        self._share = share
        self._model = f"projection:{dim}"
        self._daily = daily
        self._retain_days = DEFAULT_RETAIN_DAYS if daily else 0.0
        self._night = 0
        self._rng = random.Random(_SEED)

    def run(self, nights: int, stop: Event) -> dict[str, Any]:
        """Run the nights, until `stop`, and what follows; return files, bytes, seconds and memory of each."""
        make_clips(self._source, self._items)
        # Links: the clips are kept, and a clip that changes is replaced.
        shutil.copytree(self._source, self._folder / "night", copy_function=os.link)
        clips = sorted((self._folder / "night").rglob("*.wav"))
        first = self._index("db")
        measured = list(takewhile(lambda _: not stop.is_set(), self._nights(clips, nights)))
        unchanged = self._index("db")
        verified = self._verify("db")
        fresh = self._index("fresh") if nights else first
        for clip in clips[: self._items // 2]:
            clip.unlink()
        half = self._index("db")
        after = {"first": first, "unchanged": unchanged, "verify": verified, "fresh": fresh, "half deleted": half}
        after["fresh half"] = self._index("fresh half")
        weeks = [measured[at : at + _WEEK] for at in range(0, len(measured) - _WEEK + 1, _WEEK)] or [measured]
        spent = [sum(night["cpu_s"] for night in week) for week in weeks]
        return {
            "benchmark": "operations",
            "items": self._items,
            "share": self._share,
            "model": self._model,
            "retain_days": self._retain_days,
            "is_a_night_a_day": self._daily,
            "nights": measured,
            "after": list(after),
            **after,
            "most_files": max((night["most_files"] for night in measured), default=0),
            "largest_ratio": round(max((n["most_bytes"] for n in measured), default=0) / fresh["bytes"], 3),
            "slowest_week": round(max(spent) / spent[0], 3) if measured else None,
            "last_week": round(spent[-1] / spent[0], 3) if measured else None,
        }

    def _nights(self, clips: list[Path], count: int) -> Iterator[dict[str, Any]]:
        """Change some clips, and index all, night after night."""
        for night in range(1, count + 1):
            self._night = night
            changed = self._rng.sample(range(len(clips)), round(self._share * self._items))
            for number, position in enumerate(changed):
                clips[position].unlink()
                if number % 2:
                    clips[position] = clips[position].with_name(f"night {night} {number}.wav")
                write_noise(clips[position], self._rng, 0.05, 0.05)
                os.utime(clips[position], (_OLD + night, _OLD + night))
            yield {"night": night, **self._index("db")}

    def _index(self, name: str) -> dict[str, Any]:
        arguments = [str(self._folder / "night"), "--db", str(self._folder / name), "--model", self._model, "--prune"]
        process = self._run(name, ["index", *arguments, "--json", "--retain-days", str(self._retain_days)])
        return {**self._state(name, process), "rows": json.loads(process.output)["rows"]}

    def _verify(self, name: str) -> dict[str, Any]:
        return self._state(
            name, self._run(name, ["db", "verify", "--db", str(self._folder / name), "--model", self._model])
        )

    def _run(self, name: str, arguments: list[str]) -> Process:
        environment = {"CLOCK_AHEAD_S": str(self._night * 86_400)} if self._daily else {}
        return self._commands.run(arguments, self._folder / name, environment)

    def _state(self, name: str, process: Process) -> dict[str, Any]:
        files, size = footprint(self._folder / name)
        return {
            "files": files,
            "bytes": size,
            "most_files": process.most_files,
            "most_bytes": process.most_bytes,
            "seconds": process.seconds,
            "cpu_s": process.cpu_s,
            "resident_bytes": process.resident_bytes,
        }
