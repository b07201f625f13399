"""Hits: what a search returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.retrieval.exact import RowPositions
from clara_search.retrieval.snapshot import Snapshot

_HIT_COLUMNS = ("id", "kind", "uri", "start_s", "end_s", "text", "language")


@dataclass(frozen=True)
class Hit:
    """A row that was found: `score` is its cosine with the query, rounded to six decimals, `rank` counts from 1."""

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
    """The further columns of the table."""

    def as_dict(self) -> dict[str, Any]:
        """Return what `search --json` prints: the further columns follow the others."""
        own = {name: getattr(self, name) for name in ("rank", "id", "score", *_HIT_COLUMNS[1:])}
        return {**own, **{name: value for name, value in self.extra.items() if name not in own}}


def build_hits(snapshot: Snapshot, positions: RowPositions, scores: npt.NDArray[np.float64]) -> list[Hit]:
    """Return the hits for rows of `snapshot` at `positions`, in this order, with their scores."""
    hits = []
    for rank, (row, score) in enumerate(zip(snapshot.rows(positions), scores, strict=True), start=1):
        own = {name: row.pop(name) for name in (*_HIT_COLUMNS, "content_hash")}
        del own["content_hash"]
        hits.append(Hit(rank=rank, score=float(score), **own, extra=row))
    return hits
