"""Combine what a search is given: texts, recordings, vectors and ids, with weights, for one query or for several."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from clara_search.errors import QueryError
from clara_search.models.base import Encoder
from clara_search.retrieval.options.registry import SearchOptions
from clara_search.retrieval.queries.arrays import Audio, to_array, to_unit_vectors
from clara_search.retrieval.queries.embedding import audio_query, text_query
from clara_search.retrieval.query import Query
from clara_search.store.schema import TableInfo

Weighted = str | tuple[str, float]
"""A text with its weight, 1 where none is given."""

_WEIGHTED = re.compile(r"(?P<text>.*\S)\s*:(?P<weight>\d(\.\d+)?|\.\d+)", re.DOTALL)


class SearchArguments(SearchOptions, total=False):
    """The keywords of `Index.search` beside what is searched by."""

    vector: object
    plus: Weighted | Sequence[Weighted]
    minus: Weighted | Sequence[Weighted]
    k: int
    offset: int
    sample_rate: int | None
    language: str | None
    exact: bool


@dataclass(frozen=True)
class QueryMaker:
    """Makes queries for tables of one encoder.

    Attributes:
        encoder: Loads the encoder.
        info: The windows of the table.
        by_id: Returns the query for the row of an id.
    """

    encoder: Callable[[], Encoder]
    info: TableInfo
    by_id: Callable[[str], Query]

    def make(
        self,
        texts: str | Iterable[str] | None = None,
        recordings: Audio | list[Audio] | None = None,
        ids: str | Iterable[str] | None = None,
        vector: object = None,
        plus: Weighted | Sequence[Weighted] = (),
        minus: Weighted | Sequence[Weighted] = (),
        sample_rate: int | None = None,
        language: str | None = None,
    ) -> tuple[list[Query], bool]:
        """Make one query, or several where texts, recordings or ids are several.

        Args:
            texts: A text, or several.
            recordings: A recording, or a list of several.
            ids: Id of a row, or several.
            vector: A vector, shape (dim,).
            plus: Texts to add, with weights.
            minus: Texts to lead away from, with weights.
            sample_rate: Rate in Hz of waveforms that come without one.
            language: Language of the texts.

        Returns:
            The queries, and whether there are several, be it one or none.

        Raises:
            QueryError: There is nothing to search by, or it cannot be used.
            AudioError: A recording cannot be used.
        """
        columns: list[list[Query] | Query] = []
        if texts is not None:
            columns.append(_each(texts, str, lambda text: text_query(self.encoder(), text, language)))
        if recordings is not None:
            # A list of numbers is a waveform.
            is_several = isinstance(recordings, list) and not (
                recordings and all(isinstance(x, (int, float)) for x in recordings)
            )
            given = cast("list[Audio]", recordings if is_several else [recordings])
            found = [audio_query(self.encoder(), self.info, audio, sample_rate) for audio in given]
            columns.append(found if is_several else found[0])
        if ids is not None:
            columns.append(_each(ids, str, self.by_id))
        if vector is not None:
            columns.append(Query(to_unit_vectors(to_array(vector, "a query vector")[np.newaxis], self.info.dim)[0]))
        steering = [(parse_weighted(part), sign) for parts, sign in ((plus, 1), (minus, -1)) for part in _parts(parts)]
        added = [text_query(self.encoder(), text, language) for (text, _), _ in steering]
        weights = [sign * weight for (_, weight), sign in steering]
        if not columns and not any(weight > 0 for weight in weights):
            raise QueryError("a query is a text, a recording, a vector or an id: give at least one")
        rows, is_several = _rows(columns)
        return [combine([*row, *added], [*[1.0] * len(row), *weights]) for row in rows], is_several


def _each(values: object, kind: type, to_query: Callable[[str], Query]) -> list[Query] | Query:
    if isinstance(values, kind) or not isinstance(values, Iterable) or isinstance(values, (bytes, dict)):
        return to_query(values)  # type: ignore[arg-type]  # which refuses what is no text
    return [to_query(value) for value in values]


def _parts(parts: Weighted | Sequence[Weighted]) -> list[Weighted]:
    is_pair = isinstance(parts, tuple) and len(parts) == 2 and isinstance(parts[1], (int, float))
    return [parts] if isinstance(parts, str) or is_pair else list(parts)  # type: ignore[list-item, arg-type]


def _rows(columns: Sequence[list[Query] | Query]) -> tuple[list[list[Query]], bool]:
    """Return the parts of each query: lists side by side, with what is given once in each."""
    lengths = {len(column) for column in columns if isinstance(column, list)}
    if len(lengths) > 1:
        raise QueryError(f"several texts, recordings and ids stand side by side: got {sorted(lengths)} of them")
    count = lengths.pop() if lengths else 1
    rows = [[column[n] if isinstance(column, list) else column for column in columns] for n in range(count)]
    return rows, any(isinstance(column, list) for column in columns)


def combine(queries: Sequence[Query], weights: Sequence[float]) -> Query:
    """Return the weighted sum of queries, as one.

    Args:
        queries: The queries.
        weights: A weight for each; a negative one leads away.

    Returns:
        The query, with a unit vector.

    Raises:
        QueryError: They cancel each other out.
    """
    if len(queries) == 1 and weights[0] == 1:
        return queries[0]
    parts = list(zip(queries, weights, strict=True))
    total = np.sum([weight * query.vector.astype(np.float64) for query, weight in parts], axis=0)
    norm = float(np.linalg.norm(total))
    if norm < 1e-6:
        raise QueryError("the parts of the query cancel each other out")
    modalities = {query.modality for query in queries}
    shown = [query.label if weight == 1 else f"{weight:+g} {query.label}" for query, weight in parts]
    return Query(
        (total / norm).astype(np.float32),
        modalities.pop() if len(modalities) == 1 else "mixed",
        " | ".join(shown),
        tuple(dict.fromkeys(line for query in queries for line in query.warnings)),
        " ".join(query.words for query, weight in parts if weight > 0 and query.words),
        frozenset().union(*(query.exclude for query in queries)),
    )


def parse_weighted(part: Weighted) -> tuple[str, float]:
    """Return a text and its weight: of a pair, or of "TEXT:WEIGHT" with a weight below 10.

    Raises:
        QueryError: The weight is not above 0.
    """
    if isinstance(part, str):
        match = _WEIGHTED.fullmatch(part)
        text, weight = (match["text"], float(match["weight"])) if match else (part, 1.0)
    else:
        try:
            text, weight = part[0], float(part[1])
        except (TypeError, ValueError, IndexError) as error:
            raise QueryError(f"a text, or a pair of text and weight, is expected, got {part!r}") from error
    if not 0 < weight < math.inf:
        raise QueryError(f"the weight of {text!r} must be above 0, got {weight:g}")
    return text, weight
