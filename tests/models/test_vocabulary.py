"""CLARA's tokens, against those that the released code gives.

The vocabulary beside this test is the part of Whisper's that its strings can meet, under the same ids.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from clara_search.errors import FormatError
from clara_search.models.vocabulary import ADDED_TOKENS, FIRST_ADDED_TOKEN, released_tokenizer
from clara_search.tokenizer import Tokenizer

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
VOCABULARY = PARITY / "whisper-vocabulary.tiktoken"
STORED = json.loads((PARITY / "clara-tokens.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return released_tokenizer(VOCABULARY)


def ids_of(tokenizer: Tokenizer, text: str, language: str | None, speech: bool = True) -> list[int]:
    ids, mask = tokenizer.encode([text], [language], 4096, speech=speech)
    assert mask.all()
    return ids[0].tolist()


@pytest.mark.parametrize("example", STORED["examples"], ids=lambda example: ascii(example["text"]))
def test_ids_are_those_of_the_released_code(tokenizer: Tokenizer, example: dict) -> None:
    assert ids_of(tokenizer, example["text"], example["language"], example["speech"]) == example["ids"]


def test_added_tokens_are_those_of_the_released_code(tokenizer: Tokenizer) -> None:
    added = {token: FIRST_ADDED_TOKEN + place for place, token in enumerate(ADDED_TOKENS)}
    assert added == STORED["specials"]
    assert tokenizer.vocab_size == 50373


@pytest.mark.parametrize(
    ("language", "token"),
    [
        ("en", "<|en|>"),
        ("EN", "<|en|>"),
        ("english", "<|en|>"),
        ("Spanish", "<|es|>"),
        ("castilian", "<|es|>"),
        ("es-419", "<|es|>"),
        ("zh", "<|zh|>"),
        ("zh-CN", "<|zh-CN|>"),
        ("ZH_cn", "<|zh-CN|>"),
        ("Chinese", "<|zh|>"),
        ("fy-NL", "<|fy-NL|>"),
        ("Western Frisian", "<|fy|>"),
        ("he", "<|iw|>"),
        ("Haitian Creole", "<|ht|>"),
        ("tlh", "<|en|>"),
        (None, "<|en|>"),
        ("", "<|en|>"),
    ],
)
def test_a_language_is_found_by_code_or_name_in_any_letter_case(
    tokenizer: Tokenizer, language: str | None, token: str
) -> None:
    assert ids_of(tokenizer, "rain", language)[0] == STORED["specials"][token]


def test_the_tokenizer_survives_its_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    for example in STORED["examples"]:
        assert ids_of(again, example["text"], example["language"], example["speech"]) == example["ids"]


@pytest.mark.parametrize(
    "content", ["", "garbage", "IQ== 0\n", "IQ== zero\n", "IQ== -5\n", "!!!! 3\n", "= 3\n", "\u00e9 1\n"]
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.tiktoken").write_text(content, encoding="utf-8")
    with pytest.raises(FormatError, match=r"bad\.tiktoken: not "):
        released_tokenizer(tmp_path / "bad.tiktoken")
    with pytest.raises(FormatError, match=r"none\.tiktoken"):
        released_tokenizer(tmp_path / "none.tiktoken")


@pytest.mark.skipif(find_spec("whisper") is not None, reason="openai-whisper is installed")
def test_without_whisper_the_error_says_what_to_install() -> None:
    with pytest.raises(FormatError, match=r"pip install 'clara-search\[convert\]'"):
        released_tokenizer()


@pytest.mark.skipif(find_spec("whisper") is None, reason="openai-whisper is not installed (extra: convert)")
def test_the_whole_vocabulary_gives_the_same_ids() -> None:
    whole = released_tokenizer()
    for example in STORED["examples"]:
        assert ids_of(whole, example["text"], example["language"], example["speech"]) == example["ids"]
