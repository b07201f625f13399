"""The option `text_weight`: how much words count in a hybrid search."""

from __future__ import annotations

from typing import ClassVar

from clara_search.errors import QueryError


class TextWeight:
    """Makes a search a hybrid one in which words have this weight, and vectors the rest; 1: words alone."""

    help: ClassVar[str] = "Weight of the words in a hybrid search, 0 to 1; 1: by words alone. Default: 0.5."
    metavar: ClassVar[str | None] = "SHARE"
    text_weight: float | None = None

    def __init__(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise QueryError(f"text_weight must lie between 0 and 1, got {value}")
        self.text_weight = value
