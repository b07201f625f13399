"""CSV and TSV: records of cells, whatever separates them; a broken line costs that line."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence

from clara_search.errors import ClaraError, FormatError
from clara_search.files.limits import ROW_BYTES
from clara_search.files.tables.formulas import unguarded
from clara_search.files.tables.lines import Line, numbered_lines
from clara_search.files.tables.rows import Block, OnError, check_width, make_blocks

_SEPARATORS = (",", ";", "\t", "|")
_LITERAL = ("\t", "|")
"""Separators of files whose quotes are usually part of the text, as Common Voice and LJ Speech write them."""

_LONGEST_RECORD = 1000
"""Lines of a cell in quotes. A quote that is not closed by then is a stray one, and its line is broken."""

_NUMBER_OF_CELLS = "{} cells, but {} columns"


def read_delimited(
    path: str, suffix: str, report: OnError, encoding: str | None, header: Sequence[str] = ()
) -> Iterator[Block]:
    """Yield the rows of a CSV or TSV file. Cells have no blanks around them; an empty one is None.

    An apostrophe that guards a cell against spreadsheets (`formulas.guarded`) is no part of it. Lines with `#` at
    the top are comments; the last of them is the header if it has several names (AudioSet).

    The separator is the suffix's own, or the one of `,`, `;`, tab and `|` that the header has instead. In files with
    tabs and `|`, quotes count as such only where they enclose a cell.

    Args:
        path: Path or URL.
        suffix: ".tsv" for a file that is separated by tabs, else ".csv".
        report: Called with the error of each broken line.
        encoding: As `numbered_lines` takes it.
        header: The columns of a file that is separated by `|` and has no line with their names.

    Raises:
        FormatError: The header is broken, or names a column twice.
        SourceError: The file cannot be read.
    """
    records = _Records(path, numbered_lines(path, encoding), "\t" if suffix == ".tsv" else ",", len(header))
    if header:
        yield from make_blocks(tuple(header), _rows(records, report))
        return
    records.skip_comments()
    first = next((record for record in records if record[1] or record[2]), None)
    if first is None:
        yield Block((), None, [], [])
        return
    line, cells, error = first
    if error is not None:
        raise error
    names = tuple(unguarded(name.strip()) for name in cells)
    check_width(names, path)
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise FormatError(f"{path}, line {line}: two columns have the same name, {twice!r}")
    records.width = len(names)
    yield from make_blocks(names, _rows(records, report))


def _rows(records: _Records, report: OnError) -> Iterator[tuple[int, Sequence[str | None]]]:
    for line, cells, error in records:
        if error is not None:
            report(error)
        elif cells:
            yield line, [unguarded(cell.strip()) or None for cell in cells]


_Record = tuple[int, Sequence[str], ClaraError | None]
"""Its line, its cells (none for a blank line), its error."""


class _Records:
    """The records of a file: the header, and after it those with `width` cells; the others with their error."""

    def __init__(self, path: str, lines: Iterator[Line], separator: str, width: int) -> None:
        self.width = width
        self._path = path
        self._lines = lines
        self._separator = "|" if width else separator
        self._again: deque[Line] = deque()
        """Lines that were read as the rest of a record which turned out to be broken."""

    def __iter__(self) -> Iterator[_Record]:
        while (line := self._next_line()) is not None:
            text = line.text
            if line.error is not None:
                yield line.number, (), line.error
            elif text.isspace():
                yield line.number, (), None
            elif not self.width:
                self._separator = _separator(text, self._separator)
                yield self._quoted_record(line)
            elif '"' not in text:
                yield self._fitted(line, text.rstrip("\r\n").split(self._separator))
            else:
                yield self._literal_record(line) or self._quoted_record(line)

    def skip_comments(self) -> None:
        """Leave out lines with `#` at the top, and the mark of the last one if it is the header."""
        last: Line | None = None
        while (line := self._next_line()) is not None and line.text.startswith("#"):
            last = line
        self._again.extend([] if line is None else [line])
        if last is not None and last.text.count(_separator(last.text, self._separator)):
            names = last.text[1:].lstrip()
            # A column may be called "#".
            is_marked = not names.startswith(_separator(last.text, self._separator))
            self._again.appendleft(last._replace(text=names) if is_marked else last)

    def _next_line(self) -> Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _literal_record(self, line: Line) -> _Record | None:
        """Return the record whose quotes are text, unless they enclose a whole cell; None where they are to count."""
        if self._separator not in _LITERAL:
            return None
        cells = [_unquoted(cell) for cell in line.text.rstrip("\r\n").split(self._separator)]
        return (line.number, cells, None) if len(cells) == self.width else None

    def _quoted_record(self, line: Line) -> _Record:
        """Return the record that starts on `line` and ends where its quotes are closed."""
        csv.field_size_limit(ROW_BYTES.value)
        read = [line]
        try:
            cells = next(
                csv.reader(
                    self._texts(read),
                    delimiter=self._separator,
                    strict=True,
                    skipinitialspace=f'{self._separator} "' in line.text,
                )
            )
            record = self._fitted(line, cells)
        except csv.Error as error:
            record = line.number, (), FormatError(f"{self._path}, line {line.number}: {error}")
        broken = next((other.error for other in read if other.error is not None), None)
        if broken is not None:
            return line.number, (), broken
        if record[2] is not None:  # a stray quote: what it swallowed is read on its own
            self._again.extendleft(reversed(read[1:]))
        return record

    def _texts(self, read: list[Line]) -> Iterator[str]:
        """Yield the texts of `read` and of the lines after it, which are added to it."""
        size = len(read[0].text)
        yield read[0].text
        while len(read) < _LONGEST_RECORD and size <= ROW_BYTES.value and (line := self._next_line()) is not None:
            read.append(line)
            size += len(line.text)
            yield line.text

    def _fitted(self, line: Line, cells: Sequence[str]) -> _Record:
        """Return a record with as many cells as the header; empty ones at its end may be too many."""
        if not self.width or len(cells) == self.width:
            return line.number, cells, None
        if len(cells) > self.width and not any(cell.strip() for cell in cells[self.width :]):
            return line.number, cells[: self.width], None
        message = _NUMBER_OF_CELLS.format(len(cells), self.width)
        return line.number, (), FormatError(f"{self._path}, line {line.number}: {message}")


def _separator(header: str, usual: str) -> str:
    """Return what separates the names of a header: the usual separator, unless only another one is there."""
    if usual in header:
        return usual
    return max((usual, *_SEPARATORS), key=header.count)


def _unquoted(cell: str) -> str:
    """Return what a cell in quotes holds; any other cell as it is."""
    bare = cell.strip()
    if len(bare) < 2 or not (bare.startswith('"') and bare.endswith('"')):
        return cell
    inner = bare[1:-1]
    return inner.replace('""', '"') if '"' not in inner.replace('""', "") else cell
