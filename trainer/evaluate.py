"""What a trained model can do with recordings, sentences and speakers that it never met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.datasets.digits import DIGITS
from clara_search.datasets.split import normalise
from clara_search.encoder import Encoder
from clara_search.metrics import Accuracy, RetrievalScores, accuracy, retrieval
from clara_search.prompts import class_embeddings
from trainer.data import Corpus, Sides

KINDS = ("speech", "sound", "music")


@dataclass(frozen=True)
class RetrievalTest:
    """Scores of one set of held-out recordings, both ways.

    Attributes:
        name: what is asked for, and where it is looked for.
        text_to_audio: every distinct text as a query; all recordings of it are right.
        audio_to_text: every recording as a query.
    """

    name: str
    text_to_audio: RetrievalScores
    audio_to_text: RetrievalScores


@dataclass(frozen=True)
class Report:
    """All scores of a model: retrieval over several galleries, digits by language ("all" is all of them)."""

    retrieval: list[RetrievalTest]
    digits: dict[str, Accuracy]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return {
            "retrieval": [
                {"name": x.name, "text_to_audio": x.text_to_audio.as_dict(), "audio_to_text": x.audio_to_text.as_dict()}
                for x in self.retrieval
            ],
            "digits": {name: asdict(score) for name, score in self.digits.items()},
        }


def evaluate(encoder: Encoder, corpus: Corpus, sides: Sides, max_audio_s: float) -> Report:
    """Score `encoder` on the test, new-speaker and digit sides of `corpus`.

    A recording is cut after `max_audio_s`, as in training. Full galleries; captions that repeat are right for each
    other.
    """
    test = _Gallery(encoder, corpus, sides.test, max_audio_s)
    tests = [test.score(f"{kind}, among all held-out recordings", kind) for kind in KINDS]
    for kind in KINDS:
        of_kind = [index for index in sides.test if corpus.examples[index].kind == kind]
        tests.append(_Gallery(encoder, corpus, of_kind, max_audio_s).score(f"{kind}, among held-out {kind} alone"))
    new_speaker = _Gallery(encoder, corpus, sides.new_speaker, max_audio_s)
    tests.append(new_speaker.score("speech of new speakers, among their recordings"))
    return Report(tests, _digits(encoder, corpus, sides.digits, max_audio_s))


class _Gallery:
    """Held-out recordings and their texts, embedded."""

    def __init__(self, encoder: Encoder, corpus: Corpus, indices: Sequence[int], max_audio_s: float) -> None:
        self.examples = [corpus.examples[index] for index in indices]
        self.audio = _embed_audio(encoder, corpus, indices, max_audio_s)
        texts: dict[str, int] = {}
        self.groups = np.array([texts.setdefault(normalise(x.text), len(texts)) for x in self.examples])
        _, self.first = np.unique(self.groups, return_index=True)
        self.text = encoder.encode_text([self.examples[i].text for i in self.first])

    def score(self, name: str, kind: str | None = None) -> RetrievalTest:
        """Score the queries of `kind`, or all, over the whole gallery."""
        asked = np.array([kind in (None, example.kind) for example in self.examples])
        asked_text = asked[self.first]
        groups_of_text = self.groups[self.first]
        return RetrievalTest(
            name,
            retrieval(self.text[asked_text], self.audio, groups_of_text[asked_text], self.groups),
            retrieval(self.audio[asked], self.text, self.groups[asked], groups_of_text),
        )


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
