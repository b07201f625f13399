"""Conversion of a published dataset to a manifest and recordings of one rate."""

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
from clara_search.errors import AudioError, FormatError, OutputError, SourceError
from clara_search.files.atomic import atomic_path, atomic_write_text
from clara_search.files.json_reader import parse_object
from clara_search.files.paths import stat_file
from clara_search.files.tables.formulas import guarded
from trainer.data.corpus import bounded_map

MANIFEST_FILE, SKIPPED_FILE, JOURNAL_FILE = "manifest.csv", "left-out.txt", ".prepared.jsonl"
FIRST_COLUMNS = ("path", "text", "speaker", "split", "fold", "language", "source", "duration_s")


@dataclass(frozen=True)
class Summary:
    """The result of `prepare`.

    Attributes:
        manifest: path of the manifest.
        listed: recordings in it; one with several captions has several rows.
        converted: those of them that this call converted.
        skipped: recordings that are missing or unreadable.
    """

    manifest: Path
    listed: int
    converted: int
    skipped: int


def prepare(dataset: Dataset, source: Path, out: Path, rate: int = 16000, workers: int | None = None) -> Summary:
    """Convert the recordings of a dataset to mono FLAC, and list them in a manifest, which is written last.

    A recording that was converted before, from a file of the same size and time, is kept.

    Args:
        dataset: declares the layout.
        source: folder of the dataset, as published.
        out: folder to write to.
        rate: of the recordings to write, in Hz.
        workers: recordings decoded at a time; two a core by default.

    Raises:
        SourceError: `source` is not laid out as declared, or nothing in it can be used.
        OutputError: `out` cannot be written.
    """
    rows: dict[Path | str, list[DatasetRow]] = {}
    for row in read_dataset(dataset, source):  # a recording with several captions has several
        rows.setdefault(row.audio or row.name, []).append(row)
    firsts = [of_recording[0] for of_recording in rows.values()]
    try:
        (out / "audio").mkdir(parents=True, exist_ok=True)
        known = _read_journal(out / JOURNAL_FILE)
        listed: list[dict[str, Any]] = []
        problems: list[str] = []
        converted = 0
        converter = _Converter(source, out, rate, known)
        with (
            (out / JOURNAL_FILE).open("a", encoding="utf-8") as journal,
            ThreadPoolExecutor(workers or 2 * core_count()) as pool,
            tqdm(total=len(firsts), desc=dataset.name, unit="", disable=None) as bar,
        ):
            journal.write("\n")  # ends the partial line of a killed run
            for row, target, entry in bounded_map(pool, converter.convert, converter.targets(firsts), prefetch=64):
                bar.update()
                if isinstance(entry, str):
                    problems.append(f"{row.name}: {entry}")
                    continue
                if known.get(target) != entry:
                    converted += 1
                    _append_entry(journal, target, entry)
                facts = {"duration_s": entry["duration_s"]}
                listed += [{"path": target, **x.columns, **facts} for x in rows[row.audio or row.name]]
        atomic_write_text(out / SKIPPED_FILE, "".join(f"{' '.join(line.split())}\n" for line in problems))
        if not listed:
            raise SourceError(f"{source}: no recording of {dataset.name} can be used; {out / SKIPPED_FILE} says why")
        _write_manifest(out / MANIFEST_FILE, listed, dataset)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error
    return Summary(out / MANIFEST_FILE, len({row["path"] for row in listed}), converted, len(problems))


_Entry = dict[str, Any]
"""Entry of a recording in the journal: size and version token of its source, rate in Hz, duration in seconds."""


@dataclass(frozen=True)
class _Converter:
    source: Path
    out: Path
    rate: int
    known: Mapping[str, _Entry]

    def targets(self, rows: Iterable[DatasetRow]) -> Iterator[tuple[DatasetRow, str]]:
        """Yield each row with the path to write; files that differ only by their suffix get different paths."""
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

    def convert(self, job: tuple[DatasetRow, str]) -> tuple[DatasetRow, str, _Entry | str]:
        """Write the target of a row unless it is up to date; return both with its journal entry, or with a problem."""
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
        own_suffix = f".{threading.get_ident()}.partial"  # two rows may name one recording
        with atomic_path(path, own_suffix, sync=False) as partial:
            soundfile.write(partial, np.clip(waveform, -1.0, 1.0), self.rate, format="FLAC", subtype="PCM_16")
        return row, target, {**entry, "duration_s": round(len(waveform) / self.rate, 3)}


def _append_entry(journal: TextIO, target: str, entry: _Entry) -> None:
    journal.write(json.dumps({"target": target, **entry}) + "\n")
    journal.flush()


def _read_journal(path: Path) -> dict[str, _Entry]:
    """Return the last entry of each target; partial lines are skipped."""
    entries: dict[str, _Entry] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = parse_object(line, path)
                entries[entry.pop("target")] = entry
            except (FormatError, KeyError):
                continue
    return entries


def _write_manifest(path: Path, rows: list[dict[str, Any]], dataset: Dataset) -> None:
    others = [name for name in dataset.columns if name not in FIRST_COLUMNS]
    names = [name for name in (*FIRST_COLUMNS, *others) if any(name in row for row in rows)]
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: guarded(value) for name, value in row.items()} for row in rows)
