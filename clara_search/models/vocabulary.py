"""The tokenizer of the released CLARA models: Whisper's multilingual vocabulary with CLARA's 116 tokens added."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import tokenizers

from clara_search.errors import FormatError
from clara_search.languages import CLARA_LANGUAGES
from clara_search.tokenizer import NO_SPEECH, SPEECH, Tokenizer

FIRST_ADDED_TOKEN = 50257
"""Whisper's byte pairs have the ids below, CLARA's tokens those from here on."""

_LONGEST = 256
"""Bytes in a token, at most: Whisper's longest has 128."""

ADDED_TOKENS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in CLARA_LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    NO_SPEECH,
    SPEECH,
)


def released_tokenizer(vocabulary: Path | None = None) -> Tokenizer:
    """Return the tokenizer of the released models.

    `vocabulary` is Whisper's `multilingual.tiktoken` (a line a token: its bytes in Base64, its rank), by default the
    one in the installed distribution openai-whisper. Raises FormatError where there is none or it is broken.
    """
    path = vocabulary or _installed()
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        rows = [line.split() for line in lines if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in rows}
    except (OSError, UnicodeDecodeError, ValueError, binascii.Error) as error:
        raise FormatError(f"{path}: not a vocabulary of lines 'BASE64 RANK' ({error})") from error
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    inside = all(0 <= rank < FIRST_ADDED_TOKEN and 0 < len(token) <= _LONGEST for token, rank in ranks.items())
    if missing or not inside or len(set(ranks.values())) != len(ranks):
        raise FormatError(f"{path}: not Whisper's multilingual vocabulary of {FIRST_ADDED_TOKEN:,} byte pairs")
    vocab = {_letters(token): rank for token, rank in ranks.items()}
    vocab |= {token: FIRST_ADDED_TOKEN + place for place, token in enumerate(ADDED_TOKENS)}
    merges = [(_letters(left), _letters(right)) for left, right in _merges(ranks)]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.add_special_tokens(list(ADDED_TOKENS))
    return Tokenizer(bpe)


def _installed() -> Path:
    spec = find_spec("whisper")
    path = Path(spec.origin).parent / "assets" / "multilingual.tiktoken" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FormatError(
            "the released tokenizer is built from Whisper's vocabulary: pip install 'clara-search[convert]', or name "
            "the file multilingual.tiktoken of the openai/whisper repository with --vocabulary"
        )
    return path


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two parts that each token is merged from, by rank: what its bytes become under the lower ranks."""
    for token in sorted(ranks, key=ranks.__getitem__):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            rank, place = min(
                (ranks.get(left + right, len(ranks) + FIRST_ADDED_TOKEN), place)
                for place, (left, right) in enumerate(pairwise(parts))
            )
            if rank >= ranks[token]:
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def _letters(token: bytes) -> str:
    return "".join(_LETTER_OF_BYTE[byte] for byte in token)


def _letter_of_byte() -> dict[int, str]:
    """Return GPT-2's letter for each byte: printable Latin-1 stands for itself, the rest follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


_LETTER_OF_BYTE = _letter_of_byte()
