"""How well texts find their recordings and recordings their texts: full galleries, by kind, both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clara_search.datasets.example import Example
from clara_search.metrics.retrieval import RetrievalScores, score_retrieval
from clara_search.models.base import Embeddings, Encoder
from trainer.data.text_split import normalize_text

KS = (1, 5, 10)

Scores = dict[str, dict[str, RetrievalScores]]
"""By the name of a set of queries and their gallery, then "text_to_audio" and "audio_to_text"."""


def score_pairs(encoder: Encoder, examples: Sequence[Example], audio: Embeddings) -> Scores:
    """Return the scores of all examples and of each kind, both ways.

    A kind is scored twice: in a gallery of its own ("sound"), and as queries to the gallery of all ("sound in all").
    """
    keys = [normalize_text(example.text) for example in examples]
    firsts = {key: position for position, key in reversed(list(enumerate(keys)))}
    unique = sorted(firsts)
    described = [examples[firsts[key]] for key in unique]
    texts = embed_texts(encoder, [e.text for e in described], [e.text_language for e in described])
    number = {key: position for position, key in enumerate(unique)}
    text_groups = np.arange(len(unique))
    audio_groups = np.array([number[key] for key in keys])
    kinds = np.array([example.kind for example in examples])

    def both_ways(asked: npt.NDArray[np.bool_], gallery: npt.NDArray[np.bool_]) -> dict[str, RetrievalScores]:
        asked_texts, gallery_texts = (np.isin(text_groups, audio_groups[clips]) for clips in (asked, gallery))
        return {
            "text_to_audio": score_retrieval(
                texts[asked_texts], audio[gallery], text_groups[asked_texts], audio_groups[gallery], KS
            ),
            "audio_to_text": score_retrieval(
                audio[asked], texts[gallery_texts], audio_groups[asked], text_groups[gallery_texts], KS
            ),
        }

    everything = np.ones(len(examples), dtype=bool)
    scores = {"all": both_ways(everything, everything)}
    present = sorted(set(kinds.tolist()))
    for kind in present if len(present) > 1 else []:
        scores[kind] = both_ways(kinds == kind, kinds == kind)
        scores[f"{kind} in all"] = both_ways(kinds == kind, everything)
    return scores


def embed_texts(encoder: Encoder, texts: Sequence[str], languages: Sequence[str]) -> Embeddings:
    """Return the vectors of `texts`, shape (n, dim), each encoded in its language ("und": in none)."""
    vectors = np.empty((len(texts), encoder.dim), dtype=np.float32)
    for language in sorted(set(languages)):
        positions = [position for position, other in enumerate(languages) if other == language]
        known = None if language in ("und", "") else language
        vectors[positions] = encoder.encode_text([texts[position] for position in positions], known)
    return vectors
