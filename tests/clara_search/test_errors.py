"""Errors are one line that a person reads."""

from __future__ import annotations

import pytest

from clara_search.errors import LONGEST_MESSAGE, ClaraError, FormatError


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb\n", "x" * 10**6, "\n" * 5000])
def test_an_error_is_one_short_line_whatever_it_quotes(text: str) -> None:
    shown = str(FormatError(f"file.json: expected a number, got {text}; mend it"))
    assert "\n" not in shown
    assert "\r" not in shown
    assert len(shown) <= LONGEST_MESSAGE
    assert shown.startswith("file.json: expected")
    assert shown.endswith("; mend it")


def test_a_usual_message_stays_as_it_is() -> None:
    assert str(ClaraError("a: is missing")) == "a: is missing"
