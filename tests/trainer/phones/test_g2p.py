"""Texts to phones."""

from importlib.util import find_spec

import pytest
import torch

from clara_search.datasets.example import Example
from clara_search.models.clara.phone_head import BLANK, PHONES, known_phone_bigrams
from trainer.phones.g2p import PhoneTargets, phone_indices, principal_bigrams, text_to_phones, words_to_phones

pytestmark = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed")


def spoken(text: str, language: str = "en", **others: str | None) -> Example:
    settings = {"kind": "speech", "text_language": language, **others}
    return Example(key=text, audio=b"", text=text, language=language, source="test", **settings)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("seven", "en", "sɛvən"),
        ("7, seven!", "en", "sɛvənsɛvən"),
        ("cinq", "fr", "sɛk"),
        ("le weekend", "fr", "ləwikɛnd"),  # espeak-ng marks the English word; the mark is no phone
        ("пять", "ru", "p\u0251t"),
        ("vôo", "pt-BR", "voʊ"),
        ("ㄕㄜˇ", "zh", "ʃə"),
        ("ㄐㄧㄤ", "zh", "dʑiɑŋ"),
        ("Köln", "de", "kœln"),
        ("hello", "xx", ""),
        ("...", "en", ""),
    ],
)
def test_phones_are_letters_of_the_ipa(text: str, language: str, expected: str) -> None:
    assert text_to_phones(text, language) == expected


def test_words_are_pronounced_one_by_one() -> None:
    assert words_to_phones("A dog, barking!", "en") == ["ɐ", "dɒɡ", "bɑkɪŋ"]
    assert words_to_phones("a dog of the house", "en") == [
        text_to_phones(word, "en") for word in "a dog of the house".split()
    ]
    assert words_to_phones("...", "en") == [""]


def test_the_same_sound_is_the_same_index_in_every_language() -> None:
    inventory = PhoneTargets([spoken("see"), spoken("si", "es"), spoken("si", "it")])
    assert inventory.of(spoken("see")) == inventory.of(spoken("si", "es")) == inventory.of(spoken("si", "it"))
    assert BLANK not in inventory.of(spoken("see"))
    assert inventory.of(spoken("see")) == [PHONES.index("s") + 1, PHONES.index("i") + 1]


def test_only_a_transcript_has_phones() -> None:
    sea, gloss = spoken("sea", kind="sound"), spoken("sea", "fr", text_language="en")
    inventory = PhoneTargets([spoken("sea"), sea, gloss])
    assert inventory.of(spoken("sea"))
    assert not inventory.of(sea)
    assert not inventory.of(gloss)
    assert not inventory.of(spoken("lake"))  # no text of the training side


def test_texts_of_a_language_that_espeak_does_not_read_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    inventory = PhoneTargets([spoken("a", "xx"), spoken("b", "xx"), spoken("see")])
    assert not inventory.of(spoken("a", "xx"))
    assert inventory.of(spoken("see"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("2 texts in 'xx' have no phones")


def test_a_phone_that_the_model_has_not_is_dropped() -> None:
    assert phone_indices("sʘi", "is") == [2, 1]
    assert PhoneTargets([spoken("see")], "i").of(spoken("see")) == [1]


def test_every_phone_of_espeak_is_in_the_inventory() -> None:
    text = "The quick brown fox jumps over the lazy dog; she thought of a measured bird, joy and hours."
    phones = text_to_phones(text, "en")
    assert len(phone_indices(phones, PHONES)) == len(phones)


def test_the_first_matrix_of_pairs_tells_texts_apart() -> None:
    texts = [
        phone_indices(text_to_phones(word, "en"), PHONES)
        for word in ("seven", "eleven", "hello", "yellow", "dog", "god")
    ]
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
    counts = known_phone_bigrams(padded, torch.tensor([len(text) for text in texts]), len(PHONES))
    vectors = torch.nn.functional.normalize(counts @ principal_bigrams(texts, len(PHONES), 8).T)
    likeness = vectors @ vectors.T - torch.eye(6)
    assert likeness.max() < 0.9
    assert likeness[0, 1] > likeness[0, 2]  # seven, eleven
    assert likeness[2, 3] > likeness[2, 4]  # hello, yellow
