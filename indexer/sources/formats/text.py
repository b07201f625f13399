"""Text files: each line that is not blank is an item."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clara_search.datasets.manifests.names import looks_like_audio_name
from clara_search.errors import FormatError
from clara_search.files.tables import read_lines
from indexer.sources.base import Selection, SourceReader
from indexer.sources.item import Item, Survey

_CELLS = re.compile(r"[|\t]")


class TextReader(SourceReader):
    """UTF-8 text files."""

    suffixes = frozenset({".txt"})

    def survey(self, path: str, selection: Selection) -> Survey:
        """Count the lines that are not blank, also of a URL. Raises FormatError if all name recordings."""
        count, names, cells = 0, 0, 1
        for item in self.items(path, selection):
            count += 1
            first = _CELLS.split(item.text or "", maxsplit=1)
            names += looks_like_audio_name(first[0].strip())
            cells = max(cells, len(first))
        if names == count and cells == 1:
            raise FormatError(
                f"{path}: each line is the name of a recording, and none a text: write 'path' into a first line and "
                "name the file .csv"
            )
        if names == count:
            raise FormatError(
                f"{path}: each line begins with the name of a recording: write the names of the columns, such as "
                "path|text, into a first line and name the file .csv"
            )
        return Survey(count, {})

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the lines that are not blank. Raises FormatError if there are none."""
        is_empty = True
        for number, line in enumerate(read_lines(path), start=1):
            if text := line.strip():
                is_empty = False
                yield Item(path, "text", f"{path}#L{number}", number, text)
        if is_empty:
            raise FormatError(f"{path}: holds no text")
