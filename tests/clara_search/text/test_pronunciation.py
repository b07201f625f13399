import json
from pathlib import Path

import pytest

from clara_search.text.pronunciation import LanguageRules, Pronouncer, Reading, context, split_words

ENGLISH = LanguageRules(
    {"|c": "k", "|ce": "s", "|a": "æ", "|t": "t", "|e": "", "|i": "ɪ", "|y": "i", "___|cat_": "K"},
    {"7": "sɛvən", "4": "fɔ"},
    {"_ca": -3.0, "cat": -3.0, "at_": -3.0, "_cat_": -5.0},
)
SPANISH = LanguageRules(
    {"|c": "k", "|ci": "θ", "|a": "a", "|t": "t", "|o": "o", "|i": "i"}, {}, {"_ci": -3.0, "ita": -3.0, "_ca": -4.0}
)
RULES = Pronouncer({"en": ENGLISH, "es": SPANISH})


def test_the_rule_with_the_longest_context_applies() -> None:
    assert context("cat", 0, 3, 3) == "___|cat_"
    assert ENGLISH.pronounce("ca") == "kæ"
    assert ENGLISH.pronounce("cety") == "sti"
    assert ENGLISH.pronounce("cat") == "Kæt"


def test_numbers_without_an_entry_are_read_digit_by_digit() -> None:
    assert RULES.pronounce("7, 47", "en") == (Reading("sɛvənfɔsɛvən", 1.0),)


def test_case_punctuation_and_forms_of_letters_do_not_matter() -> None:
    assert split_words("¡Don’t  STOP, “naïve” caﬁ_x!") == ["don't", "stop", "naïve", "cafi", "x"]
    for text in ("cat", "CAT!", " (Cat) ", "ｃａｔ"):
        assert RULES.pronounce(text) == RULES.pronounce("cat")


@pytest.mark.parametrize("language", ["es", "Spanish", "es-419", "ES"])
def test_a_language_is_taken_by_code_and_by_name(language: str) -> None:
    assert RULES.pronounce("cita", language) == (Reading("θita", 1.0),)


@pytest.mark.parametrize("language", [None, "und", "xx"])
def test_a_language_without_rules_is_guessed(language: str | None) -> None:
    assert RULES.pronounce("cita", language)[0].phones == "θita"
    assert RULES.pronounce("cat", language)[0].phones == "Kæt"


def test_probabilities_of_doubtful_languages_add_up_to_one() -> None:
    readings = RULES.pronounce("ta")
    assert {reading.phones for reading in readings} == {"tæ", "ta"}
    assert sum(reading.probability for reading in readings) == pytest.approx(1.0)


def test_a_script_without_rules_has_no_reading() -> None:
    assert RULES.pronounce("Привет, мир") == RULES.pronounce("你好", "en") == ()
    assert [reading.phones for reading in RULES.pronounce("")] in ([], ["", ""])


def test_rules_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    RULES.save(tmp_path / "a.json")
    again = Pronouncer.parse(json.loads((tmp_path / "a.json").read_text(encoding="utf-8")), "a.json")
    again.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert again.languages == ["en", "es"]
    for text in ("cat", "cita", "ta", "7"):
        assert again.pronounce(text) == RULES.pronounce(text)
