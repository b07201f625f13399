"""Scores beside plain retrieval: speech among 1,000 utterances, audio similarity, classes, names in other languages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clara_search.audio.mel import MelConfig, log_mel_statistics
from clara_search.classification.prompts import class_embeddings
from clara_search.datasets.example import Example
from clara_search.metrics.accuracy import Accuracy, accuracy
from clara_search.metrics.retrieval import RetrievalScores, score_relevant, score_retrieval, self_retrieval
from clara_search.models.base import Embeddings, Encoder
from clara_search.text.normalize import normalize_text
from trainer.config.evaluation import ClassSuite, EvaluationConfig, TranslationSuite
from trainer.config.recipe import bundled_file
from trainer.data.captions import Translations
from trainer.data.corpus import Corpus
from trainer.evaluation.retrieval import Captioned

GALLERY = 1000
"""Utterances in the gallery of `retrieval_1000`; of more, a fixed random sample is taken."""


@dataclass(frozen=True)
class AudioSimilarity:
    """Retrieval of recordings by recordings, with the model's vectors and with log-mel statistics as a baseline."""

    model: RetrievalScores
    log_mel: RetrievalScores


@dataclass(frozen=True)
class ClassSuiteScores:
    """Accuracy of a `ClassSuite`, and the recall of each class.

    Attributes:
        title: the classes in a few words.
        accuracy: share of sounds that were classified right.
        recall: that share by class.
    """

    title: str
    accuracy: Accuracy
    recall: dict[str, float]


@dataclass(frozen=True)
class SuiteScores:
    """Scores of all suites; a suite without recordings is missing.

    Attributes:
        retrieval_1000: texts among at most `GALLERY` utterances, by speakers: "known" in training or "new".
        classes: sounds classified by prompts.
        languages: sounds searched for by their name in another language, by language.
        audio_similarity: recordings that share a property, by that property.
    """

    retrieval_1000: dict[str, RetrievalScores]
    classes: ClassSuiteScores | None
    languages: dict[str, RetrievalScores]
    audio_similarity: dict[str, AudioSimilarity]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return {
            "retrieval_1000": {speakers: scores.as_dict() for speakers, scores in self.retrieval_1000.items()},
            "classes": None if self.classes is None else self.classes.accuracy.as_dict(),
            "class_recall": {} if self.classes is None else self.classes.recall,
            "languages": {language: scores.as_dict() for language, scores in self.languages.items()},
            "audio_similarity": {
                shared: {"model": scores.model.as_dict(), "log_mel": scores.log_mel.as_dict()}
                for shared, scores in self.audio_similarity.items()
            },
        }


@dataclass(frozen=True)
class EmbeddedCorpus:
    """Recordings with their vectors, (n, dim), the statistics of their log-mels, (n, 2 * n_mels), and their hashes."""

    examples: Sequence[Example]
    vectors: Embeddings
    statistics: Embeddings
    hashes: Sequence[str]

    def subset(self, rows: Sequence[int]) -> EmbeddedCorpus:
        """Return the recordings in `rows`."""
        rows = list(rows)
        examples, hashes = [self.examples[row] for row in rows], [self.hashes[row] for row in rows]
        return EmbeddedCorpus(examples, self.vectors[rows], self.statistics[rows], hashes)

    def of_kind(self, kind: str) -> EmbeddedCorpus:
        """Return the recordings of a kind, such as "speech"."""
        return self.subset([row for row, example in enumerate(self.examples) if example.kind == kind])


def embed_corpus(
    encoder: Encoder, corpus: Corpus, indices: Sequence[int], mel: MelConfig, max_audio_s: float
) -> EmbeddedCorpus:
    """Embed recordings of a corpus.

    Args:
        encoder: gives the vectors.
        corpus: the recordings.
        indices: which of them.
        mel: of the log-mels whose statistics are taken.
        max_audio_s: seconds after which a recording is cut.

    Returns:
        The recordings in the order of `indices`.
    """
    max_samples = round(max_audio_s * corpus.sample_rate)
    waveforms = [corpus.waveform(index)[:max_samples] for index in indices]
    statistics = np.zeros((len(waveforms), 2 * mel.n_mels), dtype=np.float32)
    for row, waveform in enumerate(waveforms):
        statistics[row] = log_mel_statistics(waveform, mel)
    examples, hashes = [corpus.examples[index] for index in indices], [corpus.hashes[index] for index in indices]
    return EmbeddedCorpus(examples, encoder.encode_audio(waveforms), statistics, hashes)


def score_suites(encoder: Encoder, known: EmbeddedCorpus, new: EmbeddedCorpus, config: EvaluationConfig) -> SuiteScores:
    """Score an encoder on held-out recordings.

    Args:
        encoder: gives the vectors of texts; those of the recordings are its own.
        known: recordings by speakers that may have been trained on, and sounds.
        new: speech of speakers that were not trained on.
        config: suites to score beside retrieval and audio similarity.

    Returns:
        The scores of the suites that there are recordings for.
    """
    speech, sounds = known.of_kind("speech"), known.of_kind("sound")
    retrieval = {"known": _retrieval_1000(encoder, speech), "new": _retrieval_1000(encoder, new)}
    labels = {} if config.classes is None else _class_labels(sounds, config.classes)
    return SuiteScores(
        {speakers: scores for speakers, scores in retrieval.items() if scores is not None},
        None if config.classes is None else _classes(encoder, sounds, labels, config.classes),
        {} if config.translations is None else _languages(encoder, sounds, config.translations),
        _audio_similarity(speech, sounds, labels),
    )


def _retrieval_1000(encoder: Encoder, speech: EmbeddedCorpus) -> RetrievalScores | None:
    transcribed = [row for row, x in enumerate(speech.examples) if x.language == x.text_language]
    if not transcribed:
        return None
    rows = np.random.default_rng(0).permutation(transcribed)[:GALLERY]
    gallery = speech.subset(rows.tolist())
    captions = Captioned.of(gallery.examples, gallery.hashes)
    relevant = captions.recordings_of(range(len(captions.texts)), range(len(gallery.examples)))
    return score_relevant(encoder.encode_text(captions.texts), gallery.vectors, relevant)


def _classes(
    encoder: Encoder, sounds: EmbeddedCorpus, labels: dict[int, str], suite: ClassSuite
) -> ClassSuiteScores | None:
    classes = sorted(set(labels.values()))
    if len(classes) < 2:
        return None
    vectors = sounds.vectors[list(labels)]
    nearest = (vectors @ class_embeddings(encoder, classes, suite.templates).T).argmax(axis=1)
    predicted, expected = [classes[number] for number in nearest], list(labels.values())
    recall = {
        name: float(np.mean([guess == name for guess, truth in zip(predicted, expected, strict=True) if truth == name]))
        for name in classes
    }
    return ClassSuiteScores(suite.title, accuracy(predicted, expected, len(classes)), recall)


def _class_labels(sounds: EmbeddedCorpus, suite: ClassSuite) -> dict[int, str]:
    """Return the class of each row whose name matches the pattern of one class alone."""
    labels: dict[int, str] = {}
    for row, example in enumerate(sounds.examples):
        matches = [name for name, word in suite.patterns.items() if re.search(rf"\b({word})\b", example.text.lower())]
        if len(matches) == 1:
            labels[row] = matches[0]
    return labels


def _languages(encoder: Encoder, sounds: EmbeddedCorpus, suite: TranslationSuite) -> dict[str, RetrievalScores]:
    table = Translations.load(bundled_file(suite.table))
    groups = np.array([normalize_text(example.text) for example in sounds.examples])
    scores: dict[str, RetrievalScores] = {}
    for language in suite.languages:
        names = {group: table.translate(str(group), language) for group in np.unique(groups)}
        queries = {group: name for group, name in names.items() if name is not None}
        if queries:
            texts = encoder.encode_text(list(queries.values()), language)
            scores[language] = score_retrieval(texts, sounds.vectors, np.array(list(queries)), groups)
    return scores


def _audio_similarity(
    speech: EmbeddedCorpus, sounds: EmbeddedCorpus, labels: dict[int, str]
) -> dict[str, AudioSimilarity]:
    words = np.array([f"{example.language} {normalize_text(example.text)}" for example in speech.examples])
    speakers = np.array([example.speaker or example.key for example in speech.examples])
    names = np.array([normalize_text(example.text) for example in sounds.examples])
    rows = list(labels)
    scores: dict[str, AudioSimilarity] = {}
    for shared, recordings, groups, owners in (
        ("same words, another speaker", speech, words, speakers),
        ("same sound", sounds, names, None),
        ("same class, another name", sounds.subset(rows), np.array(list(labels.values())), names[rows]),
    ):
        owned = range(len(groups)) if owners is None else owners
        if not len(groups) or len({*zip(groups, owned, strict=True)}) == len(np.unique(groups)):
            continue  # no group has two owners
        baseline = recordings.statistics - recordings.statistics.mean(axis=0)
        baseline /= np.maximum(baseline.std(axis=0), 1e-6)
        baseline /= np.maximum(np.linalg.norm(baseline, axis=1, keepdims=True), 1e-12)
        scores[shared] = AudioSimilarity(
            self_retrieval(recordings.vectors, groups, owners), self_retrieval(baseline, groups, owners)
        )
    return scores
