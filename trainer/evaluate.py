"""What a trained model can do with recordings, sentences and speakers that it never met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.datasets.digits import DIGITS
from clara_search.encoder import Encoder
from clara_search.metrics import Accuracy, accuracy
from clara_search.prompts import class_embeddings
from clara_search.scoring import Scores, score
from trainer.corpus import Corpus
from trainer.sides import Sides


@dataclass(frozen=True)
class Report:
    """All scores of a model: retrieval by queries and gallery, digits by language ("all" is all of them)."""

    retrieval: Scores
    digits: dict[str, Accuracy]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return {
            "retrieval": {
                name: {way: scores.as_dict() for way, scores in ways.items()} for name, ways in self.retrieval.items()
            },
            "digits": {name: score.as_dict() for name, score in self.digits.items()},
        }


def evaluate(encoder: Encoder, corpus: Corpus, sides: Sides, max_audio_s: float) -> Report:
    """Score `encoder` on the test, new-speaker and digit sides of `corpus`.

    A recording is cut after `max_audio_s`, as in training.
    """

    def scores(indices: Sequence[int]) -> Scores:
        examples = [corpus.examples[index] for index in indices]
        return score(encoder, examples, _embed_audio(encoder, corpus, indices, max_audio_s))

    found = scores(sides.test)
    if sides.new_speaker:
        found["new speakers"] = scores(sides.new_speaker)["all"]
    return Report(found, _digits(encoder, corpus, sides.digits, max_audio_s))


def _embed_audio(
    encoder: Encoder, corpus: Corpus, indices: Sequence[int], max_audio_s: float
) -> npt.NDArray[np.float32]:
    longest = round(max_audio_s * corpus.sample_rate)
    return encoder.encode_audio([corpus.waveform(index)[:longest] for index in indices])


def _digits(encoder: Encoder, corpus: Corpus, indices: Sequence[int], max_audio_s: float) -> dict[str, Accuracy]:
    """Name each recorded digit by the nearest of the ten words of its language."""
    scores: dict[str, Accuracy] = {}
    all_named: list[str] = []
    all_spoken: list[str] = []
    for language, words in DIGITS.items():
        of_language = [index for index in indices if corpus.examples[index].language == language]
        if not of_language:
            continue
        nearest = _embed_audio(encoder, corpus, of_language, max_audio_s) @ class_embeddings(encoder, words).T
        named = [f"digit:{digit}" for digit in nearest.argmax(axis=1)]
        spoken = [str(corpus.examples[index].label) for index in of_language]
        scores[language] = accuracy(named, spoken, len(words))
        all_named += named
        all_spoken += spoken
    if all_spoken:
        scores["all"] = accuracy(all_named, all_spoken, 10)
    return scores
