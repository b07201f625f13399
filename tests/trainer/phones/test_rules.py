import pytest

from clara_search.text.pronunciation import LanguageRules
from trainer.phones.rules import align_words, collect_rules, edit_distance, learn_language

PRONUNCIATIONS = {
    "cat": "kat",
    "act": "akt",
    "city": "siti",
    "ice": "is",
    "pace": "pas",
    "pity": "piti",
    "tip": "tip",
    "pat": "pat",
    "cap": "kap",
    "cite": "sit",
    "tape": "tap",
    "pie": "pi",
    "tick": "tik",
    "pack": "pak",
    "icy": "isi",
    "ape": "ap",
}


def test_letters_are_aligned_with_their_phones() -> None:
    aligned = dict(align_words(PRONUNCIATIONS))
    assert aligned["cat"] == ["k", "a", "t"]
    assert aligned["pity"] == ["p", "i", "t", "i"]
    assert {"".join(parts) for parts in aligned.values()} == set(PRONUNCIATIONS.values())


def test_words_of_too_many_phones_are_left_out() -> None:
    assert dict(align_words({"a": "abcde", "b": "b"})) == {"b": ["b"]}


def test_rules_pronounce_the_words_that_they_were_learned_from_and_generalise() -> None:
    rules = LanguageRules(collect_rules(align_words(PRONUNCIATIONS)))
    assert {word: rules.pronounce(word) for word in PRONUNCIATIONS} == PRONUNCIATIONS
    assert rules.pronounce("tap") == "tap"
    assert rules.pronounce("cepat").startswith("s")
    assert len(rules.rules) < sum(map(len, PRONUNCIATIONS))


@pytest.mark.parametrize(
    ("actual", "expected", "edits"),
    [("", "", 0), ("abc", "abc", 0), ("ac", "abc", 1), ("xabd", "abc", 2), ("", "ab", 2)],
)
def test_edit_distance(actual: str, expected: str, edits: int) -> None:
    assert edit_distance(actual, expected) == edits


@pytest.mark.slow
def test_a_language_is_learned_from_its_frequent_words() -> None:
    learned = learn_language("es", 2500)
    assert learned.held_out_words > 20
    assert learned.phone_error_rate < 0.05
    assert learned.rules.pronounce("hola") == "ola"
    assert learned.rules.pronounce("12") == "doθe"
    assert learned.rules.features["que"] > learned.rules.features["tra"]
