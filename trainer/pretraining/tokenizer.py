"""A byte-pair encoding learned from texts."""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers

from clara_search.text.tokenizer import ANY_LANGUAGE, PAD, Tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, languages: Iterable[str]) -> Tokenizer:
    """Learn a byte-pair encoding from `texts`.

    Case is folded and Unicode forms are unified (NFKC), so that letter case and width of a query do not matter.

    Args:
        texts: Texts to count pairs in.
        vocab_size: The most tokens that it may have, special ones included.
        languages: Codes of the languages that get a token.

    Returns:
        The tokenizer.
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
    return Tokenizer(bpe)
