"""Tokens, names of classes and texts that a sound head is fitted to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clara_search.errors import FormatError
from trainer.config.recipe import bundled_file
from trainer.data.captions import Translations
from trainer.data.text_split import text_split
from trainer.sounds.texts import random_speech, read_names, translated_names, variants

TABLE = Translations.load(bundled_file("sounds.csv"))


def frequent(language: str, count: int) -> Sequence[str]:
    return [f"{language}{number}" for number in range(min(count, 50))]


def test_names_of_a_class_begin_with_its_own(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("class,names\nDog,hound; puppy\n")
    assert read_names(path, ["Bee, wasp, etc.", "Dog"]) == [
        *(("Bee, wasp, etc.", 0), ("Bee", 0), ("wasp", 0)),
        *(("Dog", 1), ("hound", 1), ("puppy", 1)),
    ]


def test_a_name_of_no_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("class,names\nDoggo,hound\n")
    with pytest.raises(FormatError, match="'Doggo' is none"):
        read_names(path, ["Dog"])


def test_no_name_that_is_held_out_is_taught_in_another_language() -> None:
    pairs = translated_names(TABLE)
    assert {text_split(name) for _, name in pairs} == {"train"}
    assert ("perro", "dog") in pairs or text_split("dog") != "train"


def test_a_name_comes_alone_translated_and_in_sentences() -> None:
    called = variants("dog", TABLE)
    assert called[0] == "dog"
    assert {"perro", "chien", "Hund", "cane", "собака", "the sound of dog"} <= set(called)
    assert variants("xyzzy", TABLE)[1:] == [text for text in variants("xyzzy", TABLE) if text != "xyzzy"]


def test_random_speech_is_the_same_again_and_in_every_language() -> None:
    texts = random_speech(frequent, np.random.default_rng(0), 24)
    assert texts == random_speech(frequent, np.random.default_rng(0), 24)
    assert {text[:2] for text in texts[:24]} == {"en", "es", "fr", "de", "it", "ru", "pt", "nl", "pl", "tr", "cs", "sv"}
    assert "siete" in texts


def test_every_name_of_the_table_is_of_a_class_and_stands_once() -> None:
    import csv

    with bundled_file("sound_names.csv").open(encoding="utf-8") as file:
        rows = [(row["class"], [name.strip() for name in row["names"].split(";")]) for row in csv.DictReader(file)]
    assert len({name for name, _ in rows}) == len(rows)
    for name, others in rows:
        assert all(others), name
        assert len(set(others)) == len(others), name
