"""What else people ask of a model: to find a recording among a thousand, in other words, by another recording."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clara_search.audio.mel import MelConfig, log_mel_statistics
from clara_search.classification.prompts import class_embeddings
from clara_search.datasets.example import Example
from clara_search.metrics.accuracy import Accuracy, accuracy
from clara_search.metrics.retrieval import RetrievalScores, score_retrieval, self_retrieval
from clara_search.models.base import Embeddings, Encoder
from trainer.config.recipe import bundled_file
from trainer.data.captions import Translations
from trainer.data.corpus import Corpus
from trainer.data.text_split import normalize_text

GALLERY = 1000
"""Utterances that one is found among; of more, so many are drawn by chance, always the same."""

CLASSES: Mapping[str, str] = {
    "elephant": r"elephants?",
    "camel": r"camels?",
    "lion": r"lions?",
    "monkey": r"monkeys?",
    "rabbit": r"rabbits?",
    "horse": r"horses?",
    "moose": r"moose",
    "helicopter": r"helicopters?",
    "engine": r"engines?",
    "river": r"rivers?",
    "waterfall": r"waterfalls?",
    "waves": r"waves?",
    "fire": r"fires?|flames?",
    "wind": r"winds?|gusts?",
}
"""Animals, vehicles and weather: a prompt, and the word that tells its class in the name of a sound."""

TEMPLATES = ("{}", "the sound of {}", "{} sound")

LANGUAGES = ("es", "fr", "de", "it", "ru")


@dataclass(frozen=True)
class AudioSimilarity:
    """How well recordings find those that are like them, beside the statistics of their log-mels."""

    model: RetrievalScores
    log_mel: RetrievalScores


@dataclass(frozen=True)
class SuiteScores:
    """Scores of what a model can do.

    Attributes:
        thousand: of a spoken text among `GALLERY` utterances, by whether the speaker was trained on.
        classes: of naming animals, vehicles and weather by prompts.
        class_recall: the share named right, of each class.
        languages: of the name of a sound in another language.
        alike: of recordings, by what makes them alike.
    """

    thousand: dict[str, RetrievalScores]
    classes: Accuracy | None
    class_recall: dict[str, float]
    languages: dict[str, RetrievalScores]
    alike: dict[str, AudioSimilarity]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return {
            "thousand": {name: one.as_dict() for name, one in self.thousand.items()},
            "classes": None if self.classes is None else self.classes.as_dict(),
            "class_recall": self.class_recall,
            "languages": {name: one.as_dict() for name, one in self.languages.items()},
            "alike": {
                name: {"model": one.model.as_dict(), "log_mel": one.log_mel.as_dict()}
                for name, one in self.alike.items()
            },
        }


@dataclass(frozen=True)
class EmbeddedCorpus:
    """Recordings with their vectors, (n, dim), and the statistics of their log-mels, (n, 2 * n_mels)."""

    examples: Sequence[Example]
    vectors: Embeddings
    statistics: Embeddings

    def of(self, chosen: Sequence[int]) -> EmbeddedCorpus:
        """Return some of them."""
        rows = list(chosen)
        return EmbeddedCorpus([self.examples[row] for row in rows], self.vectors[rows], self.statistics[rows])

    def where(self, kind: str) -> EmbeddedCorpus:
        """Return those of a kind."""
        return self.of([row for row, example in enumerate(self.examples) if example.kind == kind])


def embed_corpus(
    encoder: Encoder, corpus: Corpus, indices: Sequence[int], mel: MelConfig, max_audio_s: float
) -> EmbeddedCorpus:
    """Return `indices` of `corpus`, each heard for at most `max_audio_s`."""
    longest = round(max_audio_s * corpus.sample_rate)
    waveforms = [corpus.waveform(index)[:longest] for index in indices]
    statistics = np.zeros((len(waveforms), 2 * mel.n_mels), dtype=np.float32)
    for row, waveform in enumerate(waveforms):
        statistics[row] = log_mel_statistics(waveform, mel)
    return EmbeddedCorpus([corpus.examples[index] for index in indices], encoder.encode_audio(waveforms), statistics)


def score_suites(encoder: Encoder, known: EmbeddedCorpus, new: EmbeddedCorpus) -> SuiteScores:
    """Score `encoder` on held-out recordings; those of `new` are by speakers that were not trained on."""
    speech, sounds = known.where("speech"), known.where("sound")
    classes, class_recall = _classes(encoder, sounds)
    return SuiteScores(
        {name: found for name, some in (("known", speech), ("new", new)) if (found := _thousand(encoder, some))},
        classes,
        class_recall,
        _languages(encoder, sounds),
        _alike(speech, sounds),
    )


def _thousand(encoder: Encoder, speech: EmbeddedCorpus) -> RetrievalScores | None:
    transcribed = [row for row, x in enumerate(speech.examples) if x.language == x.text_language]
    if not transcribed:
        return None
    chosen = np.random.default_rng(0).permutation(transcribed)[:GALLERY]
    some = speech.of(chosen.tolist())
    groups = np.array([normalize_text(example.text) for example in some.examples])
    _, first = np.unique(groups, return_index=True)
    texts = encoder.encode_text([some.examples[row].text for row in first])
    return score_retrieval(texts, some.vectors, groups[first], groups)


def _classes(encoder: Encoder, sounds: EmbeddedCorpus) -> tuple[Accuracy | None, dict[str, float]]:
    named = _of_classes(sounds)
    present = sorted({name for _, name in named})
    if len(present) < 2:
        return None, {}
    vectors = sounds.vectors[[row for row, _ in named]]
    nearest = (vectors @ class_embeddings(encoder, present, TEMPLATES).T).argmax(axis=1)
    guessed, right = [present[at] for at in nearest], [name for _, name in named]
    recalls = {
        name: float(np.mean([guess == name for guess, truth in zip(guessed, right, strict=True) if truth == name]))
        for name in present
    }
    return accuracy(guessed, right, len(present)), recalls


def _of_classes(sounds: EmbeddedCorpus) -> list[tuple[int, str]]:
    """Return the rows whose name tells one of `CLASSES`, and which."""
    named: list[tuple[int, str]] = []
    for row, example in enumerate(sounds.examples):
        fits = [name for name, word in CLASSES.items() if re.search(rf"\b({word})\b", example.text.lower())]
        if len(fits) == 1:
            named.append((row, fits[0]))
    return named


def _languages(encoder: Encoder, sounds: EmbeddedCorpus) -> dict[str, RetrievalScores]:
    table = Translations.load(bundled_file("sounds.csv"))
    groups = np.array([normalize_text(example.text) for example in sounds.examples])
    found: dict[str, RetrievalScores] = {}
    for language in LANGUAGES:
        names = {group: table.translate(str(group), language) for group in np.unique(groups)}
        asked = {group: name for group, name in names.items() if name is not None}
        if asked:
            texts = encoder.encode_text(list(asked.values()), language)
            found[language] = score_retrieval(texts, sounds.vectors, np.array(list(asked)), groups)
    return found


def _alike(speech: EmbeddedCorpus, sounds: EmbeddedCorpus) -> dict[str, AudioSimilarity]:
    words = np.array([f"{example.language} {normalize_text(example.text)}" for example in speech.examples])
    speakers = np.array([example.speaker or example.key for example in speech.examples])
    kinds = np.array([normalize_text(example.text) for example in sounds.examples])
    named = _of_classes(sounds)
    classed = sounds.of([row for row, _ in named])
    found: dict[str, AudioSimilarity] = {}
    for name, some, groups, owners in (
        ("same words, another speaker", speech, words, speakers),
        ("same sound", sounds, kinds, None),
        ("same class, another name", classed, np.array([name for _, name in named]), kinds[[row for row, _ in named]]),
    ):
        owned = range(len(groups)) if owners is None else owners
        if not len(groups) or len({*zip(groups, owned, strict=True)}) == len(np.unique(groups)):
            continue  # nothing is like what another has
        spread = some.statistics - some.statistics.mean(axis=0)
        spread /= np.maximum(spread.std(axis=0), 1e-6)
        spread /= np.maximum(np.linalg.norm(spread, axis=1, keepdims=True), 1e-12)
        found[name] = AudioSimilarity(
            self_retrieval(some.vectors, groups, owners), self_retrieval(spread, groups, owners)
        )
    return found
