"""Indexing that is killed again and again, beside the same left in peace: the rows have to be the same."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.report import markdown, out_option, publish
from clara_search.errors import ClaraError
from clara_search.models.base import Embeddings
from clara_search.store.database import Database
from indexer.pipeline import IndexResult, index
from indexer.write import writer as writing

WINDOW_S, HOP_S = 1.0, 0.5
_RATE = 16_000
_DIM = 64
_COMMIT_ROWS = 24
_SEED = 0


class SlowEncoder:
    """Embeds a clip by a fixed random projection of its spectrum, and takes its time: there is time to be killed in."""

    name = "slow-projection"
    fingerprint = hashlib.sha256(b"slow-projection").hexdigest()
    dim = _DIM
    sample_rate = _RATE
    pause_s = 0.004

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(_SEED).standard_normal((257, _DIM))

    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> Embeddings:
        """Return a unit vector for each of `waveforms`."""
        time.sleep(self.pause_s * len(waveforms))
        return np.concatenate([self._project(np.abs(np.fft.rfft(one, 512))) for one in waveforms])

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Return a unit vector for each of `texts`."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
        return np.concatenate([self._project(np.random.default_rng(seed).random(257)) for seed in seeds])

    def _project(self, spectrum: npt.NDArray[np.float64]) -> Embeddings:
        vector = np.log1p(spectrum)[None] @ self._matrix
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True, help="How often it is killed.")
@click.option("--files", type=click.IntRange(min=1), default=400, show_default=True, help="Recordings in the corpus.")
@click.option("--seed", default=_SEED, show_default=True, help="Of the moments of the kills.")
@out_option
def faults(kills: int, files: int, seed: int, out: Path | None) -> None:
    """Kill an indexing process with SIGKILL at random moments; print whether the rows end as without a kill.

    Between kills files are added, changed and renamed, and each run prunes; where a run ends before it is killed, the
    next begins with a table that is done but for what changed meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = torture(Path(folder), kills, files, seed)
    rows = [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in result.items()]
    publish({"benchmark": "faults", "seed": seed, **result}, markdown(["", "value"], rows), out)
    if not result["equal"]:
        raise ClaraError("the rows are not those of a run in peace")


def torture(folder: Path, kills: int, files: int, seed: int) -> dict[str, Any]:
    """Kill `kills` runs over a corpus of `files` recordings in `folder`; return what was counted and compared."""
    rng = random.Random(seed)
    corpus, killed_db = folder / "corpus", folder / "killed"
    for number in range(files // 2):
        write_clip(corpus / f"{number:05}.wav", rng)
    written, killed, ended = files // 2, 0, 0
    began = time.monotonic()
    while killed < kills:
        for _ in range(max(1, (files - written) // max(1, kills - killed))):
            if written < files:
                write_clip(corpus / f"{written:05}.wav", rng)
                written += 1
        _disturb(corpus, rng)
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tasks.faults", str(corpus), str(killed_db)]
        ) as process:
            _wait_until_it_works(process, killed_db)
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
    run(corpus, folder / "peace")
    disturbed, peaceful = rows_of(killed_db), rows_of(folder / "peace")
    ids = [row[0] for row in disturbed]
    return {
        "kills": killed,
        "runs that ended first": ended,
        "files": sum(1 for _ in corpus.iterdir()),
        "rows": len(disturbed),
        "rows in peace": len(peaceful),
        "rows twice": len(ids) - len(set(ids)),
        "embedded by another run": again.indexed,
        "equal": disturbed == peaceful and again.indexed == 0,
        "seconds": round(time.monotonic() - began),
    }


def run(corpus: Path, database: Path) -> IndexResult:
    """Index `corpus` into `database`, committing often."""
    writing._COMMIT_ROWS, writing._COMMIT_SHARE = _COMMIT_ROWS, 1.0
    return index([corpus], Database(database, create=True), SlowEncoder(), window_s=WINDOW_S, hop_s=HOP_S, prune=True)


def rows_of(database: Path) -> list[tuple[Any, ...]]:
    """Return all rows, sorted, with their vectors as bytes."""
    table = Database(database).table()
    columns = ["id", "uri", "start_s", "end_s", "content_hash", "vector"]
    rows = table.scan(columns).to_pylist()
    return sorted((*(row[name] for name in columns[:-1]), np.float32(row["vector"]).tobytes()) for row in rows)


def write_clip(path: Path, rng: random.Random, shortest_s: float = 1.0, longest_s: float = 3.0) -> None:
    """Write noise of a length between the two to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = round(rng.uniform(shortest_s, longest_s) * _RATE)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(samples)
    soundfile.write(path, 0.1 * noise.astype(np.float32), _RATE)


def _disturb(corpus: Path, rng: random.Random) -> None:
    """Change a file, rename one and delete one."""
    changed, renamed, deleted = rng.sample(sorted(corpus.iterdir()), 3)
    write_clip(changed, rng)
    renamed.rename(renamed.with_name(f"{rng.getrandbits(40):x}.wav"))
    deleted.unlink()


def _wait_until_it_works(process: subprocess.Popen[bytes], database: Path) -> None:
    """Wait until the process holds the database open, which takes it seconds, or has ended."""
    mark = database / "works"
    mark.unlink(missing_ok=True)
    while process.poll() is None and not mark.is_file():
        time.sleep(0.01)


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(exist_ok=True)
    (Path(sys.argv[2]) / "works").touch()
    run(Path(sys.argv[1]), Path(sys.argv[2]))
