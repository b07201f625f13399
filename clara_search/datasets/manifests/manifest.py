"""A manifest: a table that is surveyed once, so that its rows can then be read right in one pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal

from clara_search.datasets.manifests.captions import Recurrences, gather_texts, merge_captions
from clara_search.datasets.manifests.columns import DEFAULT_COLUMNS, Layout, ManifestColumns
from clara_search.datasets.manifests.names import looks_like_audio_name
from clara_search.datasets.manifests.naming import Naming
from clara_search.datasets.manifests.rows import ManifestRow, parse_row
from clara_search.datasets.manifests.stems import Stems
from clara_search.errors import ClaraError, FormatError
from clara_search.files.tables import Block, OnError, TableSource, raise_error, read_blocks
from clara_search.text.printable import printable

_log = logging.getLogger(__name__)

Visit = Callable[[Block, Layout], None]


class Manifest:
    """A table of recordings and texts, whatever its columns are called.

    `survey` reads it to its end: only then it is known which columns are what, and which recordings have several rows.
    `rows` surveys first, unless that was done.

    Args:
        source: Path or URL of the table, or an Arrow table.
        columns: What the user named.
        name: Its name in messages; None: the path.

    Attributes:
        name: Its name in messages.
        naming: What its columns are, as far as it was read.
        count: Number of rows that could be read; 0 before `survey`.
        has_captions: Whether a recording may have several texts.
    """

    def __init__(
        self, source: TableSource, columns: ManifestColumns = DEFAULT_COLUMNS, name: str | None = None
    ) -> None:
        self.name = name or str(source)
        self.count = 0
        self.has_captions = False
        self._source = source
        self._columns = columns
        self._stems = Stems(source)
        self.naming = Naming(self.name, columns, _say_once, self._stems.are_names)
        self._first_error: ClaraError | None = None
        self._scattered: dict[tuple[str, float | None, float | None], tuple[str, ...]] | None = None

    def survey(self, report: OnError = raise_error, visit: Visit | None = None) -> None:
        """Read the table to its end.

        Args:
            report: Called with the error of each line that is broken.
            visit: Called with each block of rows and what its columns are.

        Raises:
            FormatError: The table is broken as a whole, or has no column that names recordings or texts.
            ConfigError: A column that the user named is missing, or several could name the recordings.
            SourceError: The table cannot be read.
        """

        def note_error(error: ClaraError) -> None:
            self._first_error = self._first_error or error
            report(error)

        recurrences, texts = Recurrences(), 0
        self.count = 0
        for row in self._read(note_error, visit):
            self.count += 1
            self.has_captions |= len(row.texts) > 1
            if row.recording is not None:
                self.has_captions |= recurrences.add(row.recording)
            elif row.content is None and row.problem is None:
                texts += 1
        self._check(texts)
        if texts and self.naming.has_recordings:
            self.naming.tell(f"{texts:,} of {self.count:,} rows name no recording and are texts")
        hashes = recurrences.found() if self.naming.has_texts else frozenset()
        self._scattered = gather_texts(self._read(_ignore, None), hashes) if hashes else {}
        self.has_captions |= any(len(found) > 1 for found in self._scattered.values())

    def require_rows(self) -> None:
        """Raise FormatError, after `survey`, if there are no rows, or none that can be read."""
        if not self.count:
            raise self._first_error or FormatError(f"{self.name}: holds no rows")

    def require(self, *kinds: Literal["recordings", "texts"]) -> None:
        """Raise FormatError, as `survey` does too, unless the manifest has a column for each of `kinds`."""
        if self._scattered is None:
            self.survey(_ignore)
        present = {"recordings": self.naming.has_recordings, "texts": self.naming.has_texts}
        options = {"recordings": "path_column", "texts": "text_column"}
        if missing := [kind for kind in kinds if not present[kind]]:
            listed = ", ".join(self.naming.names)
            named = " and ".join(f"`{options[kind]}`" for kind in missing)
            raise FormatError(
                f"{self.name}: has no column of {' and none of '.join(missing)} (it has {listed}): name it with {named}"
                + self._suspected()
            )

    def rows(self, report: OnError = raise_error) -> Iterator[ManifestRow]:
        """Yield the rows; those of one recording with several texts are one row.

        Args:
            report: Called with the error of each line that is broken; rows that cannot be used have a problem.

        Raises:
            FormatError: As `survey` raises it.
            ConfigError: As `survey` raises it.
            SourceError: The table cannot be read.
        """
        if self._scattered is None:
            self.survey(_ignore)
        assert self._scattered is not None
        rows = self._read(report, None)
        yield from merge_captions(rows, self._scattered, self._report_difference) if self.naming.has_texts else rows

    def _read(self, report: OnError, visit: Visit | None) -> Iterator[ManifestRow]:
        header = self._stems.bare_columns()
        for block in read_blocks(self._source, report, self._columns.encoding, header):
            layout = self.naming.layout(block)
            if visit is not None:
                visit(block, layout)
            for line, values in zip(block.lines, block.rows, strict=True):
                yield self._stems.resolve(parse_row(line, values, layout))

    def _check(self, texts: int) -> None:
        self.naming.check_named()
        listed = ", ".join(self.naming.names) or "none"
        if header := next(filter(looks_like_audio_name, self.naming.names), None):
            raise FormatError(
                f"{self.name}: has no line with the names of its columns: its first line has {header!r}, a recording. "
                "Write one before it, such as path,text"
            )
        if not self.naming.has_recordings and not self.naming.has_texts:
            if self.naming.names:
                raise FormatError(
                    f"{self.name}: has no column that names recordings or holds texts (it has {listed}): "
                    f"name it with `path_column` or `text_column`{self._suspected()}"
                )
        elif not self.naming.has_recordings and self.naming.suspects and texts:
            raise FormatError(
                f"{self.name}: all rows would be texts, but a column holds names of recordings{self._suspected()}: "
                'name it with `path_column`, or give "" as `path_column` for texts alone'
            )

    def _suspected(self) -> str:
        return "".join(f"; '{name}' holds {value!r}" for name, value in self.naming.suspects.items())

    def _report_difference(self, column: str) -> None:
        self.naming.tell(
            f"rows of one recording differ in the column '{column}': the value of the first one is kept with all texts"
        )


@lru_cache(1000)
def _say_once(line: str) -> None:
    """Log a line; a manifest that is read several times says it once."""
    _log.warning("%s", printable(line))


def _ignore(error: ClaraError) -> None:
    pass
