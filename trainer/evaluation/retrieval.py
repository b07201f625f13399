"""Retrieval of recordings by texts and of texts by recordings: full galleries, by kind, in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clara_search.datasets.example import Example
from clara_search.metrics.retrieval import RetrievalScores, score_retrieval
from clara_search.models.base import Embeddings, Encoder
from clara_search.text.normalize import normalize_text

KS = (1, 5, 10)

Scores = dict[str, dict[str, RetrievalScores]]
"""By the name of a set of queries and their gallery, then "text_to_audio" and "audio_to_text"."""


def score_pairs(encoder: Encoder, examples: Sequence[Example], audio: Embeddings) -> Scores:
    """Score the retrieval of recordings and their texts, overall and by kind.

    A kind is scored twice: in a gallery of its own ("sound"), and as queries to the gallery of all ("sound in all").
    Texts that are equal once normalised are one query, and all recordings of it are its positives.

    Args:
        encoder: gives the vectors of the texts.
        examples: recordings with their texts.
        audio: unit vectors of the recordings, shape (n, dim).

    Returns:
        The scores of "all", and, of several kinds, of each kind.
    """
    keys = [normalize_text(example.text) for example in examples]
    first_rows = {key: row for row, key in reversed(list(enumerate(keys)))}
    unique = sorted(first_rows)
    described = [examples[first_rows[key]] for key in unique]
    texts = embed_texts(encoder, [e.text for e in described], [e.text_language for e in described])
    group_of = {key: group for group, key in enumerate(unique)}
    text_groups = np.arange(len(unique))
    audio_groups = np.array([group_of[key] for key in keys])
    kinds = np.array([example.kind for example in examples])

    def both_directions(queries: npt.NDArray[np.bool_], gallery: npt.NDArray[np.bool_]) -> dict[str, RetrievalScores]:
        query_texts, gallery_texts = (np.isin(text_groups, audio_groups[clips]) for clips in (queries, gallery))
        return {
            "text_to_audio": score_retrieval(
                texts[query_texts], audio[gallery], text_groups[query_texts], audio_groups[gallery], KS
            ),
            "audio_to_text": score_retrieval(
                audio[queries], texts[gallery_texts], audio_groups[queries], text_groups[gallery_texts], KS
            ),
        }

    everything = np.ones(len(examples), dtype=bool)
    scores = {"all": both_directions(everything, everything)}
    present = sorted(set(kinds.tolist()))
    for kind in present if len(present) > 1 else []:
        scores[kind] = both_directions(kinds == kind, kinds == kind)
        scores[f"{kind} in all"] = both_directions(kinds == kind, everything)
    return scores


def embed_texts(encoder: Encoder, texts: Sequence[str], languages: Sequence[str]) -> Embeddings:
    """Embed texts, each in its language.

    Args:
        encoder: gives the vectors.
        texts: n texts.
        languages: their languages; "und" or "" for an unknown one.

    Returns:
        Unit vectors, shape (n, dim).
    """
    vectors = np.empty((len(texts), encoder.dim), dtype=np.float32)
    for language in sorted(set(languages)):
        rows = [row for row, other in enumerate(languages) if other == language]
        known = None if language in ("und", "") else language
        vectors[rows] = encoder.encode_text([texts[row] for row in rows], known)
    return vectors
