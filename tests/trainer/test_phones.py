"""What is said, phone by phone."""

from importlib.util import find_spec

import pytest

from clara_search.datasets.spec import Example
from trainer.phones import BLANK, Phones, phones

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
        ("ㄕㄜˇ", "zh", "ㄕㄜ"),
        ("hello", "xx", ""),
        ("...", "en", ""),
    ],
)
def test_phones_are_letters_of_the_ipa(text: str, language: str, expected: str) -> None:
    assert phones(text, language) == expected


def test_the_same_sound_is_the_same_index_in_every_language() -> None:
    inventory = Phones([spoken("see"), spoken("si", "es"), spoken("si", "it")], at_least=1)
    assert inventory.of(spoken("see")) == inventory.of(spoken("si", "es")) == inventory.of(spoken("si", "it"))
    assert BLANK not in inventory.of(spoken("see"))
    assert len(inventory) == 3  # s, i and the blank


def test_only_a_transcript_has_phones() -> None:
    sea, gloss = spoken("sea", kind="sound"), spoken("sea", "fr", text_language="en")
    inventory = Phones([spoken("sea"), sea, gloss], at_least=1)
    assert inventory.of(spoken("sea"))
    assert not inventory.of(sea)
    assert not inventory.of(gloss)
    assert not inventory.of(spoken("lake"))  # no text of the training side


def test_rare_phones_are_dropped() -> None:
    inventory = Phones([spoken("see"), spoken("see "), spoken("thy")], at_least=2)
    assert len(inventory.of(spoken("see"))) == 2
    assert not inventory.of(spoken("thy"))
