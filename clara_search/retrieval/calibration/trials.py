"""Queries for which it is known what matches: texts of other subjects, and the table's own texts and recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from clara_search.models.base import Embeddings, Encoder
from clara_search.retrieval.calibration.agreement import text_agreement
from clara_search.retrieval.calibration.model import Trials
from clara_search.retrieval.exact.scan import RowPositions
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot
from clara_search.text.normalize import normalize_text

HITS = 10
"""Hits of a query that are looked at, one a recording."""

_RANKED = 60
_OWN_TEXTS = 64
_OWN_RECORDINGS = 96
_IN_THE_TABLE = 0.6
"""A text of the background that agrees this much with the text of a hit is taken to be in the table."""
_DROPPED = 4
"""Of a text's words, those at every fourth place are left out: nobody types what is there word for word."""

Match = Callable[[int, int], bool | None]
"""Whether a row, by its position, is a match of a query, by its number; None: leave the row out."""


@cache
def background_texts() -> tuple[str, ...]:
    """Return texts of many subjects in five languages, which few tables answer."""
    content = files("clara_search.retrieval.calibration").joinpath("background_texts.txt").read_text(encoding="utf-8")
    return tuple(content.splitlines())


def text_trials(searcher: Searcher, snapshot: Snapshot, encoder: Encoder, kind: str) -> tuple[Trials, Trials]:
    """Ask for texts.

    Args:
        searcher: The table.
        snapshot: Its rows.
        encoder: The encoder that built it.
        kind: Kind of the rows to find, "audio" or "text".

    Returns:
        Trials of background texts, without those that are in the table; and of the table's own texts, shortened.
    """
    texts = _normalized_texts(snapshot)
    background = background_texts()
    asked = _ask(searcher, snapshot, encoder.encode_text(list(background)), background, kind, lambda query, row: False)
    is_absent = ~(np.nan_to_num(asked.agreements).max(axis=1) >= _IN_THE_TABLE)
    is_absent &= ~np.isnan(asked.cosines[:, 0])
    background_trials = Trials(*(part[is_absent] for part in asked))
    own = _own_texts(snapshot, kind)
    if not own:
        return background_trials, _no_trials()
    shortened = [_shorten(text) for text in own]
    matched = _ask(
        searcher,
        snapshot,
        encoder.encode_text(shortened),
        shortened,
        kind,
        lambda query, row: texts[row] == normalize_text(own[query]),
    )
    return background_trials, matched


def audio_trials(searcher: Searcher, snapshot: Snapshot, kind: str) -> tuple[Trials, Trials]:
    """Ask for recordings of the table, each without itself and its copies.

    Args:
        searcher: The table.
        snapshot: Its rows.
        kind: Kind of the rows to find, "audio" or "text".

    Returns:
        Trials without the rows of the same text, and with them as matches.
    """
    sample = snapshot.recordings.sample(snapshot.order)
    sample = sample[np.linspace(0, len(sample) - 1, min(_OWN_RECORDINGS, len(sample))).astype(np.int64)]
    if not len(sample):
        return _no_trials(), _no_trials()
    texts, codes = _normalized_texts(snapshot), snapshot.recordings.codes
    contents = snapshot.columns["content_hash"]

    def is_match(query: int, row: int) -> bool | None:
        own = int(sample[query])
        if codes[own] == codes[row] or contents[own].equals(contents[row]):
            return None
        return bool(texts[own]) and texts[own] == texts[row]

    found = _ask(searcher, snapshot, snapshot.vectors_at(sample), None, kind, is_match)
    kept = ~np.isnan(found.cosines[:, 0])
    found = Trials._make(part[kept] for part in found)
    return _without_matches(found), found


def _ask(
    searcher: Searcher,
    snapshot: Snapshot,
    vectors: Embeddings,
    texts: Sequence[str] | None,
    kind: str,
    is_match: Match,
) -> Trials:
    of_kind = snapshot.kind_is(kind)
    allowed = None if of_kind.all() else np.flatnonzero(of_kind)
    ranked = searcher.search(snapshot, vectors, _RANKED, allowed)
    shape = (len(vectors), HITS)
    trials = Trials(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=bool))
    for query, rows in enumerate(ranked):
        kept = 0
        for number in _first_of_recordings(snapshot, rows):
            position = int(rows.positions[number])
            match = is_match(query, position)
            if match is None:
                continue
            trials.cosines[query, kept] = rows.scores[number]
            trials.matches[query, kept] = match
            row_text = None if texts is None else snapshot.columns["text"][position].as_py()
            if texts is not None and row_text:
                trials.agreements[query, kept] = text_agreement(texts[query], row_text)
            kept += 1
            if kept == HITS:
                break
    return trials


def _first_of_recordings(snapshot: Snapshot, rows: RankedRows) -> list[int]:
    """Return the numbers of the best row of each recording, and of each text."""
    seen: set[int] = set()
    numbers = []
    for number, code in enumerate(snapshot.recordings.codes[rows.positions].tolist()):
        if code < 0 or code not in seen:
            numbers.append(number)
            seen.add(code)
    return numbers


def _own_texts(snapshot: Snapshot, kind: str) -> list[str]:
    """Return up to 64 distinct texts of rows of a kind, evenly spaced in the order of ids."""
    rows: RowPositions = np.flatnonzero(snapshot.kind_is(kind))
    rows = rows[np.argsort(snapshot.order[rows], kind="stable")]
    column = snapshot.columns["text"].take(rows).to_pylist()
    distinct = list({normalize_text(text): text for text in column if text and text.strip()}.values())
    if not distinct:
        return []
    return [distinct[place] for place in np.unique(np.linspace(0, len(distinct) - 1, _OWN_TEXTS).astype(int)).tolist()]


def _shorten(text: str) -> str:
    words = normalize_text(text).split()
    return " ".join(word for place, word in enumerate(words) if len(words) <= 2 or place % _DROPPED != 1)


def _normalized_texts(snapshot: Snapshot) -> list[str]:
    distinct = snapshot.columns["text"].combine_chunks().dictionary_encode()
    names = [normalize_text(text) if text else "" for text in distinct.dictionary.to_pylist()]
    return ["" if index is None else names[index] for index in distinct.indices.to_pylist()]


def _without_matches(trials: Trials) -> Trials:
    """Return trials in which every match is left out."""
    cosines = np.where(trials.matches, np.nan, trials.cosines)
    order = np.argsort(-np.nan_to_num(cosines, nan=-np.inf), axis=1, kind="stable")
    cosines, agreements = (np.take_along_axis(part, order, axis=1) for part in (cosines, trials.agreements))
    has_hits = ~np.isnan(cosines[:, 0])
    return Trials(cosines[has_hits], agreements[has_hits], np.zeros_like(trials.matches)[has_hits])


def _no_trials() -> Trials:
    empty = np.zeros((0, HITS))
    return Trials(empty, empty, empty.astype(bool))
