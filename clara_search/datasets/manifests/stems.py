"""Recordings that a manifest names without their suffix, as FSD50K and LJ Speech do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from clara_search.datasets.manifests.names import MAYBE_PATH_NAMES, PATH_NAMES, looks_like_audio_name, squash
from clara_search.datasets.manifests.rows import ManifestRow
from clara_search.errors import ClaraError
from clara_search.files.paths import is_url
from clara_search.files.tables import DELIMITED_SUFFIXES, read_lines

USUAL_FOLDERS = ("wavs", "wav", "audio", "clips", "recordings", "sounds")
"""Folders beside a manifest in which recordings lie."""

BARE_COLUMNS = ("path", "text", "normalized_text")
"""The columns of a table without a header, as LJ Speech has them."""


class Stems:
    """The audio files beside a manifest, and in the usual folders beside it, by their names without a suffix.

    Args:
        source: The manifest; one at a URL or in memory has none.
    """

    def __init__(self, source: object) -> None:
        self._file = Path(source) if isinstance(source, str) and not is_url(source) else None

    def bare_columns(self) -> tuple[str, ...]:
        """Return the columns of a CSV file without a header, whose first line names a recording; else none."""
        if self._file is None or not str(self._file).lower().endswith(DELIMITED_SUFFIXES):
            return ()
        try:
            cells = next(read_lines(str(self._file)), "").rstrip("\r\n").split("|")
        except (ClaraError, OSError):  # its reader says why
            return ()
        is_named = squash(cells[0]) in (*PATH_NAMES, *MAYBE_PATH_NAMES)
        if not 2 <= len(cells) <= len(BARE_COLUMNS) or is_named or not self._find(cells[0].strip()):
            return ()
        return BARE_COLUMNS[: len(cells)]

    def are_names(self, values: Sequence[Any]) -> bool:
        """Tell whether at least half of the values name one of the files each."""
        found = sum(isinstance(value, (str, int)) and len(self._find(str(value))) == 1 for value in values)
        return found > 0 and 2 * found >= len(values)

    def resolve(self, row: ManifestRow) -> ManifestRow:
        """Return a row with the path of the file that it names without a suffix, or with what is wrong with it."""
        path = row.path
        if self._file is None or path is None or row.content is not None or looks_like_audio_name(path) or is_url(path):
            return row
        if len(found := self._find(path)) == 1:
            return row._replace(path=found[0])
        if not found and (not self._paths or "\0" in path or os.path.lexists(self._file.parent / path)):
            return row
        folders = ", ".join(USUAL_FOLDERS)
        reason = (
            f"{path!r} is the name of several audio files, {' and '.join(found)}"
            if found
            else f"no audio file {path}.* lies beside the manifest or in its folder {folders}"
        )
        return ManifestRow(row.line, problem=f"{reason}: name the file with its suffix")

    def _find(self, stem: str) -> Sequence[str]:
        return self._paths.get(stem, ())

    @cached_property
    def _paths(self) -> dict[str, list[str]]:
        paths = dict[str, list[str]]()
        if self._file is None:
            return paths
        for folder in ("", *USUAL_FOLDERS):
            try:
                names = sorted(path.name for path in (self._file.parent / folder).iterdir())
            except OSError:
                continue
            for name in filter(looks_like_audio_name, names):
                paths.setdefault(name.rpartition(".")[0], []).append(f"{folder}/{name}" if folder else name)
        return paths
