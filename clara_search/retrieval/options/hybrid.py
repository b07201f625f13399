"""The option `hybrid`: rows ranked also by the words of their texts."""

from __future__ import annotations

from typing import ClassVar

DEFAULT_TEXT_WEIGHT = 0.5


class Hybrid:
    """Ranks rows by their vectors and by the words of their captions and transcripts."""

    help: ClassVar[str] = "Rank also by the words of captions and transcripts."
    metavar: ClassVar[str | None] = None
    text_weight: float | None = None

    def __init__(self, value: bool) -> None:
        self.text_weight = DEFAULT_TEXT_WEIGHT if value else None
