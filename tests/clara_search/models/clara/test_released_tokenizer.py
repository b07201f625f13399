"""CLARA's tokens, against those that the released code gives under each version of transformers."""

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clara_search.errors import FormatError, MissingDependency, SourceError
from clara_search.models.clara.released_tokenizer import (
    ADDED_TOKENS,
    FIRST_ADDED_TOKEN,
    TransformersVersion,
    released_tokenizer,
)
from clara_search.text.tokenizer import Tokenizer
from tests.helpers import PARITY

STORED = {
    version: json.loads((PARITY / name).read_text(encoding="utf-8"))
    for version, name in {4: "clara-tokens-4.json", 5: "clara-tokens.json"}.items()
}
EXAMPLES = [(version, example) for version, stored in STORED.items() for example in stored["examples"]]


@pytest.fixture(scope="module")
def tokenizers(vocabulary: Path) -> dict[TransformersVersion, Tokenizer]:
    return {4: released_tokenizer(vocabulary, 4), 5: released_tokenizer(vocabulary, 5)}


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> Tokenizer:
    return released_tokenizer(vocabulary)


def ids_of(tokenizer: Tokenizer, text: str, language: str | None, speech: bool = True) -> list[int]:
    ids, mask = tokenizer.encode([text], [language], 4096, speech=speech)
    assert mask.all()
    return ids[0].tolist()


@pytest.mark.parametrize(("version", "example"), EXAMPLES, ids=[f"{v}-{e['text']!a}" for v, e in EXAMPLES])
def test_ids_are_those_of_the_released_code(
    tokenizers: dict[TransformersVersion, Tokenizer], version: TransformersVersion, example: dict
) -> None:
    assert ids_of(tokenizers[version], example["text"], example["language"], example["speech"]) == example["ids"]


def test_by_default_ids_are_those_of_the_released_environment(tokenizer: Tokenizer) -> None:
    assert ids_of(tokenizer, "the", "en") == [50259, 50372, 220, 3322]


def test_only_words_that_begin_with_t_differ_between_versions(tokenizers: dict[TransformersVersion, Tokenizer]) -> None:
    four, five = (json.loads(tokenizers[version]._bpe.to_str())["model"] for version in (4, 5))
    assert four["vocab"] == five["vocab"]
    assert four["merges"] == five["merges"][1:]
    assert five["merges"][0] == ["\u0120", "t"]
    assert len(five["merges"]) == 50_000


def test_added_tokens_are_those_of_the_released_code(tokenizer: Tokenizer) -> None:
    added = {token: FIRST_ADDED_TOKEN + index for index, token in enumerate(ADDED_TOKENS)}
    assert added == STORED[4]["specials"] == STORED[5]["specials"]
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
        ("Chinese", "<|zh-CN|>"),
        ("mandarin", "<|zh|>"),
        ("zh-TW", "<|zh|>"),
        ("fy-NL", "<|fy-NL|>"),
        ("Western Frisian", "<|fy|>"),
        ("he", "<|iw|>"),
        ("Haitian Creole", "<|ht|>"),
        (None, "<|en|>"),
        ("", "<|en|>"),
        ("und", "<|en|>"),
        ("zxx", "<|en|>"),
    ],
)
def test_a_language_is_found_by_code_or_name_in_any_letter_case(
    tokenizer: Tokenizer, language: str | None, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert ids_of(tokenizer, "rain", language)[0] == STORED[4]["specials"][token]
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("language", ["yue", "xx", "eng", "Cantonese", "speech", "nospeech", "translate", "endoftext"])
def test_a_language_without_a_token_is_english_which_is_logged_once(
    vocabulary: Path, language: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = released_tokenizer(vocabulary)
    for _ in range(2):
        assert ids_of(tokenizer, "rain", language) == ids_of(tokenizer, "rain", "en")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"the model has no token for the language '{language}': its texts get <|en|> (")


def test_every_language_of_the_released_code_is_found_by_its_code_and_listed(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(tokenizer.languages) == 110
    assert [ids_of(tokenizer, "rain", code)[0] for code in tokenizer.languages] == list(range(50259, 50369))
    assert (tokenizer.languages[2], tokenizer.languages[-1]) == ("zh-CN", "rw")
    assert not caplog.records


@pytest.mark.parametrize("version", [4, 5])
def test_the_tokenizer_survives_its_file(
    tokenizers: dict[TransformersVersion, Tokenizer], version: TransformersVersion, tmp_path: Path
) -> None:
    tokenizers[version].save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    for example in STORED[version]["examples"]:
        assert ids_of(again, example["text"], example["language"], example["speech"]) == example["ids"]


def _gpt2(content: bytes) -> bytes:
    """The first 50,000 lines under ranks of their own: a whole vocabulary, of another model."""
    tokens = [line.split()[0] for line in content.splitlines()[:50_000]]
    return b"".join(token + b" %d\n" % rank for rank, token in enumerate(tokens))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: b"garbage",
        lambda content: content[: len(content) // 2],
        lambda content: content.removesuffix(b"= 50256\n"),
        lambda content: content.replace(b"IHQ= 256\n", b"IHQ= 257\n"),
        lambda content: content + base64.b64encode(b"more") + b" 50257\n",
        lambda content: content[::-1],
        _gpt2,
    ],
    ids=["empty", "garbage", "half", "no empty token", "other rank", "a token more", "backwards", "another model's"],
)
def test_a_file_that_is_not_whispers_vocabulary_is_named(
    vocabulary: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "bad.tiktoken").write_bytes(change(vocabulary.read_bytes()))
    with pytest.raises(FormatError, match=r"bad\.tiktoken: not Whisper's multilingual\.tiktoken .*take the whole file"):
        released_tokenizer(tmp_path / "bad.tiktoken")


def test_a_vocabulary_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.tiktoken: cannot be read \(No such file"):
        released_tokenizer(tmp_path / "none.tiktoken")


@pytest.mark.slow
def test_line_ends_of_another_system_do_not_matter(vocabulary: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "windows.tiktoken").write_bytes(vocabulary.read_bytes().replace(b"\n", b"\r\n"))
    assert released_tokenizer(tmp_path / "windows.tiktoken")._bpe.to_str() == tokenizer._bpe.to_str()


@pytest.mark.slow
def test_the_vocabulary_of_an_installed_whisper_is_the_default(
    vocabulary: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whisper" / "assets").mkdir(parents=True)
    (tmp_path / "whisper" / "__init__.py").write_text("raise ImportError('it is found, not imported')")
    (tmp_path / "whisper" / "assets" / "multilingual.tiktoken").write_bytes(vocabulary.read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert released_tokenizer()._bpe.to_str() == tokenizer._bpe.to_str()


def test_without_whisper_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "whisper", None)  # as if it were not installed
    with pytest.raises(MissingDependency, match=r"pip install 'clara-search\[convert\]'"):
        released_tokenizer()
