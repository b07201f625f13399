"""Text of other people on a terminal: what it hides is shown as escapes."""

from __future__ import annotations

import unicodedata

HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
"""Categories of characters that a terminal obeys, that turn a text around, or that no file can hold."""

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    r"""Return `text` on one line, with controls, bidirectional marks and lone surrogates as escapes such as `\x1b`."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_shown, shown))


def printable_lines(text: object) -> str:
    """Return `text` as `printable` does, with its lines and tabs."""
    return "".join(character if character in "\n\t" else printable(character) for character in str(text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in HIDDEN:
        return character
    code = ord(character)
    return _NAMED.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )
