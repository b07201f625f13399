"""Kaldi's `wav.scp`: lines of an utterance's name and the path of its recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clara_search.errors import FormatError
from clara_search.files.tables.lines import numbered_lines
from clara_search.files.tables.rows import Block, OnError, make_blocks

SCP_COLUMNS = ("utterance_id", "path")


def read_scp(path: str, report: OnError, encoding: str | None) -> Iterator[Block]:
    """Yield the rows of a `.scp` file. A line with a command, which ends in `|`, is reported and never run.

    Arguments and errors are those of `read_delimited`.
    """
    return make_blocks(SCP_COLUMNS, _rows(path, report, encoding))


def _rows(path: str, report: OnError, encoding: str | None) -> Iterator[tuple[int, Sequence[str]]]:
    for line in numbered_lines(path, encoding):
        cells = line.text.strip().split(maxsplit=1)
        where = f"{path}, line {line.number}"
        if line.error is not None:
            report(line.error)
        elif len(cells) == 2 and "|" in (cells[1][0], cells[1][-1]):
            report(FormatError(f"{where}: holds a command, which is not run: write what it gives to a file"))
        elif len(cells) == 2:
            yield line.number, cells
        elif cells:
            report(FormatError(f"{where}: expected the name of an utterance and a path"))
