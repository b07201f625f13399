"""Where in a moment the query is: a second look at the recording, through windows of two seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clara_search.errors import AudioError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import embed_windows
from clara_search.retrieval.hits import Hit, Hits
from clara_search.retrieval.output.playback import cut

WINDOW_S = 2.0
HOP_S = 0.5
LONGEST_S = 60.0
"""Of a longer moment, this much around its best second is looked at."""


def locate(encoder: Encoder, hits: Hits) -> Hits:
    """Find where in each hit its query is, from the recordings themselves.

    Args:
        encoder: The encoder that built the table.
        hits: The hits, with their query.

    Returns:
        The hits with `best_s` to about half a second; as they were, with a note, where the recording cannot be read.
    """
    if hits.query is None:
        return hits
    located, notes = [], list(hits.notes)
    for hit in hits:
        try:
            best_s = _best_second(encoder, hits.query.vector, hit)
        except AudioError as error:
            notes.append(f"hit {hit.rank} is not located: {error}")
            best_s = hit.best_s
        located.append(replace(hit, best_s=best_s))
    return Hits(located, hits.query, notes)


def peak_second(scores: Embeddings, centres_s: Embeddings) -> float:
    """Return where a run of high scores has its middle.

    Args:
        scores: Scores of windows in order of time, shape (n,).
        centres_s: Their centres in seconds, shape (n,).

    Returns:
        The mean of the centres around the best window, weighted by the height of the scores above the level half way
        between the best and the median.
    """
    best = int(np.argmax(scores))
    level = (float(scores[best]) + float(np.median(scores))) / 2
    below = np.flatnonzero(scores < level)
    first = int(below[below < best].max(initial=-1)) + 1
    last = int(below[below > best].min(initial=len(scores)))
    heights = np.maximum(scores[first:last] - level, 0)
    if not heights.sum() > 0:
        return float(centres_s[best])
    return float(heights @ centres_s[first:last] / heights.sum())


def _best_second(encoder: Encoder, query: Embeddings, hit: Hit) -> float | None:
    if hit.kind != "audio" or hit.start_s is None or hit.end_s is None:
        return None
    start_s, end_s = _region(hit.start_s, hit.end_s, hit.best_s)
    if end_s - start_s <= WINDOW_S:
        return round((start_s + end_s) / 2, 2)
    waveform = cut(hit.uri, start_s, end_s, encoder.sample_rate)
    windows, vectors = embed_windows(encoder, waveform, WINDOW_S, HOP_S)
    centres = np.array([(window.start_s + window.end_s) / 2 for window in windows], dtype=np.float32)
    return round(start_s + peak_second(vectors @ query, centres), 2)


def _region(start_s: float, end_s: float, best_s: float | None) -> tuple[float, float]:
    """Return the part of a moment to look at: all of it, or LONGEST_S around its best second."""
    if end_s - start_s <= LONGEST_S:
        return start_s, end_s
    middle = min(max(best_s or start_s, start_s + LONGEST_S / 2), end_s - LONGEST_S / 2)
    return middle - LONGEST_S / 2, middle + LONGEST_S / 2
