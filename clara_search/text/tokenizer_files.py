"""Tokenizer files of other people: what a `tokenizer.json` does to a text is checked before the library loads it.

A normalizer can multiply a text, a pattern can backtrack for years, and a broken character map makes the library, in
Rust, panic: an exception that is no `Exception`. So the parts are of known kinds, and their numbers small.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from clara_search.errors import ClaraError, FormatError, first_line
from clara_search.files.json_reader import parse_object
from clara_search.files.limits import JSON_BYTES, TEXT_CHARACTERS, TEXT_TOKENS, TOKENS
from clara_search.files.regular import read_regular

NORMALIZERS = frozenset(
    "NFC NFD NFKC NFKD Nmt Lowercase Strip StripAccents BertNormalizer ByteLevel Precompiled Prepend Replace".split()
)
PRE_TOKENIZERS = frozenset(
    "ByteLevel Metaspace Whitespace WhitespaceSplit BertPreTokenizer Digits Punctuation Split UnicodeScripts "
    "CharDelimiterSplit".split()
)
POST_PROCESSORS = frozenset("ByteLevel RobertaProcessing BertProcessing TemplateProcessing".split())
MODELS = frozenset("BPE Unigram WordLevel WordPiece".split())

PATTERNS = frozenset({" {2,}", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"})
"""Regular expressions of SentencePiece's and GPT-2's tokenizers, which do not backtrack far."""

_MOST_PARTS = 16
_LONGEST_PREFIX = 16
_MOST_GROWTH = 16
_LONGEST_CHARACTER = 64
"""Bytes that a character map may make of one character: NFKC makes 33 at most."""

_HIGHEST_ID = 10_000_000
_CHARACTERS_AT_ONCE = 1_000_000


def load_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        FormatError: It is missing, broken, larger than a limit, or has a part that is not known.
    """
    try:
        content = read_regular(path, JSON_BYTES)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error
    check_tokenizer(parse_object(content, path), path)
    try:
        with no_panic(path):
            return tokenizers.Tokenizer.from_str(content.decode("utf-8-sig"))
    except ClaraError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        raise FormatError(f"{path}: not a tokenizer ({first_line(error)})") from error


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], **options: Any) -> Iterator[tokenizers.Encoding]:
    """Yield the encoding of each text, of which no more than the limit `text_characters` is looked at.

    Args:
        tokenizer: The tokenizer.
        texts: Texts.
        **options: Of `encode_batch`.

    Raises:
        FormatError: The tokenizer is broken: it fails at a text.
    """
    remaining = iter([text[: TEXT_CHARACTERS.value] for text in texts])
    while group := _next_group(remaining):
        try:
            with no_panic("the model's tokenizer"):
                encoded = tokenizer.encode_batch(group, **options)
        except ClaraError:
            raise
        except Exception as error:  # as above
            raise FormatError(f"the model's tokenizer is broken ({first_line(error)})") from error
        yield from encoded


def _next_group(texts: Iterator[str]) -> list[str]:
    """Return the next texts that are encoded together: an encoding takes a hundred bytes a token."""
    group, characters = list[str](), 0
    for text in texts:
        group.append(text)
        characters += len(text)
        if characters > _CHARACTERS_AT_ONCE:
            break
    return group


@contextmanager
def no_panic(where: object) -> Iterator[None]:
    """Raise FormatError for a panic of a library in Rust, which is a BaseException."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise FormatError(f"{where}: not a tokenizer that can be used ({first_line(error)})") from None


def check_tokenizer(values: Mapping[str, Any], path: Path) -> None:
    """Check the content of a `tokenizer.json`.

    Args:
        values: The content.
        path: The file, for errors.

    Raises:
        FormatError: A part is of an unknown kind, or would multiply texts or take for ever.
    """
    try:
        _check_parts(values.get("normalizer"), NORMALIZERS, "normalizers", _check_normalizers)
        _check_parts(values.get("pre_tokenizer"), PRE_TOKENIZERS, "pretokenizers", _check_patterns)
        _check_parts(values.get("post_processor"), POST_PROCESSORS, "processors", _check_templates)
        _check_parts(values.get("decoder"), None, "decoders", _check_patterns)
        _check_lengths(values)
        _check_vocabulary(values.get("model"), values.get("added_tokens"), path)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise FormatError(f"{path}: not a tokenizer that can be used ({first_line(error)})") from error


def _check_parts(part: Any, known: frozenset[str] | None, key: str, check: Any) -> None:
    """Check a part, or the parts of a sequence. Raises ValueError for one of an unknown kind, or for many."""
    parts = list(islice(_flatten(part, key), _MOST_PARTS + 1))
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"it has more than {_MOST_PARTS} {key}")
    for one in parts:
        if known is not None and one["type"] not in known:
            raise ValueError(f"it has a part of the kind {str(one['type'])[:40]!r}")
    check(parts)


def _flatten(part: Any, key: str) -> Iterator[Any]:
    if part is None:
        return
    if part["type"] == "Sequence":
        for inner in part[key]:
            yield from _flatten(inner, key)
    else:
        yield part


def _check_patterns(parts: Sequence[Any]) -> None:
    for part in parts:
        pattern = part.get("pattern")
        if isinstance(pattern, dict):
            ((kind, text),) = pattern.items()
            if (kind == "Regex" and text not in PATTERNS) or not isinstance(text, str) or not text:
                raise ValueError(f"it has the pattern {str(text)[:40]!r}, which is not one of those that are known")


def _check_normalizers(parts: Sequence[Any]) -> None:
    _check_patterns(parts)
    growth = 1.0
    for part in parts:
        if part["type"] == "Replace":
            shortest = 1 if "Regex" in part["pattern"] else len(part["pattern"]["String"])
            growth *= max(1.0, len(part["content"]) / shortest)
        if part["type"] == "Prepend" and len(part["prepend"]) > _LONGEST_PREFIX:
            raise ValueError("it puts a long text before each text")
        if part["type"] == "Precompiled":
            check_charsmap(part["precompiled_charsmap"])
    if growth > _MOST_GROWTH:
        raise ValueError("its normalizers multiply texts")


def _check_templates(parts: Sequence[Any]) -> None:
    for part in parts:
        pieces = [*part.get("single", ()), *part.get("pair", ()), *part.get("special_tokens", {}).values()]
        ids = [token for piece in pieces for token in piece.get("ids", ())]
        if len(pieces) + len(ids) > 10 * _MOST_PARTS:
            raise ValueError("it adds many tokens to each text")
        named = {piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece}
        if not named <= part.get("special_tokens", {}).keys():
            raise ValueError("its template has a token that is none of its special tokens")


def _check_lengths(values: Mapping[str, Any]) -> None:
    truncation, padding = values.get("truncation"), values.get("padding")
    if truncation is not None and not 0 <= truncation["stride"] < truncation["max_length"]:
        raise ValueError("its truncation has a stride that is not below its length")
    if padding is not None:
        fixed = padding["strategy"]["Fixed"] if isinstance(padding["strategy"], dict) else 0
        if max(fixed, padding.get("pad_to_multiple_of") or 0) > TEXT_TOKENS.value:
            raise ValueError(f"it pads texts to more than {TEXT_TOKENS.value:,} tokens")


def _check_vocabulary(model: Any, added: Any, path: Path) -> None:
    kind = model.get("type", "BPE")
    if kind not in MODELS:
        raise ValueError(f"its model is of the kind {str(kind)[:40]!r}")
    vocabulary = model["vocab"]
    TOKENS.check(len(vocabulary) + len(added or ()), path)
    prefix = model.get("continuing_subword_prefix") or ""
    if kind == "BPE" and prefix:
        seconds = (merge.split(" ")[-1] if isinstance(merge, str) else merge[1] for merge in model["merges"])
        if not all(second.startswith(prefix) for second in seconds):
            raise ValueError("its merges lack the prefix of its tokens")
    if kind == "Unigram":
        if not all(piece and isinstance(score, int | float) for piece, score in vocabulary):
            raise ValueError("it has a token that is empty")
        unknown = model.get("unk_id")
        if unknown is not None and not 0 <= unknown < len(vocabulary):
            raise ValueError("its unknown token is none of its tokens")
        ids: list[int] = []
    else:
        ids = list(vocabulary.values())
    ids += [token["id"] for token in added or ()]
    if ids and not 0 <= min(ids) <= max(ids) <= _HIGHEST_ID:
        raise ValueError("its tokens have numbers that are negative or very large")


def check_charsmap(encoded: str) -> None:
    """Check the character map of a SentencePiece model: a double array of prefixes, and the texts that they become.

    The library follows its numbers without looking: those that lead out of it make it panic.

    Args:
        encoded: The map, as Base64.

    Raises:
        ValueError: A number leads out of the map, or a character becomes a long text.
    """
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("its character map is broken") from error
    size = struct.unpack_from("<I", content.ljust(4, b"\0"))[0]
    units = np.frombuffer(content[4 : 4 + size][: size // 4 * 4], "<u4").astype(np.int64)
    texts = content[4 + size :]
    if size % 4 or len(units) * 4 != size or not len(units) or texts[-1:] != b"\0":
        raise ValueError("its character map is broken")
    texts.decode("utf-8")
    if max(map(len, texts.split(b"\0"))) > _LONGEST_CHARACTER:
        raise ValueError("its character map multiplies texts")
    is_leaf = units >> 31 == 1
    targets = np.arange(len(units)) ^ ((units >> 10) << ((units & 0x200) >> 6))
    has_leaf = ~is_leaf & ((units & 0x100) != 0)
    leaves = targets[has_leaf]
    is_sound = bool((targets[~is_leaf] | 0xFF).max(initial=0) < len(units)) and bool(is_leaf[leaves].all())
    starts = units[leaves] & 0x7FFFFFFF if is_sound else np.zeros(0, np.int64)
    ends = np.frombuffer(texts, np.uint8) == 0
    if not is_sound or (starts >= len(texts)).any() or not ends[starts[starts > 0] - 1].all():
        raise ValueError("its character map is broken")
