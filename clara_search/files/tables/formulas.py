"""Cells of CSV and TSV that a spreadsheet would run: they are written with an apostrophe, and read without it.

Excel, LibreOffice and others take a cell that starts with one of `=+-@`, a tab or a line break for a formula, which can
send other cells to a server or start a program. OWASP's remedy is an apostrophe before it: the cell is shown as text.
"""

from __future__ import annotations

import re
from typing import Any

_STARTS = r"[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - full-width ones count in East Asia
_FORMULA = re.compile(f"'*{_STARTS}")
_GUARDED = re.compile(f"'+{_STARTS}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def guarded(value: Any) -> Any:
    """Return a value for a cell: a text that would be a formula with an apostrophe before it; numbers as they are."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unguarded(cell: str) -> str:
    """Return the text of a cell that `guarded` made, without blanks around it, and others as they are."""
    return cell[1:].strip() if cell[:1] == "'" and _GUARDED.match(cell) else cell
