"""Which token of a text says which of its phones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clara_search.models.clara.phone_head import BLANK
from trainer.phones.alignment import phone_slots


def test_the_phones_of_a_word_are_spread_over_its_tokens() -> None:
    # "seven ox": tokens "sev", "en", " ox"; phones 1 to 5, then 6, 7 and 8
    slots = phone_slots("seven ox", [[1, 2, 3, 4, 5], [6, 7, 8]], [(0, 3), (3, 5), (5, 8)], 4)
    assert slots == [1, 2, 3, BLANK, 4, 5, BLANK, BLANK, 6, 7, 8, BLANK]


@pytest.mark.parametrize("phones", [[], [[1]], [[1], [2], [3]]])
def test_words_that_do_not_match_are_not_aligned(phones: list[list[int]]) -> None:
    assert phone_slots("two words", phones, [(0, 3), (3, 9)], 4) is None


def test_a_blank_separates_equal_neighbours_if_it_fits() -> None:
    assert phone_slots("oo", [[7, 7]], [(0, 2)], 4) == [7, BLANK, 7, BLANK]
    assert phone_slots("oo", [[7, 7]], [(0, 2)], 2) == [7, 7]


def test_phones_that_do_not_fit_go_to_the_next_token_of_the_word() -> None:
    assert phone_slots("xy", [[1, 2, 3, 4]], [(0, 1), (1, 2)], 3) == [1, 2, BLANK, 3, 4, BLANK]
    assert phone_slots("xy", [[1, 2, 3, 4, 5, 6]], [(0, 1), (1, 2)], 2) == [1, 2, 3, 4]


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=6), st.integers(0, 6)), min_size=1, max_size=5))
def test_with_enough_slots_each_phone_occurs_once_and_in_order(words: list[tuple[str, int]]) -> None:
    text = " ".join(word for word, _ in words)
    phones = [list(range(1, count + 1)) for _, count in words]
    letters = [(at, at + 1) for at, letter in enumerate(text) if letter != " "]
    slots = phone_slots(text, phones, letters, 16)
    assert slots is not None
    assert [slot for slot in slots if slot != BLANK] == [phone for word in phones for phone in word]
