"""The evaluation suites, with an encoder whose vectors are known: each word has a direction of its own."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clara_search.audio.waveform import Waveform
from clara_search.datasets.example import Example
from clara_search.errors import ConfigError, FormatError, SourceError
from clara_search.models.base import Embeddings
from trainer.config.evaluation import BUNDLED_EVALUATION, EvaluationConfig, load_evaluation
from trainer.evaluation.suites import EmbeddedCorpus, score_suites

BUNDLED = load_evaluation(BUNDLED_EVALUATION)
MEANINGS = {
    "camello": "camel",
    "helicóptero": "helicopter",
    "león": "lion",
    "rugido": "roar",
    "the": "",
    "sound": "",
    "of": "",
}


class WordEncoder:
    """A text is the mean of its words, each a direction of its own; translations share theirs."""

    name, fingerprint, dim, sample_rate = "words", "0", 64, 16000

    def __init__(self) -> None:
        self._axes: dict[str, int] = {}

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        vectors = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                if meaning := MEANINGS.get(word, word):
                    vector[self._axes.setdefault(meaning, len(self._axes))] += 1.0
        unit: Embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        raise NotImplementedError


def example(text: str, kind: str = "sound", speaker: str | None = None, language: str = "en") -> Example:
    audio_language = "zxx" if kind == "sound" else language
    return Example(
        key=text,
        audio=b"",
        text=text,
        language=audio_language,
        text_language="en",
        source="test",
        kind=kind,
        speaker=speaker,
    )


def embedded(encoder: WordEncoder, examples: list[Example]) -> EmbeddedCorpus:
    statistics = np.random.default_rng(0).standard_normal((len(examples), 8)).astype(np.float32)
    vectors, hashes = encoder.encode_text([example.text for example in examples]), [*map(str, range(len(examples)))]
    return EmbeddedCorpus(examples, vectors, statistics, hashes)


def test_an_encoder_that_knows_all_words_scores_1_in_every_suite() -> None:
    encoder = WordEncoder()
    speech = [
        example(text, "speech", who) for text in ("good morning", "good night", "thank you") for who in ("a", "b")
    ]
    sounds = [example(text) for text in ("camel", "camel", "helicopter", "lion roar")]
    new = embedded(encoder, [example("many thanks", "speech", "c"), example("good evening", "speech", "c")])
    scores = score_suites(encoder, embedded(encoder, speech + sounds), new, BUNDLED)
    assert {speakers: x.recall[1] for speakers, x in scores.retrieval_1000.items()} == {"known": 1.0, "new": 1.0}
    assert scores.retrieval_1000["known"].n_gallery == 6
    assert scores.classes is not None
    assert scores.classes.title == "animals, vehicles and weather"
    score = scores.classes.accuracy
    assert (score.accuracy, score.n, score.n_classes) == (1.0, 4, 3)
    assert scores.classes.recall == {"camel": 1.0, "helicopter": 1.0, "lion": 1.0}
    assert scores.languages["es"].recall[1] == 1.0
    same_words = scores.audio_similarity["same words, another speaker"]
    assert (same_words.model.map10, same_words.model.n_queries, same_words.model.n_gallery) == (1.0, 6, 3)
    assert same_words.log_mel.map10 < 1.0
    assert scores.audio_similarity["same sound"].model.n_queries == 2


def test_a_similar_class_is_searched_for_under_other_names_alone() -> None:
    encoder = WordEncoder()
    names = ("camel", "camel", "camel grunt", "slow river", "fire", "river")
    scores = score_suites(encoder, embedded(encoder, [example(name) for name in names]), embedded(encoder, []), BUNDLED)
    similarity = scores.audio_similarity["same class, another name"].model
    assert (similarity.n_queries, similarity.recall[1]) == (5, 1.0)  # the fire has no other name


def test_a_translation_is_no_transcript() -> None:
    encoder = WordEncoder()
    speech = [example("dog", "speech", "a", language="fr"), example("hello you", "speech", "a")]
    scores = score_suites(encoder, embedded(encoder, speech), embedded(encoder, []), BUNDLED)
    assert scores.retrieval_1000["known"].n_gallery == 1
    assert "new" not in scores.retrieval_1000
    assert scores.classes is None
    assert not scores.languages
    assert not scores.audio_similarity


@pytest.mark.parametrize("texts", [["river", "slow river"], ["fire burning", "open fire", "flame"]])
def test_a_single_class_has_no_score(texts: list[str]) -> None:
    encoder = WordEncoder()
    scores = score_suites(encoder, embedded(encoder, [example(text) for text in texts]), embedded(encoder, []), BUNDLED)
    assert scores.classes is None


def test_without_an_evaluation_file_nothing_is_classified_translated_or_searched_for_by_class() -> None:
    encoder = WordEncoder()
    names = ("camel", "camel", "camel grunt", "slow river", "fire", "river")
    sounds = embedded(encoder, [example(name) for name in names])
    scores = score_suites(encoder, sounds, embedded(encoder, []), EvaluationConfig())
    assert scores.classes is None
    assert not scores.languages
    assert set(scores.audio_similarity) == {"same sound"}


def test_a_wrong_evaluation_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "suites.toml"
    for content, message in (
        ('[digits]\ntrain_source = "x"\n[digits.words]\nen = ["zero"]', "words.en must be ten words, got 1"),
        ('[classes]\ntitle = "x"\n[classes.patterns]\ndog = "("', "patterns.dog must be a regular expression"),
        ("[digit]", "unknown key 'digit', did you mean 'digits'"),
        ("[", "broken TOML"),
    ):
        path.write_text(content)
        with pytest.raises((ConfigError, FormatError), match=re.escape(message)):
            load_evaluation(str(path))
    with pytest.raises(SourceError, match=r"no such file; there are clara-small-suites\.toml"):
        load_evaluation("none.toml")
    assert load_evaluation("") == EvaluationConfig()
