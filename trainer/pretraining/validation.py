"""The captions by which a run is validated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clara_search.text.tokenizer import Tokenizer
from trainer.data.corpus import Corpus
from trainer.evaluation.retrieval import Captioned


class ValidationCaptions:
    """All captions of the validated recordings, and which of them has which.

    Args:
        corpus: all recordings.
        valid: the indices of those that are validated.
        tokenizer: of the model.
        max_positions: the most tokens of a text.
    """

    def __init__(self, corpus: Corpus, valid: Sequence[int], tokenizer: Tokenizer, max_positions: int):
        self.captions = Captioned.of(
            [corpus.examples[index] for index in valid], [corpus.hashes[index] for index in valid]
        )
        self.position_of = {index: position for position, index in enumerate(valid)}
        self._tokenizer, self._max_positions = tokenizer, max_positions

    @property
    def texts(self) -> Sequence[str]:
        """The different captions."""
        return self.captions.texts

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the token ids of texts, and which of them are no padding; each of shape (texts, tokens)."""
        ids, mask = self._tokenizer.encode(list(texts), [None] * len(texts), self._max_positions)
        return torch.from_numpy(ids), torch.from_numpy(mask)
