"""Signals: the first one lets a run commit its batch, the second one ends it at once, and the next run continues."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import pytest

from clara_search.store.database import Database
from indexer.pipeline import index
from tests.helpers import ToneEncoder

SLOW_RUN = """
import sys, time
import clara_search.models.registry
from tests.helpers import ToneEncoder
from indexer.embed import batches
batches._BATCH_WINDOWS = 32
class Slow(ToneEncoder):
    def encode_audio(self, waveforms):
        print("encoding", file=sys.__stdout__, flush=True)
        time.sleep(float(sys.argv[3]))
        return super().encode_audio(waveforms)
clara_search.models.registry.load_encoder = lambda *a, **k: Slow()
from clara_search.commands.main import main
main(["index", sys.argv[1], "--db", sys.argv[2]])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "pause_s", "message"),
    [
        ([signal.SIGINT], 0.3, "Finishing the current batch; Ctrl-C again stops at once."),
        ([signal.SIGTERM], 0.3, "SIGTERM: finishing the current batch; a second signal stops at once."),
        ([signal.SIGTERM, signal.SIGINT], 30, "SIGTERM: finishing the current batch; a second signal stops at once."),
    ],
)
def test_a_signal_finishes_the_batch_and_says_how_to_go_on_and_a_second_one_stops_at_once(
    tmp_path: Path, many: Path, signals: list[signal.Signals], pause_s: float, message: str
) -> None:
    command = [sys.executable, "-c", SLOW_RUN, str(many), str(tmp_path / "db"), str(pause_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "encoding\n"
        for number in signals:
            process.send_signal(number)
            time.sleep(0.2)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signals[-1]
    assert message in err
    assert ("Stopped. All finished work is committed" in err) == (len(signals) == 1)
    assert ("Stopped at once" in err) == (len(signals) == 2)
    assert "Traceback" not in err
    rows = Database(tmp_path / "db").table().count()
    assert (0 < rows < 100) == (len(signals) == 1)
    assert index([many], tmp_path / "db", ToneEncoder()).rows == 100


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_commits_its_batch(tmp_path: Path, many: Path) -> None:
    terminal, its_end = pty.openpty()
    started = tmp_path / "started"
    code = SLOW_RUN.replace(
        'print("encoding", file=sys.__stdout__, flush=True)', f"open({str(started)!r}, 'w').close()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(many), str(tmp_path / "db"), "0.3"],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0),
    )
    os.close(its_end)
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.close(terminal)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert 0 < Database(tmp_path / "db").table().count() < 100
