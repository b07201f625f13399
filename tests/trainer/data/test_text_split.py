from hypothesis import given
from hypothesis import strategies as st

from clara_search.text.normalize import normalize_text
from trainer.config.evaluation import bundled_digits
from trainer.data.text_split import text_split


def test_case_and_punctuation_do_not_move_a_text() -> None:
    assert normalize_text("  Hello,   WORLD! ") == normalize_text("hello world") == "hello world"
    assert text_split("It's a dog.") == text_split("it s a DOG")


def test_texts_of_nothing_but_marks_stay_apart() -> None:
    assert normalize_text("...") != normalize_text("?")


def test_shares_are_as_declared() -> None:
    splits = [text_split(f"sentence number {index}") for index in range(20000)]
    assert abs(splits.count("test") / 20000 - 0.10) < 0.01
    assert abs(splits.count("valid") / 20000 - 0.05) < 0.01


def test_the_split_never_moves() -> None:
    texts = ("a dog barks", "the quick brown fox", "ein Hund", "applause")
    assert [text_split(text) for text in texts] == ["train", "test", "test", "valid"]


def test_texts_named_for_training_are_train_whatever_their_hash() -> None:
    digits = bundled_digits().all_words
    assert {text_split(word.upper(), digits) for word in digits} == {"train"}
    assert {text_split(word) for word in digits} == {"train", "valid", "test"}


@given(st.text())
def test_every_text_has_a_side_and_normalising_twice_changes_nothing(text: str) -> None:
    assert text_split(text) in ("train", "valid", "test")
    assert normalize_text(normalize_text(text)) == normalize_text(text)
