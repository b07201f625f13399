"""What else a model is scored on, with an encoder whose answers are known: words share a direction."""

from collections.abc import Sequence

import numpy as np
import pytest

from clara_search.audio.waveform import Waveform
from clara_search.datasets.example import Example
from clara_search.models.base import Embeddings
from trainer.evaluation.suites import EmbeddedCorpus, score_suites

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
    heard = "zxx" if kind == "sound" else language
    return Example(
        key=text, audio=b"", text=text, language=heard, text_language="en", source="test", kind=kind, speaker=speaker
    )


def heard(encoder: WordEncoder, examples: list[Example]) -> EmbeddedCorpus:
    statistics = np.random.default_rng(0).standard_normal((len(examples), 8)).astype(np.float32)
    return EmbeddedCorpus(examples, encoder.encode_text([one.text for one in examples]), statistics)


def test_an_encoder_that_knows_all_words_finds_everything() -> None:
    encoder = WordEncoder()
    said = [example(text, "speech", who) for text in ("good morning", "good night", "thank you") for who in ("a", "b")]
    sounds = [example(text) for text in ("camel", "camel", "helicopter", "lion roar")]
    new = heard(encoder, [example("many thanks", "speech", "c"), example("good evening", "speech", "c")])
    found = score_suites(encoder, heard(encoder, said + sounds), new)
    assert {who: one.recall[1] for who, one in found.thousand.items()} == {"known": 1.0, "new": 1.0}
    assert found.thousand["known"].n_gallery == 6
    assert found.classes is not None
    assert (found.classes.accuracy, found.classes.n, found.classes.n_classes) == (1.0, 4, 3)
    assert found.class_recall == {"camel": 1.0, "helicopter": 1.0, "lion": 1.0}
    assert found.languages["es"].recall[1] == 1.0
    same_words = found.alike["same words, another speaker"]
    assert (same_words.model.map10, same_words.model.n_queries, same_words.model.n_gallery) == (1.0, 6, 3)
    assert same_words.log_mel.map10 < 1.0
    assert found.alike["same sound"].model.n_queries == 2


def test_a_class_is_looked_for_under_other_names_alone() -> None:
    encoder = WordEncoder()
    names = ("camel", "camel", "camel grunt", "slow river", "fire", "river")
    found = score_suites(encoder, heard(encoder, [example(name) for name in names]), heard(encoder, []).of([]))
    scores = found.alike["same class, another name"].model
    assert (scores.n_queries, scores.recall[1]) == (5, 1.0)  # the fire has no other name


def test_a_gloss_is_no_transcript() -> None:
    encoder = WordEncoder()
    said = [example("dog", "speech", "a", language="fr"), example("hello you", "speech", "a")]
    found = score_suites(encoder, heard(encoder, said), heard(encoder, []).of([]))
    assert found.thousand["known"].n_gallery == 1
    assert "new" not in found.thousand
    assert found.classes is None
    assert not found.languages
    assert not found.alike


@pytest.mark.parametrize("texts", [["river", "slow river"], ["fire burning", "open fire", "flame"]])
def test_one_class_is_none_to_choose_from(texts: list[str]) -> None:
    encoder = WordEncoder()
    found = score_suites(encoder, heard(encoder, [example(text) for text in texts]), heard(encoder, []).of([]))
    assert found.classes is None
