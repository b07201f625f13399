"""Texts to token ids and a mask, by a byte-level BPE that is saved with its model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from clara_search.errors import FormatError
from clara_search.text.languages import is_specified, language_spellings
from clara_search.text.tokenizer_files import encode, load_tokenizer

log = logging.getLogger(__name__)

PAD = "<|pad|>"
ANY_LANGUAGE = "<|und|>"

SPEECH, NO_SPEECH = "<|speech|>", "<|nospeech|>"
"""Tokens of the released CLARA models: whether the recording of the text is speech."""

DEFAULT_LANGUAGE = "<|en|>"
"""Language token of the released models for an unknown language, as in their own code."""

_CONTROL_TOKENS = frozenset(
    (PAD, ANY_LANGUAGE, SPEECH, NO_SPEECH, "<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>")
)
"""Special tokens that are not languages."""


class Tokenizer:
    """A Hugging Face `tokenizer.json` that encodes a text as a language token and its byte pairs.

    A language is a code or an English name, in any letter case; "es-419" falls back to "es". No language is encoded as
    `<|und|>`; so is one without a token, which is logged once. A tokenizer of the released models also has
    `<|speech|>`: it encodes a text as a language token, a speech token and the byte pairs of a space and the text, and
    no language as English.
    """

    def __init__(self, bpe: tokenizers.Tokenizer) -> None:
        if not isinstance(bpe.model, tokenizers.models.BPE):
            raise FormatError(f"the tokenizer's model is {type(bpe.model).__name__}, expected BPE")
        bpe.no_padding()
        bpe.no_truncation()
        self._bpe = bpe
        self._special = {token.content.lower(): index for index, token in bpe.get_added_tokens_decoder().items()}
        self._released = SPEECH in self._special
        needed = (SPEECH, NO_SPEECH, DEFAULT_LANGUAGE) if self._released else (PAD, ANY_LANGUAGE)
        if missing := [token for token in needed if token not in self._special]:
            raise FormatError(f"the tokenizer has no {' or '.join(missing)} token")
        self._pad = self._special.get(PAD, 0)
        self._default_language = DEFAULT_LANGUAGE if self._released else ANY_LANGUAGE
        codes = {token: token.removeprefix("<|").removesuffix("|>") for token in self._special.keys() - _CONTROL_TOKENS}
        self._languages = {code: self._special[token] for token, code in codes.items() if token == f"<|{code}|>"}
        self._unknown_languages: set[str] = set()

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            FormatError: The file is missing or broken.
        """
        bpe = load_tokenizer(path)
        try:
            return cls(bpe)
        except FormatError as error:
            raise FormatError(f"{path}: not a tokenizer ({error})") from error

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        self._bpe.save(str(path))

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that have a token, in the order of the token ids."""
        contents = {index: token.content for index, token in self._bpe.get_added_tokens_decoder().items()}
        return [contents[index][2:-2] for index in sorted(self._languages.values())]

    @property
    def vocab_size(self) -> int:
        """The highest token id plus one, special tokens included."""
        return max(self._bpe.get_vocab().values()) + 1

    def encode(
        self,
        texts: Sequence[str],
        languages: Sequence[str | None],
        max_tokens: int,
        speech: bool = True,
        dropout: float = 0.0,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Encode texts as token ids.

        Args:
            texts: Texts.
            languages: Language of each text, a code or an English name; None: not known.
            max_tokens: Longer texts are truncated to this many tokens.
            speech: Whether the recordings of the texts are speech, for a released model; its own code says so of every
                query.
            dropout: For training: probability of splitting a merged pair again, a repeatable variant of BPE dropout
                (Provilkov et al., 2020).
            rngs: Generator for each text, if there is `dropout`.

        Returns:
            Token ids, int64, shape (n, longest), padded; and a mask of the same shape, true for tokens.
        """
        inputs = [f" {text}" for text in texts] if self._released else list(texts)
        speech_token = [self._special[SPEECH if speech else NO_SPEECH]] if self._released else []
        encoded = [encoding.ids for encoding in encode(self._bpe, inputs, add_special_tokens=False)]
        if dropout and rngs is not None:
            encoded = [self._split_merges(ids, dropout, rng) for ids, rng in zip(encoded, rngs, strict=True)]
        rows = [
            [self._language_token(language), *speech_token, *ids][:max_tokens]
            for language, ids in zip(languages, encoded, strict=True)
        ]
        ids = np.full((len(rows), max(map(len, rows), default=0)), self._pad, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=bool)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = True
        return ids, mask

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return, for each text, start and end of each token after the language token, in characters."""
        return [encoding.offsets for encoding in encode(self._bpe, texts, add_special_tokens=False)]

    def _split_merges(self, ids: list[int], dropout: float, rng: np.random.Generator) -> list[int]:
        result, stack = [], ids[::-1]
        while stack:
            token = stack.pop()
            pair = self._merged_pairs.get(token)
            if pair is not None and rng.random() < dropout:
                stack += pair[::-1]
            else:
                result.append(token)
        return result

    @cached_property
    def _merged_pairs(self) -> dict[int, tuple[int, int]]:
        """The two tokens that each merged token consists of."""
        vocabulary = self._bpe.get_vocab()
        merges = json.loads(self._bpe.to_str())["model"]["merges"]
        return {vocabulary[a + b]: (vocabulary[a], vocabulary[b]) for a, b in merges}

    def _language_token(self, language: str | None) -> int:
        if language is None:
            return self._special[self._default_language]
        for code in language_spellings(language):
            if code in self._languages:
                return self._languages[code]
        if is_specified(language) and language not in self._unknown_languages:
            self._unknown_languages.add(language)
            log.warning(
                "the model has no token for the language %r: its texts get %s (`clara-search models show` lists the "
                "languages)",
                language,
                self._default_language,
            )
        return self._special[self._default_language]
