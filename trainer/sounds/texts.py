"""The text side of a sound head: a reduced vocabulary, names of classes, and training texts."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from clara_search.errors import FormatError
from clara_search.models.clara.sound_head import SoundHead, SoundTokenizer, embed_meanings
from clara_search.text.normalize import normalize_text
from trainer.config.captions import TEMPLATES
from trainer.config.evaluation import bundled_digits
from trainer.data.captions import Translations
from trainer.data.text_split import text_split

VOCABULARIES: Mapping[str, int] = {
    "en": 20_000,
    "es": 10_000,
    "fr": 10_000,
    "de": 10_000,
    "it": 10_000,
    "ru": 10_000,
    "pt": 6_000,
    "nl": 6_000,
    "pl": 4_000,
    "tr": 2_000,
}
"""The most frequent words of each language (of `wordfreq`) whose tokens are included."""

_SPECIAL = ("<unk>", "<s>", "</s>")
_LONGEST = 256  # tokens
_AT_ONCE = 256

Frequent = Callable[[str, int], Sequence[str]]
"""A function from a language and a count to its most frequent words, as `wordfreq.top_n_list`."""


def make_tokenizer(pieces: Sequence[tuple[str, float]], charsmap: bytes) -> tokenizers.Tokenizer:
    """Return a unigram tokenizer.

    Args:
        pieces: Tokens with their log-probabilities; the first three are `<unk>`, `<s>` and `</s>`.
        charsmap: The map that normalizes characters, in the format of SentencePiece.

    Raises:
        FormatError: The first three tokens are others.
    """
    if tuple(piece for piece, _ in pieces[: len(_SPECIAL)]) != _SPECIAL:
        raise FormatError(f"expected the tokens {', '.join(_SPECIAL)} first")
    unigram = tokenizers.Tokenizer(models.Unigram(list(pieces), unk_id=0, byte_fallback=False))
    unigram.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    )
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    unigram.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, _SPECIAL.index(token)) for token in _SPECIAL[1:]]
    )
    unigram.enable_truncation(_LONGEST)
    return unigram


def choose_pieces(
    pieces: Sequence[tuple[str, float]], charsmap: bytes, texts: Iterable[str], frequent: Frequent
) -> list[int]:
    """Return the sorted indices of the tokens to keep.

    Args:
        pieces: All tokens with their log-probabilities.
        charsmap: The map that normalizes characters, in the format of SentencePiece.
        texts: Texts whose tokens and characters are included, beside those of the words of `VOCABULARIES`.
        frequent: Returns the most frequent words of a language.
    """
    whole = make_tokenizer(pieces, charsmap)
    words = [word for language, count in VOCABULARIES.items() for word in frequent(language, count)]
    plain = [normalize_text(text) for text in (*texts, *words)]
    used = {token for encoding in whole.encode_batch(plain) for token in encoding.ids}
    spelt = {letter for text in plain for letter in text}
    letters = {token for token, (piece, _) in enumerate(pieces) if piece in spelt}
    return sorted(used | letters | set(range(len(_SPECIAL))))


def read_names(path: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Read further names of classes.

    Args:
        path: CSV file with the columns `class` and `names`, the latter separated by semicolons.
        classes: Names of the classes.

    Returns:
        Names, first those of `classes` themselves and their parts, each with the index of its class.

    Raises:
        FormatError: The table cannot be read or names an unknown class.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    names = [(part, number) for name, number in numbers.items() for part in dict.fromkeys([name, *_parts(name)])]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["class"], row["names"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a table of names ({error})") from error
    for name, others in rows:
        if name not in numbers:
            raise FormatError(f"{path}: {name!r} is none of the classes")
        names += [(other.strip(), numbers[name]) for other in others.split(";") if other.strip()]
    return names


def _parts(name: str) -> Iterator[str]:
    if "," in name:
        yield from (part.strip() for part in name.split(",") if part.strip() and "etc" not in part)


def variants(text: str, table: Translations) -> list[str]:
    """Return the name of a sound itself, its translations by `table`, and English sentences with it."""
    translated = [table.translate(text, language) for language in table.languages]
    framed = [template.replace("{text}", text) for template in TEMPLATES if "{text}" in template]
    return [text, *(name for name in translated if name is not None), *framed]


def translated_names(table: Translations) -> list[tuple[str, str]]:
    """Return pairs of a translation and its English name, for the names in the training split."""
    return [
        (translation, name)
        for name in table.names
        if text_split(name) == "train"
        for language in table.languages
        if (translation := table.translate(name, language)) is not None
    ]


def random_speech(frequent: Frequent, rng: np.random.Generator, count: int = 3000) -> list[str]:
    """Return texts that name no sound: `count` texts of 2 to 8 random words in 12 languages, and digits."""
    listed = {language: list(frequent(language, 5000)) for language in (*VOCABULARIES, "cs", "sv")}
    languages = list(listed)
    sampled = []
    for number in range(count):
        words = listed[languages[number % len(languages)]]
        sampled.append(" ".join(rng.choice(words, rng.integers(2, 9))))
    return [*sampled, *sorted(bundled_digits().all_words)]


def count_words(texts: Sequence[str]) -> Tensor:
    """Return the number of words of each text, (n,), int64."""
    return torch.tensor([len(normalize_text(text).split()) for text in texts])


@torch.inference_mode()
def embed(head: SoundHead, tokenizer: SoundTokenizer, texts: Sequence[str]) -> Tensor:
    """Return the unit meaning vectors of texts, (n, 512); texts of similar length share a batch."""
    ids, _ = tokenizer.encode(texts)
    meanings = torch.empty(len(ids), head.anchors.shape[1])
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        meanings[rows] = embed_meanings(head, [ids[row] for row in rows])
    return meanings
