"""A fuzzing run: cases out of seeds, a process that reads them, and what it found, made small and kept."""

from __future__ import annotations

import json
import os
import random
import re
import select
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType

from benchmarks.fuzzing.mutations import mutate
from benchmarks.fuzzing.readers import READERS, Files, Reader
from benchmarks.fuzzing.worker import MOST_SECONDS, Outcome
from clara_search.errors import ClaraError

_HANG_S = 12 * MOST_SECONDS
"""Of the wall clock: on a machine that is busy with other things, a case waits for the processor."""

_START_S = 600.0
_MOST_MUTATIONS = 6
_SHRINKING_CASES = 60
_PANIC = re.compile(r"^.*panicked at.*$", re.MULTILINE)
_OF_LANCE = re.compile(r"/(lance|lancedb|datafusion|arrow)[-\w]*-\d")
"""LanceDB panics for some damaged tables, and prints that: what counts is that an error of one line follows."""

_OWN_FRAME = re.compile(r'File "\S*/((?:clara_search|indexer)/[^"]+)", line \d+ in (\w+)')
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS", "LANCE_IO_THREADS"), "1")


class Worker:
    """A process that reads cases; it is started anew after one that ended it."""

    def __init__(self) -> None:
        self._reader, self._warm = "", list[str]()
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop()
        self._errors.close()

    def choose(self, reader: str, seeds: Path | None = None) -> None:
        """Choose the reader of the next cases, and let it read good files, in folders of `seeds`.

        Raises:
            ClaraError: The process does not start, or a good file is not read.
        """
        self._reader, self._warm = reader, [str(folder) for folder in sorted(seeds.iterdir())] if seeds else []
        if self._process is None:
            self._start()
        else:
            self._read_seeds()

    def read(self, folder: Path) -> Outcome:
        """Let the process read a case."""
        if self._process is None:
            self._start()
        self._errors.seek(0)
        self._errors.truncate()
        answer = self._ask({"reader": self._reader, "folder": str(folder)}, _HANG_S)
        printed = self._printed()
        if isinstance(answer, str):
            frame = _OWN_FRAME.search(printed)
            return Outcome(answer, f"{frame[1]}:{frame[2]}" if frame else "process", False, 0, 0.0)
        if answer.problem is None and (panic := _PANIC.search(printed)) and not _OF_LANCE.search(panic[0]):
            return replace(answer, problem="printed a panic: " + panic[0][:200])
        return answer

    def _start(self) -> None:
        environment = {**os.environ, **_ONE_THREAD, "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzzing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._read_seeds()

    def _read_seeds(self) -> None:
        answer = self._ask({"reader": self._reader, "warm": self._warm}, _START_S)
        if isinstance(answer, str):
            raise ClaraError(f"fuzzing {self._reader}: the process does not start ({self._printed()[-300:]})")
        if answer.refused or answer.problem:
            raise ClaraError(f"fuzzing {self._reader}: a seed is not read ({answer.problem or answer.error})")

    def _ask(self, case: dict[str, object], timeout_s: float) -> Outcome | str:
        """Return the answer, or how the process ended without one."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(case).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], timeout_s)
        line = process.stdout.readline() if ready else b""
        if line:
            return Outcome(**json.loads(line))
        if ready:
            code = process.wait()
            problem = f"ended the process with {code}"
        else:
            problem = f"no answer in {timeout_s:g} s"
        self._stop()
        return problem

    def _printed(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-(1 << 18) :].decode("utf-8", "replace")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass
class Finding:
    """What a case showed.

    Attributes:
        reader: The reader.
        problem: What was wrong.
        where: The line of code it comes from.
        seed: The seed of the case's random numbers.
        count: Cases that showed it.
        kept: The archive with the case's files.
    """

    reader: str
    problem: str
    where: str
    seed: str
    count: int = 1
    kept: str | None = None


@dataclass
class Tally:
    """What became of a reader's cases."""

    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    most_mib: int = 0
    longest_s: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)


def fuzz_reader(
    name: str, seed: int, more: Callable[[int], bool], worker: Worker, folder: Path, out: Path | None = None
) -> Tally:
    """Give changed files to a reader.

    Args:
        name: Its name in `READERS`.
        seed: Decides the cases.
        more: Tells whether to go on, given the number of cases so far.
        worker: The process that reads them.
        folder: A folder for seeds and cases.
        out: The folder to keep findings in; None: none is kept.

    Returns:
        The counts and findings.

    Raises:
        ClaraError: The process that reads cases does not start.
    """
    reader, tally = READERS[name], Tally()
    seeds = folder / "seeds" / name
    reader.write_seeds(seeds)
    start = [_load(path) for path in sorted(seeds.iterdir())]
    worker.choose(name, seeds)
    started = time.monotonic()
    while more(tally.cases):
        case_seed = f"{seed}-{name}-{tally.cases}"
        before, changes = _choose(start, case_seed)
        files = _apply(reader, before, changes, start)
        outcome = _read(worker, files, folder / "case")
        tally.cases += 1
        tally.refused += outcome.refused
        tally.most_mib = max(tally.most_mib, outcome.mib)
        tally.longest_s = max(tally.longest_s, outcome.seconds)
        if outcome.problem is not None:
            _note(tally, Finding(name, outcome.problem, outcome.where, case_seed), worker, files, before, folder, out)
    tally.seconds = time.monotonic() - started
    return tally


def read_kept(archive: Path, worker: Worker, folder: Path) -> Outcome:
    """Read a kept case again. Returns how it ended."""
    with zipfile.ZipFile(archive) as kept:
        files = {name: kept.read(name) for name in kept.namelist()}
    return _read(worker, files, folder)


def _load(folder: Path) -> Files:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _choose(start: list[Files], seed: str) -> tuple[Files, list[str]]:
    """Return a seed's files, and the seeds of the changes to make."""
    rng = random.Random(seed)
    changes = min(_MOST_MUTATIONS, 1 + int(rng.expovariate(1.0)))
    return rng.choice(start), [f"{seed}-{number}" for number in range(changes)]


def _apply(reader: Reader, before: Files, changes: list[str], start: list[Files]) -> Files:
    files = dict(before)
    targets = [name for name in files if re.fullmatch(reader.targets, name)]
    for change in changes:
        rng = random.Random(change)
        target = rng.choice(targets)
        others = [content for other in start for name, content in other.items() if name != target]
        files[target] = mutate(files[target], target, others, rng)
    return reader.repair(files) if random.Random(changes[0]).random() < 0.8 else files


def _read(worker: Worker, files: Files, folder: Path) -> Outcome:
    with tempfile.TemporaryDirectory(dir=_made(folder)) as case:
        for name, content in files.items():
            path = Path(case) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return worker.read(Path(case))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kind(outcome: Outcome | Finding) -> str:
    """Return what findings of the same kind share."""
    problem = re.sub(r"0x[0-9a-f]+|\d+", "N", (outcome.problem or "").partition(":")[0])
    return f"{problem} at {outcome.where}"


def _note(
    tally: Tally, finding: Finding, worker: Worker, files: Files, before: Files, folder: Path, out: Path | None
) -> None:
    kind = _kind(finding)
    if kind in tally.findings:
        tally.findings[kind].count += 1
        return
    tally.findings[kind] = finding
    if out is None:
        return
    small = _shrink(files, before, lambda case: _kind(_read(worker, case, folder / "case")) == kind)
    path = out / finding.reader / f"{re.sub(r'[^A-Za-z0-9.]+', '-', kind)[:120].strip('-')}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as kept:
        for name, content in small.items():
            kept.writestr(zipfile.ZipInfo(name), content)
        kept.comment = json.dumps(asdict(finding)).encode()[:60_000]
    finding.kept = str(path)


def _shrink(files: Files, before: Files, fails: Callable[[Files], bool]) -> Files:
    """Return files that are closer to the seed, or shorter, and still fail."""
    small = dict(files)
    for name, candidate in islice(_simpler(files, before), _SHRINKING_CASES):
        if candidate is None or (len(candidate) > len(small[name]) and candidate != before.get(name)):
            continue
        if fails({**small, name: candidate}):
            small[name] = candidate
    return small


def _simpler(files: Files, before: Files) -> Iterator[tuple[str, bytes | None]]:
    changed = [name for name in files if files[name] != before.get(name)]
    for name in changed if len(changed) > 1 else ():
        yield name, before.get(name)
    for name in changed:
        content = files[name]
        for share in (0.25, 0.5, 0.75, 0.9):
            yield name, content[: int(len(content) * share)]
        original = before.get(name, b"")
        if len(original) == len(content):
            different = [at for at in range(len(content)) if content[at] != original[at]]
            for at in different[:16]:
                yield name, content[:at] + original[at : at + 1] + content[at + 1 :]
