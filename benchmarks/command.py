"""`clara-search` in processes of its own, with an encoder that needs no model: `--model projection:512`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 0.05
_MODULES = ("indexer.pipeline", "indexer.commands", "clara_search.commands.db", "lance_namespace")
"""Imported once for all commands, with what they import. LanceDB is not: it starts a thread."""


@dataclass(frozen=True)
class Process:
    """A command that has ended, and what it took.

    Attributes:
        output: What it wrote to stdout.
        seconds: Wall time.
        cpu_s: Seconds of processor time.
        resident_bytes: Most memory in use.
        most_files: Most files of the watched folder at any time.
        most_bytes: Most bytes of the watched folder at any time.
    """

    output: str
    seconds: float
    cpu_s: float
    resident_bytes: int
    most_files: int
    most_bytes: int


class Commands:
    """Runs `clara-search`, each command in a process that is forked from one with its imports."""

    def __init__(self, server: subprocess.Popen[str]):
        self._server = server

    def run(self, arguments: Sequence[str], watched: Path, environment: Mapping[str, str]) -> Process:
        """Run a command to its end, and look at a folder many times a second meanwhile.

        Args:
            arguments: Its arguments.
            watched: The folder to look at, which need not exist.
            environment: Further variables of its environment.

        Returns:
            What it wrote and took.

        Raises:
            RuntimeError: It failed.
        """
        footprints = list[tuple[int, int]]()
        has_ended = threading.Event()

        def watch() -> None:
            while not has_ended.wait(_LOOK_S):
                footprints.append(footprint(watched))

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps([list(arguments), dict(environment)]), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        has_ended.set()
        watcher.join()
        code, output, seconds, cpu_s, resident_bytes = json.loads(answer or '[1, "", 0, 0, 0]')
        if code:
            raise RuntimeError(f"clara-search {' '.join(arguments)}: exit code {code}")
        footprints.append(footprint(watched))
        most_files, most_bytes = (max(counts) for counts in zip(*footprints, strict=True))
        return Process(output, seconds, cpu_s, resident_bytes, most_files, most_bytes)


@contextmanager
def commands(clock: Path | None = None) -> Iterator[Commands]:
    """Yield a runner of commands, whose clock is ahead by CLOCK_AHEAD_S of their environment if there is a `clock`."""
    environment = os.environ | ({"LD_PRELOAD": str(clock)} if clock else {})
    arguments = [sys.executable, "-m", "benchmarks.command"]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        yield Commands(server)


def compile_clock(folder: Path) -> Path:
    """Compile the clock that goes ahead by the environment's CLOCK_AHEAD_S, for LD_PRELOAD; return the library.

    Raises:
        OSError: There is no C compiler.
    """
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def footprint(folder: Path) -> tuple[int, int]:
    """Return number and bytes of the files below a folder, which may change meanwhile."""
    files = size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - many, as strings
            except FileNotFoundError:
                continue
            files += 1
    return files, size


def main() -> None:
    """Run the commands that stdin lists, and write exit code, output and costs of each to stdout."""
    for module in _MODULES:
        __import__(module)
    for line in sys.stdin:
        arguments, environment = json.loads(line)
        started_at = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            if not (child := os.fork()):
                os.dup2(output.fileno(), 1)
                os.environ.update(environment)
                _run(arguments)
            _, status, usage = os.wait4(child, 0)
            seconds, cpu_s = time.monotonic() - started_at, usage.ru_utime + usage.ru_stime
            output.seek(0)
            spent = [round(seconds, 3), round(cpu_s, 3), usage.ru_maxrss * 1024]
            print(json.dumps([os.waitstatus_to_exitcode(status), output.read(), *spent]), flush=True)


def _run(arguments: list[str]) -> None:
    """Run a command in this process, which ends."""
    from clara_search.commands.main import main as clara_search
    from clara_search.models.registry import ENCODERS

    ENCODERS["projection"] = "benchmarks.stand_ins:ProjectionEncoder"
    code = 1
    try:
        clara_search(arguments, prog_name="clara-search")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
