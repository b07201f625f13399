"""`python -m trainer prepare`: a collection as it is published to a manifest, and recordings of one rate beside it."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np
import soundfile
from tqdm import tqdm

from clara_search.audio.decode import load_audio
from clara_search.cpu import core_count
from clara_search.datasets.dataset import Dataset
from clara_search.datasets.layouts import DatasetRow, read_dataset
from clara_search.errors import AudioError, OutputError, SourceError
from clara_search.files.atomic import atomic_path, atomic_write_text
from clara_search.files.paths import stat_file
from trainer.data.corpus import bounded_map

MANIFEST, LEFT_OUT, JOURNAL = "manifest.csv", "left-out.txt", ".prepared.jsonl"
FIRST_COLUMNS = ("path", "text", "speaker", "split", "fold", "language", "source", "duration_s")


@dataclass(frozen=True)
class Summary:
    """What `prepare` did: recordings in the manifest, how many of them were made now, how many were left out."""

    manifest: Path
    listed: int
    made: int
    left_out: int


def prepare(dataset: Dataset, source: Path, out: Path, rate: int = 16000, workers: int | None = None) -> Summary:
    """Bring the recordings of `dataset`, published in `source`, to mono FLAC of `rate` Hz in `out`, and list them.

    What was made before of a file of the same size and time is kept. The manifest is written last, whole. Raises
    SourceError where `source` is not laid out as declared or nothing in it can be used, and OutputError where `out`
    cannot be written.
    """
    rows = list(read_dataset(dataset, source))
    try:
        (out / "audio").mkdir(parents=True, exist_ok=True)
        known = _read_journal(out / JOURNAL)
        listed: list[dict[str, Any]] = []
        problems: list[str] = []
        made = 0
        work = _Work(source, out, rate, known)
        with (
            (out / JOURNAL).open("a", encoding="utf-8") as journal,
            ThreadPoolExecutor(workers or 2 * core_count()) as pool,
            tqdm(total=len(rows), desc=dataset.name, unit="", disable=None) as bar,
        ):
            journal.write("\n")  # ends a line that a run which was killed has begun
            for row, target, entry in bounded_map(pool, work.do, work.targets(rows), ahead=64):
                bar.update()
                if isinstance(entry, str):
                    problems.append(f"{row.name}: {entry}")
                    continue
                if known.get(target) != entry:
                    made += 1
                    _note(journal, target, entry)
                listed.append({"path": target, **row.columns, "duration_s": entry["duration_s"]})
        atomic_write_text(out / LEFT_OUT, "".join(f"{' '.join(line.split())}\n" for line in problems))
        if not listed:
            raise SourceError(f"{source}: no recording of {dataset.name} can be used; {out / LEFT_OUT} says why")
        _write_manifest(out / MANIFEST, listed, dataset)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error
    return Summary(out / MANIFEST, len(listed), made, len(problems))


_Entry = dict[str, Any]
"""Entry of a recording in the journal: size and version token of its source, rate in Hz, duration in seconds."""


@dataclass(frozen=True)
class _Work:
    source: Path
    out: Path
    rate: int
    known: Mapping[str, _Entry]

    def targets(self, rows: Iterable[DatasetRow]) -> Iterator[tuple[DatasetRow, str]]:
        """Yield each row with the path of what is made of it; two files that differ by their suffix alone stay two."""
        owners: dict[str, Path] = {}
        for row in rows:
            if row.audio is None:
                yield row, ""
                continue
            inside = PurePosixPath("audio") / row.audio.relative_to(self.source).as_posix()
            target = inside.with_suffix(".flac").as_posix()
            if owners.setdefault(target, row.audio) != row.audio:
                target = f"{inside.as_posix()}.flac"
            yield row, target

    def do(self, job: tuple[DatasetRow, str]) -> tuple[DatasetRow, str, _Entry | str]:
        """Return a row, its target and its entry in the journal, or why it has none; where it must, make the target."""
        row, target = job
        if row.audio is None:
            return row, target, "there is no such file"
        path = self.out / target
        try:
            stat = stat_file(row.audio, trust_young=True)
            entry = {"size": stat.size, "token": stat.token, "rate": self.rate}
            before = self.known.get(target, {})
            if entry.items() <= before.items() and path.is_file():
                return row, target, before
            waveform = load_audio(row.audio, self.rate)
        except (AudioError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return row, target, reason.removeprefix(f"{row.audio}: ").removeprefix(f"{row.audio.name}: ")
        own_suffix = f".{threading.get_ident()}.partial"  # a recording may be listed twice
        with atomic_path(path, own_suffix, sync=False) as partial:
            soundfile.write(partial, np.clip(waveform, -1.0, 1.0), self.rate, format="FLAC", subtype="PCM_16")
        return row, target, {**entry, "duration_s": round(len(waveform) / self.rate, 3)}


def _note(journal: TextIO, target: str, entry: _Entry) -> None:
    journal.write(json.dumps({"target": target, **entry}) + "\n")
    journal.flush()


def _read_journal(path: Path) -> dict[str, _Entry]:
    """Return the last entry of each target; a line that was cut short is passed over."""
    found: dict[str, _Entry] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                found[entry.pop("target")] = entry
            except (ValueError, KeyError, AttributeError):
                continue
    return found


def _write_manifest(path: Path, rows: list[dict[str, Any]], dataset: Dataset) -> None:
    others = [name for name in dataset.columns if name not in FIRST_COLUMNS]
    names = [name for name in (*FIRST_COLUMNS, *others) if any(name in row for row in rows)]
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
