"""Texts to token ids and a mask: a byte-level BPE that is saved with its model."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from clara_search.errors import FormatError
from clara_search.text.languages import is_specified, language_spellings

log = logging.getLogger(__name__)

PAD = "<|pad|>"
ANY_LANGUAGE = "<|und|>"

SPEECH, NO_SPEECH = "<|speech|>", "<|nospeech|>"
"""Tokens of the released CLARA models: whether the text goes with speech."""

DEFAULT_LANGUAGE = "<|en|>"
"""What the released models are told where nothing is known, as their own code has it."""

_CONTROL_TOKENS = frozenset(
    (PAD, ANY_LANGUAGE, SPEECH, NO_SPEECH, "<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>")
)
"""Tokens between bars that are no languages."""


class Tokenizer:
    """A Hugging Face `tokenizer.json`; every text becomes a language token and its byte pairs.

    Languages are codes or English names, in any letter case; "es-419" is "es" where there is no token for it. No
    language is `<|und|>`, and so is one that there is no token for, which is logged once. A tokenizer of the released
    models has `<|speech|>` too: there a text is the tokens of language and of speech and the pairs of a space and the
    text, and no language is English.
    """

    def __init__(self, bpe: tokenizers.Tokenizer) -> None:
        if not isinstance(bpe.model, tokenizers.models.BPE):
            raise FormatError(f"the tokenizer is a {type(bpe.model).__name__}, not a BPE")
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
    def train(cls, texts: Iterable[str], vocab_size: int, languages: Iterable[str]) -> Tokenizer:
        """Learn a BPE of at most `vocab_size` tokens from `texts`, with a token for each of `languages`.

        Case is folded and forms are unified (NFKC): a query is found however it is typed.
        """
        bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
        bpe.normalizer = tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Lowercase()]
        )
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, ANY_LANGUAGE, *(f"<|{code}|>" for code in sorted(set(languages)))],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`. Raises FormatError where it is missing or broken."""
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: cannot be read ({error})") from error
        except Exception as error:  # tokenizers raises nothing narrower
            raise FormatError(f"{path}: not a tokenizer ({error})") from error

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        self._bpe.save(str(path))

    @property
    def languages(self) -> list[str]:
        """The codes of the languages that it has tokens for, in the order of their ids."""
        contents = {index: token.content for index, token in self._bpe.get_added_tokens_decoder().items()}
        return [contents[index][2:-2] for index in sorted(self._languages.values())]

    @property
    def vocab_size(self) -> int:
        """One more than the highest token id, specials included."""
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
        """Return token ids, shape (n, longest), and a mask of the same shape that is true where a token stands.

        A text of more than `max_tokens` is cut there. `speech` says, to a released model, that the texts go with
        speech; its own code says so of every query. For training, each merge of pairs is undone with probability
        `dropout`, as the one of `rngs` for that text draws: BPE dropout's cousin (Provilkov et al., 2020), repeatable.
        """
        written = [f" {text}" for text in texts] if self._released else list(texts)
        middle = [self._special[SPEECH if speech else NO_SPEECH]] if self._released else []
        encoded = [encoding.ids for encoding in self._bpe.encode_batch(written, add_special_tokens=False)]
        if dropout and rngs is not None:
            encoded = [self._undone(ids, dropout, rng) for ids, rng in zip(encoded, rngs, strict=True)]
        rows = [
            [self._language(language), *middle, *ids][:max_tokens]
            for language, ids in zip(languages, encoded, strict=True)
        ]
        ids = np.full((len(rows), max(map(len, rows), default=0)), self._pad, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=bool)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = True
        return ids, mask

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return where in its text each token that `encode` gives behind the language begins and ends, in letters."""
        return [encoding.offsets for encoding in self._bpe.encode_batch(list(texts), add_special_tokens=False)]

    def _undone(self, ids: list[int], dropout: float, rng: np.random.Generator) -> list[int]:
        found, left = [], ids[::-1]
        while left:
            token = left.pop()
            parents = self._parents.get(token)
            if parents is not None and rng.random() < dropout:
                left += parents[::-1]
            else:
                found.append(token)
        return found

    @cached_property
    def _parents(self) -> dict[int, tuple[int, int]]:
        """The two tokens that each merged one is made of."""
        vocabulary = self._bpe.get_vocab()
        merges = json.loads(self._bpe.to_str())["model"]["merges"]
        return {vocabulary[a + b]: (vocabulary[a], vocabulary[b]) for a, b in merges}

    def _language(self, language: str | None) -> int:
        if language is None:
            return self._special[self._default_language]
        for code in language_spellings(language):
            if code in self._languages:
                return self._languages[code]
        if is_specified(language) and language not in self._unknown_languages:
            self._unknown_languages.add(language)
            log.warning(
                "the model has no token for the language %r: texts in it get %s (`clara-search models show` lists the "
                "languages it has)",
                language,
                self._default_language,
            )
        return self._special[self._default_language]
