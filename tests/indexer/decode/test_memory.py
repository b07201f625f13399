"""The memory of a decoding process, beyond what it takes at its start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

PROGRAM = """
from clara_search.files.limits import MIB, set_limits
from indexer.decode.memory import limit_memory
from indexer.decode.read import failure_reason
set_limits({"decoder_bytes": 300 * MIB})
assert limit_memory()
kept = bytearray(200 * MIB)
try:
    bytearray(200 * MIB)
except MemoryError as error:
    print(failure_reason(error, "a.wav"))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell the size of a process")
def test_a_process_gets_no_more_than_its_limit_and_says_so() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
    )
    assert printed.stdout == "takes more memory than there is; a decoding process has at most 314,572,800 bytes\n"
