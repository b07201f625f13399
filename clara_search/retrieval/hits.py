"""Hits: the results of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.retrieval.exact import RowPositions
from clara_search.retrieval.snapshot import Snapshot

_HIT_COLUMNS = ("id", "kind", "uri", "start_s", "end_s", "text", "language")


@dataclass(frozen=True, repr=False)
class Hit:
    """A row of the table that a search returned.

    Attributes:
        rank: 1 for the best.
        id: Id of the row, 32 hex digits.
        score: Cosine of the row and the query, rounded to six decimals.
        kind: "audio" for a window of a recording, "text" for a text.
        uri: Path or URL of the source.
        start_s: Start of the window in seconds; None for a text.
        end_s: End of the window in seconds; None for a text.
        text: The text of the row, or of the recording where one is known.
        language: Language of the text, such as "en".
        extra: The table's further columns.
    """

    rank: int
    id: str
    score: float
    kind: str
    uri: str
    start_s: float | None
    end_s: float | None
    text: str | None
    language: str | None
    extra: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ("rank", "score", "uri", "start_s", "end_s", "text", "language", "extra")
        values = {name: getattr(self, name) for name in names}
        shown = (f"{name}={value!r}" for name, value in values.items() if value is not None and value != {})
        return f"Hit({', '.join(shown)})"

    def __str__(self) -> str:
        span = "" if self.start_s is None or self.end_s is None else f"  {self.start_s:.1f}-{self.end_s:.1f} s"
        return f"{self.score:.3f}  {self.uri}{span}" + (f"  {self.text}" if self.text else "")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as `search --json` prints them.

        Returns:
            The columns of every table, then the further ones.
        """
        core = {name: getattr(self, name) for name in ("rank", "id", "score", *_HIT_COLUMNS[1:])}
        return {**core, **{name: value for name, value in self.extra.items() if name not in core}}


def build_hits(snapshot: Snapshot, positions: RowPositions, scores: npt.NDArray[np.float64]) -> list[Hit]:
    """Build the hits of one query.

    Args:
        snapshot: The table.
        positions: Positions of the rows, best first, shape (k,).
        scores: Their scores, shape (k,).

    Returns:
        The hits, in this order.
    """
    hits = []
    for rank, (row, score) in enumerate(zip(snapshot.rows(positions), scores, strict=True), start=1):
        core = {name: row.pop(name) for name in (*_HIT_COLUMNS, "content_hash")}
        del core["content_hash"]
        hits.append(Hit(rank=rank, score=float(score), **core, extra=row))
    return hits
