"""Why a hybrid search found a row: which words of the query its text has, and at which second they are said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clara_search.retrieval.hits import Hit
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.schema import SPOKEN_WORDS
from clara_search.store.words.tokens import query_words, tokenize


def add_evidence(snapshot: Snapshot, query: Query, rows: RankedRows) -> RankedRows:
    """Return rows of a hybrid search with the fields `words` and `said_s`.

    Args:
        snapshot: The table.
        query: The query.
        rows: Its best rows.

    Returns:
        The rows; `words` are the words of the query that the row's text has, and `said_s` the second at which most of
        them are said one after the other, None where no transcript tells.
    """
    asked = query_words(query.words)
    names = ["text"] + [SPOKEN_WORDS] * (SPOKEN_WORDS in snapshot.columns.column_names)
    facts = snapshot.columns.select(names).take(rows.positions).to_pylist()
    found: list[list[str]] = []
    said: list[float | None] = []
    for fact, rank in zip(facts, rows.fields["text_rank"], strict=True):
        present = set(tokenize(fact["text"] or "")) if rank is not None else set()
        found.append([forms[0] for forms in asked if not present.isdisjoint(forms)])
        said.append(said_second(asked, fact.get(SPOKEN_WORDS) or ()) if found[-1] else None)
    return rows.with_fields(words=found, said_s=said)


def has_all_words(query: Query, hits: Sequence[Hit]) -> bool:
    """Tell whether the text of a hit has all words of its query."""
    count = len(query_words(query.words))
    return any(hit.words is not None and len(hit.words) == count > 0 for hit in hits)


def said_second(asked: Sequence[tuple[str, ...]], spoken: Sequence[Mapping[str, Any]]) -> float | None:
    """Return where the longest run of words that follow each other in a query is spoken.

    Args:
        asked: The words of the query, in order, each in its forms.
        spoken: The words of a transcript, in order, each with `word` and `start_s`.

    Returns:
        The start in seconds of the first one of the longest runs; None if no word is spoken.
    """
    words = [(token, number) for number, word in enumerate(spoken) for token in tokenize(word["word"])]
    longest, start = 0, None
    runs = [0] * (len(asked) + 1)
    for at, (token, _) in enumerate(words):
        runs = [0, *(runs[number] + 1 if token in forms else 0 for number, forms in enumerate(asked))]
        if max(runs) > longest:
            longest = max(runs)
            start = spoken[words[at - longest + 1][1]]["start_s"]
    return start
