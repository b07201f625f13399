"""Indexing that is killed again and again must end with the rows of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import ProjectionEncoder, write_noise
from clara_search.errors import ClaraError
from clara_search.store.database import Database
from indexer.pipeline import IndexResult, index
from indexer.write import writer as writing

WINDOW_S, HOP_S = 1.0, 0.5
_PAUSE_S = 0.004
"""Of the encoder for each clip, so that a run lasts long enough to be killed."""

_COMMIT_ROWS = 24
_SEED = 0


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True, help="Kills.")
@click.option("--files", type=click.IntRange(min=1), default=400, show_default=True, help="Recordings in the corpus.")
@click.option("--seed", default=_SEED, show_default=True, help="Of the random times of the kills.")
@out_option
def faults(kills: int, files: int, seed: int, out: Path | None) -> None:
    """Kill indexing at random times, and check the rows.

    The rows are compared with those of an undisturbed run, and the command fails if they differ. Between kills files
    are added, changed, renamed and deleted, and each run prunes.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = kill_repeatedly(Path(folder), kills, files, seed)
    rows = [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in result.items()]
    publish({"benchmark": "faults", "seed": seed, **result}, markdown(["", "value"], rows), out)
    if not result["equal"]:
        raise ClaraError("the rows differ from those of an undisturbed run")


def kill_repeatedly(folder: Path, kills: int, files: int, seed: int) -> dict[str, Any]:
    """Kill `kills` runs over a corpus of `files` recordings in `folder`; return counts and the comparison."""
    rng = random.Random(seed)
    corpus, killed_db = folder / "corpus", folder / "killed"
    for number in range(files // 2):
        write_noise(corpus / f"{number:05}.wav", rng)
    written, killed, ended = files // 2, 0, 0
    started = time.monotonic()
    while killed < kills:
        for _ in range(max(1, (files - written) // max(1, kills - killed))):
            if written < files:
                write_noise(corpus / f"{written:05}.wav", rng)
                written += 1
        _disturb(corpus, rng)
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tasks.faults", str(corpus), str(killed_db)]
        ) as process:
            _wait_until_ready(process, killed_db)
            time.sleep(rng.uniform(0.0, 2.0))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            elif process.returncode:
                raise ClaraError(f"a run after {killed} kills ended with {process.returncode}")
            else:
                ended += 1
                _disturb(corpus, rng)
    run(corpus, killed_db)
    again = run(corpus, killed_db)
    run(corpus, folder / "undisturbed")
    killed_rows, undisturbed_rows = rows_of(killed_db), rows_of(folder / "undisturbed")
    ids = [row[0] for row in killed_rows]
    return {
        "kills": killed,
        "runs that ended first": ended,
        "files": sum(1 for _ in corpus.iterdir()),
        "rows": len(killed_rows),
        "rows of an undisturbed run": len(undisturbed_rows),
        "rows twice": len(ids) - len(set(ids)),
        "embedded by one more run": again.indexed,
        "equal": killed_rows == undisturbed_rows and again.indexed == 0,
        "seconds": round(time.monotonic() - started),
    }


def run(corpus: Path, database: Path) -> IndexResult:
    """Index `corpus` into `database`, with many commits."""
    writing._COMMIT_ROWS, writing._COMMIT_SHARE = _COMMIT_ROWS, 1.0
    return index(
        [corpus],
        Database(database, create=True),
        ProjectionEncoder(_PAUSE_S),
        window_s=WINDOW_S,
        hop_s=HOP_S,
        prune=True,
    )


def rows_of(database: Path) -> list[tuple[Any, ...]]:
    """Return all rows, sorted, with their vectors as bytes."""
    table = Database(database).table()
    columns = ["id", "uri", "start_s", "end_s", "content_hash", "vector"]
    rows = table.scan(columns).to_pylist()
    return sorted((*(row[name] for name in columns[:-1]), np.float32(row["vector"]).tobytes()) for row in rows)


def _disturb(corpus: Path, rng: random.Random) -> None:
    """Change a file, rename one and delete one."""
    changed, renamed, deleted = rng.sample(sorted(corpus.iterdir()), 3)
    write_noise(changed, rng)
    renamed.rename(renamed.with_name(f"{rng.getrandbits(40):x}.wav"))
    deleted.unlink()


def _wait_until_ready(process: subprocess.Popen[bytes], database: Path) -> None:
    """Wait until the process has begun to index, after seconds of imports, or has ended."""
    mark = database / "ready"
    mark.unlink(missing_ok=True)
    while process.poll() is None and not mark.is_file():
        time.sleep(0.01)


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(exist_ok=True)
    (Path(sys.argv[2]) / "ready").touch()
    run(Path(sys.argv[1]), Path(sys.argv[2]))
