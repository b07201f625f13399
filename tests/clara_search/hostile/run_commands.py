"""A program: runs commands one after the other, and says what each printed, its exit code and its peak of memory.

Reads one JSON list of arguments a line, and writes one JSON object a line: a new process takes seconds to start.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

TIMEOUT_S = 120


def memory(name: str) -> int:
    """Return VmRSS or VmHWM of this process in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) >> 10


def run(arguments: list[str]) -> dict[str, object]:
    """Run a command; all that it and its libraries write goes to a file."""
    from clara_search.commands.main import main

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is that of this command
    before, code = memory("VmRSS"), 0
    with tempfile.TemporaryFile("w+b") as printed:
        streams = [os.dup(1), os.dup(2)]
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        try:
            main(arguments, prog_name="clara-search")
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = -1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream, number)
                os.close(stream)
        printed.seek(0)
        text = printed.read().decode("utf-8", "replace")
    return {"code": code, "text": text, "mib": memory("VmHWM") - before}


if __name__ == "__main__":
    for line in sys.stdin:
        faulthandler.dump_traceback_later(TIMEOUT_S, exit=True)
        print(json.dumps(run(json.loads(line))), flush=True)
        faulthandler.cancel_dump_traceback_later()
