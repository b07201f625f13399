"""Folders that Hugging Face's `datasets` saved with `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara_search.errors import FormatError
from clara_search.files.gate import RefusedUri, child_of
from clara_search.files.json_reader import read_json
from clara_search.files.paths import is_url, suffix_of
from clara_search.files.tables import COLUMNAR_SUFFIXES
from indexer.sources.base import Selection, SourceReader
from indexer.sources.formats.manifest import ManifestReader
from indexer.sources.item import Item, Survey, merge_surveys

_STATE, _SPLITS = "state.json", "dataset_dict.json"


class SavedDatasetReader(SourceReader):
    """Folders with a `state.json` or a `dataset_dict.json`: their Arrow files are manifests."""

    _manifests = ManifestReader()

    def accepts(self, path: str) -> bool:
        """Tell whether `path` is such a folder."""
        return not is_url(path) and any((Path(path) / name).is_file() for name in (_STATE, _SPLITS))

    def survey(self, path: str, selection: Selection) -> Survey:
        """Count and type the rows of all Arrow files."""
        surveys = [self._manifests.survey(file, selection) for file in self.listed_files(path)]
        return merge_surveys(surveys)

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the rows of all Arrow files."""
        for file in self.listed_files(path):
            yield from self._manifests.items(file, selection)

    def listed_files(self, path: str) -> list[str]:
        """Return the Arrow files of all splits. Raises FormatError if the folder is broken."""
        files = _arrow_files(Path(path))
        for file in files:
            if suffix_of(file) not in COLUMNAR_SUFFIXES:
                raise FormatError(f"{path}: {file} is no Arrow file")
        return files


def _arrow_files(folder: Path) -> list[str]:
    try:
        if (folder / _SPLITS).is_file():
            splits = read_json(folder / _SPLITS)["splits"]
            folders = [child_of(folder, split) for split in splits]
            if not all((split / _STATE).is_file() for split in folders):
                raise FormatError(f"{folder}: one of the splits {', '.join(splits)} is missing")
            if len(set(folders)) < len(folders):
                raise FormatError(f"{folder}: one of the splits {', '.join(splits)} is listed twice")
            return [file for split in folders for file in _files_of(split)]
        return _files_of(folder)
    except (OSError, KeyError, TypeError, RefusedUri) as error:
        raise FormatError(f"{folder}: not a data set that can be read ({error})") from error


def _files_of(folder: Path) -> list[str]:
    """Return the Arrow files of a split, which has no splits of its own. Raises as `read_json` and `child_of` do."""
    entries = read_json(folder / _STATE)["_data_files"]
    return [str(child_of(folder, entry["filename"])) for entry in entries]
