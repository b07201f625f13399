"""Retrieval of recordings by texts and of texts by recordings: full galleries, by kind, in both directions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from clara_search.datasets.example import Example
from clara_search.errors import FormatError
from clara_search.metrics.ranking import Ranks, not_finite, relevant_ranks
from clara_search.metrics.retrieval import RetrievalScores, score_ranks
from clara_search.models.base import Embeddings, Encoder
from clara_search.text.normalize import normalize_text

KS = (1, 5, 10)

Scores = dict[str, dict[str, RetrievalScores]]
"""By the name of a set of queries and their gallery, then "text_to_audio" and "audio_to_text"."""


@dataclass(frozen=True)
class Rankings:
    """The ranks of what is right for each query of a gallery, before they become scores.

    Attributes:
        queries: numbers of the queries: of recordings, or of texts of a `Captioned`.
        gallery: numbers of the items of the gallery: of texts, or of recordings.
        ranks: for each query the ranks of its positives.
    """

    queries: list[int]
    gallery: list[int]
    ranks: Ranks

    def scores(self, num_resamples: int = 1000, seed: int = 0) -> RetrievalScores:
        """Return the scores; arguments are those of `score_ranks`."""
        return score_ranks(self.ranks, len(self.gallery), KS, num_resamples, seed)


def score_pairs(
    encoder: Encoder, examples: Sequence[Example], audio: Embeddings, identities: Sequence[Hashable] | None = None
) -> Scores:
    """Score the retrieval of recordings and their texts, overall and by kind.

    A kind is scored twice: in a gallery of its own ("sound"), and as queries to the gallery of all ("sound in all").
    Each different text, once normalised, is one query, and all recordings that have it are its positives; a recording
    with several captions has all of them as its positives.

    Args:
        encoder: gives the vectors of the texts.
        examples: recordings with their texts.
        audio: unit vectors of the recordings, shape (n, dim).
        identities: what tells a recording from others, such as hashes of contents; None: all differ.

    Returns:
        The scores of "all", and, of several kinds, of each kind.

    Raises:
        FormatError: a vector is not finite; the recordings or texts are named.
    """
    captions = Captioned.of(examples, identities)
    texts = embed_texts(encoder, captions.texts, captions.languages)
    rankings = rank_pairs(captions, examples, texts, audio)
    return {
        name: {direction: ranking.scores() for direction, ranking in directions.items()}
        for name, directions in rankings.items()
    }


def rank_pairs(
    captions: Captioned, examples: Sequence[Example], texts: Embeddings, audio: Embeddings
) -> dict[str, dict[str, Rankings]]:
    """Rank recordings by texts and texts by recordings; sets of queries and directions are those of `score_pairs`.

    Args:
        captions: of the recordings.
        examples: recordings with their texts.
        texts: unit vectors of the texts of `captions`, shape (texts, dim).
        audio: unit vectors of the recordings, shape (n, dim).

    Raises:
        FormatError: as `score_pairs`.
    """
    _require_finite("recordings", audio, [example.key for example in examples])
    _require_finite("texts", texts, captions.texts)
    kinds = [example.kind for example in examples]

    def both_directions(recordings: list[int], gallery: list[int]) -> dict[str, Rankings]:
        query_texts, gallery_texts = captions.texts_of(recordings), captions.texts_of(gallery)
        to_audio = captions.recordings_of(query_texts, gallery)
        to_text = captions.positions_of(recordings, gallery_texts)
        return {
            "text_to_audio": Rankings(
                query_texts, gallery, relevant_ranks(texts[query_texts], audio[gallery], to_audio)
            ),
            "audio_to_text": Rankings(
                recordings, gallery_texts, relevant_ranks(audio[recordings], texts[gallery_texts], to_text)
            ),
        }

    everything = list(range(len(examples)))
    rankings = {"all": both_directions(everything, everything)}
    present = sorted(set(kinds))
    for kind in present if len(present) > 1 else []:
        of_kind = [number for number in everything if kinds[number] == kind]
        rankings[kind] = both_directions(of_kind, of_kind)
        rankings[f"{kind} in all"] = both_directions(of_kind, everything)
    return rankings


def _require_finite(what: str, vectors: Embeddings, names: Sequence[str]) -> None:
    if rows := not_finite(vectors):
        listed = ", ".join(repr(names[row]) for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
        raise FormatError(f"the vectors of {len(rows)} {what} are not finite, and cannot be ranked: {listed}")


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
    def of(cls, examples: Sequence[Example], identities: Sequence[Hashable] | None = None) -> Captioned:
        """Return the texts of `examples`: of each its text and its alternatives, and those of its copies.

        Args:
            examples: recordings with their texts.
            identities: what tells a recording from others, such as hashes of contents; None: all differ.
        """
        written: dict[str, tuple[str, str]] = {}
        keys = [[normalize_text(text) for text in (x.text, *x.alternatives)] for x in examples]
        for example, own in zip(examples, keys, strict=True):
            for key, text in zip(own, (example.text, *example.alternatives), strict=True):
                written.setdefault(key, (text, example.text_language))
        number_of = {key: number for number, key in enumerate(sorted(written))}
        ordered = [written[key] for key in number_of]
        owners = range(len(keys)) if identities is None else identities
        owned: dict[Hashable, set[int]] = {}
        for owner, own in zip(owners, keys, strict=True):
            owned.setdefault(owner, set()).update(number_of[key] for key in own)
        captions = [sorted(owned[owner]) for owner in owners]
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
