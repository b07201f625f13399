"""A program that reads cases, one after the other, under limits: a crash or a hang costs the process and one case.

Reads one JSON object a line, `{"reader": ..., "folder": ...}`, and writes one a line: an `Outcome`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.memory import memory_mib, reset_peak

MOST_MIB = 600
MOST_SECONDS = 10.0
_ADDRESS_SPACE = 3 << 30
"""Beyond the start: what takes more is ended by the system before the machine suffers."""

_OWN_PACKAGES = ("clara_search", "indexer")


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        problem: What is wrong with that; None where it was read, or refused by an error of one line.
        where: The line of code that a problem comes from.
        refused: Whether it was refused.
        mib: Memory beyond what the process had before.
        seconds: Processor time.
        error: The error by which it was refused.
    """

    problem: str | None
    where: str
    refused: bool
    mib: int
    seconds: float
    error: str = ""


def read_case(reader: str, folder: Path) -> Outcome:
    """Read a case in this process, and judge how that ended."""
    from benchmarks.fuzzing.readers import READERS
    from clara_search.errors import LONGEST_MESSAGE, ClaraError

    problem, where, refused, said = None, "", False, ""
    before = 0
    with contextlib.suppress(OSError):
        reset_peak()
        before = memory_mib("VmRSS")
    started = time.process_time()
    try:
        READERS[reader].read(folder)
    except ClaraError as error:
        refused, said = True, str(error)
        where = _where(error)
        if "\n" in str(error):
            problem = f"an error of several lines: {str(error)[:300]}"
        if len(str(error)) > LONGEST_MESSAGE:
            problem = f"an error of {len(str(error)):,} characters: {str(error)[:300]}"
    except BaseException as error:  # whatever else there is, panics of Rust included, is what is looked for
        where = _where(error)
        problem = f"{type(error).__name__}: {str(error)[:300]}"
    seconds, mib = time.process_time() - started, 0
    with contextlib.suppress(OSError):
        mib = memory_mib("VmHWM") - before
    if problem is None and mib > MOST_MIB:
        problem, where = f"took {mib} MiB", where or "memory"
    if problem is None and seconds > MOST_SECONDS:
        problem, where = f"took {seconds:.1f} s of processor time", where or "time"
    return Outcome(problem, where, refused, mib, round(seconds, 3), said)


def _where(error: BaseException) -> str:
    """Return the innermost line of the product's own code that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).parent.parent.parent
    own = [f for f in frames if Path(f.filename).is_relative_to(root) and ".venv" not in f.filename]
    own = [f for f in own if Path(f.filename).relative_to(root).parts[0] in _OWN_PACKAGES] or own
    if not own:
        return type(error).__name__
    return f"{Path(own[-1].filename).relative_to(root)}:{own[-1].name}"


def limit_address_space(is_limited: bool) -> None:
    """Limit what this process may take beyond what it has, or lift the limit, where the system can."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + _ADDRESS_SPACE if is_limited else hard
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return


def refuse_network() -> None:
    """Let no case reach a network: names in data would."""
    import socket

    def refuse(*_: object) -> None:
        raise OSError("the network is not reached while fuzzing")

    socket.socket.connect = refuse  # type: ignore[method-assign]


def main() -> None:
    """Read cases from stdin until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to where errors go
    refuse_network()
    for line in sys.stdin:
        case = json.loads(line)
        if "warm" in case:  # imports and pools of threads are no part of a case
            limit_address_space(is_limited=False)
            outcomes = [read_case(case["reader"], Path(folder)) for folder in case["warm"]]
            outcome = next((one for one in outcomes if one.problem or one.refused), Outcome(None, "", False, 0, 0.0))
            limit_address_space(is_limited=True)
        else:
            outcome = read_case(case["reader"], Path(case["folder"]))
        answers.write(json.dumps(asdict(outcome)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
