"""A query: a unit vector, and what it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clara_search.models.base import Embeddings


@dataclass(frozen=True, eq=False)
class Query:
    """What a search asks for.

    Attributes:
        vector: Unit vector, shape (dim,).
        modality: What the vector was made of: a "text", "audio", or "mixed" where both were combined; None for a vector
            that the caller brought.
        label: The text, the name of the recording or the id, to show beside the hits.
        warnings: What is wrong with the query, a line each, such as that its recording is silent.
        words: The text whose words a hybrid search looks up; "" for a query without one.
        exclude: Ids of rows that are no hits: those that the query was made of.
    """

    vector: Embeddings
    modality: Literal["text", "audio", "mixed"] | None = None
    label: str = ""
    warnings: tuple[str, ...] = ()
    words: str = ""
    exclude: frozenset[str] = frozenset()
