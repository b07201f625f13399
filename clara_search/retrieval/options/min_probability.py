"""The option `min_probability`: drops hits that are probably no match."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clara_search.errors import QueryError

if TYPE_CHECKING:
    from clara_search.retrieval.hits import Hit


class MinProbability:
    """Keeps hits whose probability of being a match is not below a minimum; hits without one are dropped too."""

    help: ClassVar[str] = "Only hits that match with at least this probability."
    metavar: ClassVar[str | None] = "P"

    def __init__(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise QueryError(f"min_probability must lie between 0 and 1, got {value}")
        self.min_probability = value

    def apply(self, hits: list[Hit]) -> list[Hit]:
        """Return the hits that are probable enough."""
        return [hit for hit in hits if (hit.probability or 0.0) >= self.min_probability]
