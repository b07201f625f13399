"""The tokenizer of the released CLARA models: Whisper's multilingual vocabulary and CLARA's 116 added tokens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal

import tokenizers

from clara_search.errors import FormatError, MissingDependency, SourceError
from clara_search.text.languages import CLARA_LANGUAGES
from clara_search.text.tokenizer import NO_SPEECH, SPEECH, Tokenizer

FIRST_ADDED_TOKEN = 50257
"""Id of the first of CLARA's tokens; Whisper's byte pairs have the ids below."""

VOCABULARY_SHA256 = "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126"
"""SHA-256 of Whisper's `multilingual.tiktoken`, the same in every release."""

TransformersVersion = Literal[4, 5]

RELEASED_TRANSFORMERS_VERSION: TransformersVersion = 4
"""Major version of `transformers` (4.27.4) under which the released models were trained."""

ADDED_TOKENS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in CLARA_LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    NO_SPEECH,
    SPEECH,
)


def released_tokenizer(
    vocabulary: Path | None = None, transformers_version: TransformersVersion = RELEASED_TRANSFORMERS_VERSION
) -> Tokenizer:
    """Return the tokenizer of the released models.

    Args:
        vocabulary: Whisper's `multilingual.tiktoken`; None: the one in the installed distribution openai-whisper.
        transformers_version: Major version of `transformers` under which the model was trained. Version 4, that of the
            released models, takes the first line of CLARA's `merges.txt` for a header and so never merges a space with
            a "t": " the" is two tokens, and one under version 5.

    Returns:
        The tokenizer.

    Raises:
        FormatError: The file is not Whisper's.
        MissingDependency: `vocabulary` is None, and openai-whisper is not installed.
        SourceError: The file cannot be read.
    """
    ranks = _read_ranks(vocabulary or _installed_vocabulary())
    merges = [(_letters(left), _letters(right)) for left, right in _merges(ranks)]
    if transformers_version == 4:
        del merges[0]
    vocab = {_letters(token): rank for token, rank in ranks.items()}
    vocab |= {token: FIRST_ADDED_TOKEN + index for index, token in enumerate(ADDED_TOKENS)}
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.add_special_tokens(list(ADDED_TOKENS))
    return Tokenizer(bpe)


def _installed_vocabulary() -> Path:
    spec = find_spec("whisper")
    path = Path(spec.origin).parent / "assets" / "multilingual.tiktoken" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise MissingDependency(
            "the released tokenizer needs Whisper's vocabulary: pip install 'clara-search[convert]', or give the file "
            "multilingual.tiktoken of the openai/whisper repository as vocabulary"
        )
    return path


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Return the rank of each token. A line holds a token's bytes in Base64 (`=` for the empty one) and its rank.

    Every release of Whisper has the same file. Any other content, such as a part of it or `gpt2.tiktoken`, would give
    other ids without an error, so it is refused.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    if digest != VOCABULARY_SHA256:
        raise FormatError(
            f"{path}: not Whisper's multilingual.tiktoken (SHA-256 {digest[:12]}..., not {VOCABULARY_SHA256[:12]}...): "
            "take the whole file, as it is in openai-whisper or in the openai/whisper repository"
        )
    rows = [line.split() for line in lines]
    return {b"" if token == b"=" else base64.b64decode(token): int(rank) for token, rank in rows}


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two parts that each token is merged from, by rank: its bytes after all merges of lower rank."""
    for token in sorted(ranks, key=ranks.__getitem__):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            rank, index = min(
                (ranks.get(left + right, len(ranks)), index) for index, (left, right) in enumerate(pairwise(parts))
            )
            if rank >= ranks[token]:
                break
            parts[index : index + 2] = [parts[index] + parts[index + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def _letters(token: bytes) -> str:
    return "".join(_LETTER_OF_BYTE[byte] for byte in token)


def _letter_of_byte() -> dict[int, str]:
    """Return GPT-2's letter for each byte: itself for printable Latin-1, else letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


_LETTER_OF_BYTE = _letter_of_byte()
