"""Hits as files for other programs: Raven selection tables, Audacity label tracks, CSV, and the cut sounds.

Names and texts in hits may be a stranger's: no file is written outside the folder, and none of them breaks a format.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from clara_search.errors import AudioError, QueryError
from clara_search.files.atomic import atomic_path, make_folder
from clara_search.files.tables.formulas import guarded
from clara_search.retrieval.hits import Hit, Hits
from clara_search.retrieval.output.text import last_part, one_line

_LONGEST_NAME = 60
_LONGEST_NAME_BYTES = 180
"""In characters and in UTF-8, of which a name with its suffix may have 255."""

_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}
_HIGHEST_HZ = 8000  # what an encoder of 16 kHz hears
_RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")


@dataclass
class Exported:
    """What an export wrote.

    Attributes:
        files: The files.
        skipped: Hits that could not be written, a line each with the reason.
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def export_hits(results: Sequence[Hits], folder: str | Path, file_format: str) -> Exported:
    """Write hits to files.

    Args:
        results: The hits of each query; of several each gets a folder of its own.
        folder: The folder; files of the same names are replaced.
        file_format: "raven", "audacity", "csv" or "clips".

    Returns:
        The files, and the hits that none could be written of.

    Raises:
        QueryError: There is no such format.
        OutputError: A file cannot be written.
    """
    if file_format not in FORMATS:
        raise QueryError(f"no export format {file_format!r}: choose from {', '.join(FORMATS)}")
    exported = Exported()
    taken: set[str] = set()
    for number, hits in enumerate(results, start=1):
        label = hits.query.label if hits.query else ""
        home = Path(folder) if len(results) == 1 else Path(folder) / _free_name(f"{number:03d} {label}", "", taken)
        FORMATS[file_format](hits, make_folder(home), exported)
    return exported


def safe_name(name: str) -> str:
    """Return a name for a file that any system takes: one part of a path, no control characters, not too long."""
    kept = "".join(
        letter if letter.isalnum() or letter in "-_. " else "_" for letter in unicodedata.normalize("NFC", name)
    )
    kept = " ".join(kept.split()).strip(". ")[:_LONGEST_NAME]
    kept = kept.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore").strip(". ") or "recording"
    return f"_{kept}" if kept.partition(".")[0].upper() in _RESERVED else kept


def _free_name(name: str, suffix: str, taken: set[str]) -> str:
    """Return a safe name that is not in `taken`, in any letter case, and add it."""
    base = safe_name(name)
    number, free = 1, f"{base}{suffix}"
    while free.casefold() in taken:
        number += 1
        free = f"{base}-{number}{suffix}"
    taken.add(free.casefold())
    return free


def _write(path: Path, text: str, exported: Exported) -> None:
    with atomic_path(path, sync=False) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    exported.files.append(path)


def _by_recording(hits: Sequence[Hit], exported: Exported) -> dict[str, list[Hit]]:
    """Return the hits of each recording in the order of time; texts have none."""
    recordings: dict[str, list[Hit]] = {}
    for hit in hits:
        if hit.start_s is None or hit.end_s is None:
            exported.skipped.append(f"{one_line(hit.uri)}: a text has no time")
        else:
            recordings.setdefault(hit.uri, []).append(hit)
    return {uri: sorted(found, key=lambda hit: hit.start_s or 0.0) for uri, found in recordings.items()}


def _label(hit: Hit, hits: Hits) -> str:
    """Return what was found, for people: the query, or else the text of the row."""
    return one_line((hits.query.label if hits.query else "") or hit.text or "hit")


def _export_raven(hits: Hits, folder: Path, exported: Exported) -> None:
    taken: set[str] = set()
    for uri, found in _by_recording(hits, exported).items():
        lines = ["\t".join([*_RAVEN, "Begin File", "Score", "Query", "Text"])]
        for number, hit in enumerate(found, start=1):
            times = f"{hit.start_s:.6f}\t{hit.end_s:.6f}\t0\t{_HIGHEST_HZ}"
            texts = (last_part(uri), _label(hit, hits), hit.text or "")
            name, label, text = (guarded(one_line(part)) for part in texts)
            named = [name, f"{hit.score:.6f}", label, text]
            lines.append("\t".join([f"{number}\tSpectrogram 1\t1\t{times}", *named]))
        name = _free_name(PurePosixPath(last_part(uri)).stem, ".Table.1.selections.txt", taken)
        _write(folder / name, "\n".join(lines) + "\n", exported)


def _export_audacity(hits: Hits, folder: Path, exported: Exported) -> None:
    taken: set[str] = set()
    for uri, found in _by_recording(hits, exported).items():
        lines = [
            f"{hit.start_s:.6f}\t{hit.end_s:.6f}\t{guarded(f'{_label(hit, hits)} {hit.score:.3f}')}" for hit in found
        ]
        _write(
            folder / _free_name(PurePosixPath(last_part(uri)).stem, ".txt", taken), "\n".join(lines) + "\n", exported
        )


def _export_csv(hits: Hits, folder: Path, exported: Exported) -> None:
    rows = hits.to_dicts()
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(map(guarded, names))
    writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])
    _write(folder / "hits.csv", buffer.getvalue(), exported)


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return guarded(json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value)


def _export_clips(hits: Hits, folder: Path, exported: Exported) -> None:
    taken: set[str] = set()
    for hit in hits:
        start = "" if hit.start_s is None else f" {hit.start_s:.1f}s"
        stem = safe_name(PurePosixPath(last_part(hit.uri)).stem)
        try:
            exported.files.append(hit.save(folder / _free_name(f"{hit.rank:03d} {stem}{start}", ".wav", taken)))
        except (AudioError, QueryError) as error:
            exported.skipped.append(one_line(str(error)))


FORMATS: dict[str, Callable[[Hits, Path, Exported], None]] = {
    "raven": _export_raven,
    "audacity": _export_audacity,
    "csv": _export_csv,
    "clips": _export_clips,
}
