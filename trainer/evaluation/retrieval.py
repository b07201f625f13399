"""Retrieval of recordings by texts and of texts by recordings: full galleries, by kind, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clara_search.datasets.example import Example
from clara_search.metrics.retrieval import RetrievalScores, score_relevant
from clara_search.models.base import Embeddings, Encoder
from clara_search.text.normalize import normalize_text

KS = (1, 5, 10)

Scores = dict[str, dict[str, RetrievalScores]]
"""By the name of a set of queries and their gallery, then "text_to_audio" and "audio_to_text"."""


def score_pairs(encoder: Encoder, examples: Sequence[Example], audio: Embeddings) -> Scores:
    """Score the retrieval of recordings and their texts, overall and by kind.

    A kind is scored twice: in a gallery of its own ("sound"), and as queries to the gallery of all ("sound in all").
    Each different text, once normalised, is one query, and all recordings that have it are its positives; a recording
    with several captions has all of them as its positives.

    Args:
        encoder: gives the vectors of the texts.
        examples: recordings with their texts.
        audio: unit vectors of the recordings, shape (n, dim).

    Returns:
        The scores of "all", and, of several kinds, of each kind.
    """
    captions = Captioned.of(examples)
    texts = embed_texts(encoder, captions.texts, captions.languages)
    kinds = [example.kind for example in examples]

    def both_directions(queries: Sequence[int], gallery: Sequence[int]) -> dict[str, RetrievalScores]:
        query_texts, gallery_texts = captions.texts_of(queries), captions.texts_of(gallery)
        to_audio = captions.recordings_of(query_texts, gallery)
        to_text = captions.positions_of(queries, gallery_texts)
        return {
            "text_to_audio": score_relevant(texts[query_texts], audio[list(gallery)], to_audio, KS),
            "audio_to_text": score_relevant(audio[list(queries)], texts[gallery_texts], to_text, KS),
        }

    everything = range(len(examples))
    scores = {"all": both_directions(everything, everything)}
    present = sorted(set(kinds))
    for kind in present if len(present) > 1 else []:
        of_kind = [number for number in everything if kinds[number] == kind]
        scores[kind] = both_directions(of_kind, of_kind)
        scores[f"{kind} in all"] = both_directions(of_kind, everything)
    return scores


@dataclass(frozen=True)
class Captioned:
    """Which recordings have which texts; texts that are equal once normalised are one.

    Attributes:
        texts: the different texts.
        languages: their languages.
        captions: for each recording the numbers of its texts, in ascending order.
    """

    texts: list[str]
    languages: list[str]
    captions: list[list[int]]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Captioned:
        """Return the texts of `examples`: of each its text and its alternatives."""
        written: dict[str, tuple[str, str]] = {}
        keys = [[normalize_text(text) for text in (x.text, *x.alternatives)] for x in examples]
        for example, own in zip(examples, keys, strict=True):
            for key, text in zip(own, (example.text, *example.alternatives), strict=True):
                written.setdefault(key, (text, example.text_language))
        number_of = {key: number for number, key in enumerate(sorted(written))}
        ordered = [written[key] for key in number_of]
        captions = [sorted({number_of[key] for key in own}) for own in keys]
        return cls([text for text, _ in ordered], [language for _, language in ordered], captions)

    def texts_of(self, recordings: Sequence[int]) -> list[int]:
        """Return the numbers of the texts that any of `recordings` has."""
        return sorted({text for recording in recordings for text in self.captions[recording]})

    def recordings_of(self, texts: Sequence[int], gallery: Sequence[int]) -> list[list[int]]:
        """Return for each of `texts` the positions in `gallery` of the recordings that have it."""
        having: dict[int, list[int]] = {}
        for position, recording in enumerate(gallery):
            for text in self.captions[recording]:
                having.setdefault(text, []).append(position)
        return [having[text] for text in texts]

    def positions_of(self, recordings: Sequence[int], gallery: Sequence[int]) -> list[list[int]]:
        """Return for each of `recordings` the positions in `gallery`, numbers of texts, of its texts."""
        position_of = {text: position for position, text in enumerate(gallery)}
        return [[position_of[text] for text in self.captions[recording]] for recording in recordings]


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
