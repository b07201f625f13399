"""The phone head: embeds speech and transcripts by their expected phone bigrams.

A classifier predicts phones for each frame of the audio tower. The expected counts of phones and of phone bigrams,
projected, are added to the embedding of the recording. A second classifier predicts phones for each token of the text
tower and adds the same counts to the embedding of a transcript. So speech matches its transcript without alignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLANK = 0
"""Class of the CTC blank. The phones are the classes from 1 on."""

PHONES = "abcdefhijklmnoprstuvwxyzðøŋœɐɑɒɔəɛɜɟɡɣɪɲɹɾʁʃʊʌʎʑʒβθɕ"
"""Letters of the IPA that distinguish the words of the larger European languages."""

SKIP_DECAY = 0.5
"""Weight of a skip-bigram per phone skipped: neighbours count 1, the next but one this much, and so on."""

_SLOTS_PER_BLOCK = 128
"""Slots whose bigrams are counted in one matrix product."""

_CERTAIN = 100.0
"""Logit of a known phone."""

_MIN_ONSET = 1e-4
"""Phone onset mass per slot below which a slot counts as silent and is skipped, as most slots are."""


@dataclass(frozen=True)
class PhoneHeadConfig:
    """Configuration of the phone head.

    Attributes:
        phones: The phones, one letter each.
        slots_per_frame: Predictions per frame of the audio tower; phones may be shorter than its frames.
        slots_per_token: Predictions per token of the text tower; 0: none, texts have no bigrams in their embeddings.
    """

    phones: str = PHONES
    slots_per_frame: int = 2
    slots_per_token: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(set(self.phones)) == len(self.phones) <= 500:
            raise ValueError("phones must be 1 to 500 different letters")
        if not 1 <= self.slots_per_frame <= 64:
            raise ValueError(f"slots_per_frame must lie between 1 and 64, got {self.slots_per_frame}")
        if not 0 <= self.slots_per_token <= 64:
            raise ValueError(f"slots_per_token must lie between 0 and 64, got {self.slots_per_token}")


class PhoneHead(nn.Module):
    """Phone classifiers of frames and tokens, and a projection of phone bigrams.

    Attributes:
        num_phones: Number of phones, without the blank.
        frame_classifier: Logits of each slot of a frame.
        token_classifier: Logits of each slot of a token; None without `slots_per_token`.
        bigram_projection: Projects bigram and phone counts into the embedding space.
    """

    def __init__(self, config: PhoneHeadConfig, width: int, dim: int, text_width: int) -> None:
        super().__init__()
        self.num_phones = len(config.phones)
        self.frame_classifier = nn.Linear(width, config.slots_per_frame * (self.num_phones + 1))
        self.token_classifier = (
            nn.Linear(text_width, config.slots_per_token * (self.num_phones + 1)) if config.slots_per_token else None
        )
        self.bigram_projection = nn.Linear(self.num_phones * self.num_phones + self.num_phones, dim, bias=False)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embed frames: (batch, frames, width), mask (batch, frames) -> (batch, dim); near zero without speech."""
        return self.embed_bigrams(expected_phone_bigrams(*self.predict_from_frames(frames, mask)))

    def predict_from_frames(self, frames: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Predict the phones of frames.

        Args:
            frames: Shape (batch, frames, width).
            mask: Shape (batch, frames), false for padding.

        Returns:
            Logits, shape (batch, slots, 1 + num_phones), and their mask, shape (batch, slots).
        """
        return self._slots(self.frame_classifier(frames), mask)

    def predict_from_tokens(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Predict the phones of tokens; needs a `token_classifier`.

        Args:
            tokens: Shape (batch, tokens, text_width).
            mask: Shape (batch, tokens), false for padding.

        Returns:
            Logits, shape (batch, slots, 1 + num_phones), and their mask, shape (batch, slots).
        """
        assert self.token_classifier is not None
        return self._slots(self.token_classifier(tokens), mask)

    def _slots(self, logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        slots = logits.shape[-1] // (self.num_phones + 1)
        logits = logits.reshape(len(logits), -1, self.num_phones + 1)
        return logits, None if mask is None else mask.repeat_interleave(slots, dim=1)

    def embed_bigrams(self, counts: Tensor) -> Tensor:
        """Embed counts of `expected_phone_bigrams` as (batch, dim), of similar norm for much and for little speech."""
        counts = counts / (1.0 + counts.square().sum(dim=1, keepdim=True)).sqrt()
        return self.bigram_projection(counts.to(self.bigram_projection.weight.dtype))  # type: ignore[no-any-return]


def expected_phone_bigrams(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the expected counts of phone bigrams and of phones.

    A phone counts in the slot of its onset. Skip-bigrams count too, `SKIP_DECAY` per phone skipped.

    Args:
        logits: Shape (batch, slots, 1 + phones), blank first.
        mask: Shape (batch, slots), false for padding.

    Returns:
        Shape (batch, phones * phones + phones), float32: the count of phone `a` followed by `b` at a * phones + b, then
        the counts of the phones.
    """
    with torch.autocast(logits.device.type, enabled=False):  # counts need more digits than bf16 has
        return _count_bigrams(logits.float(), mask)


def known_phone_bigrams(targets: Tensor, lengths: Tensor, phones: int) -> Tensor:
    """Return `expected_phone_bigrams` for known phones.

    Args:
        targets: indices of phones (batch, longest).
        lengths: number of phones in each row (batch,).
        phones: size of the inventory.

    Returns:
        (batch, phones * phones + phones), float32.
    """
    slots = targets.new_full((len(targets), 2 * targets.shape[1] + 1), BLANK)  # a blank separates equal neighbours
    slots[:, 1::2] = targets
    mask = torch.arange(slots.shape[1], device=targets.device)[None] <= 2 * lengths[:, None]
    return expected_phone_bigrams(F.one_hot(slots, phones + 1) * _CERTAIN, mask)


def _count_bigrams(logits: Tensor, mask: Tensor | None) -> Tensor:
    onsets = _onsets(logits, mask)
    log_decays = torch.log1p((SKIP_DECAY - 1.0) * onsets.sum(dim=-1).clamp(max=1.0))
    batch, slots, phones = onsets.shape
    memory, bigrams = onsets.new_zeros(batch, phones), onsets.new_zeros(batch, phones, phones)
    for start in range(0, slots, _SLOTS_PER_BLOCK):
        block = slice(start, start + _SLOTS_PER_BLOCK)
        current, after = onsets[:, block], log_decays[:, block].cumsum(dim=1)
        before = after - log_decays[:, block]
        # The weight of an earlier slot decays with the onsets between the two.
        weights = (before[:, :, None] - after[:, None, :]).clamp(max=0.0).exp().tril(-1)
        preceding = weights @ current + before.exp()[..., None] * memory[:, None, :]
        bigrams = bigrams + preceding.transpose(1, 2) @ current
        to_end = (after[:, -1:] - after).exp()
        memory = after[:, -1:].exp() * memory + (to_end[:, None, :] @ current)[:, 0]
    return torch.cat([bigrams.flatten(1), onsets.sum(dim=1)], dim=1)


def _onsets(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Return the onset mass of each phone in the slots that are not silent: (batch, fewer slots, phones)."""
    probabilities = logits.softmax(dim=-1)[..., BLANK + 1 :]
    if mask is not None:
        probabilities = probabilities * mask[..., None]
    onsets = (probabilities - F.pad(probabilities, (0, 0, 1, 0))[:, :-1]).clamp_min(0.0)
    total = onsets.sum(dim=-1, keepdim=True)
    onsets = onsets * ((total - _MIN_ONSET).clamp_min(0.0) / total.clamp_min(_MIN_ONSET))
    is_onset = total[..., 0] > _MIN_ONSET
    order = is_onset.long().argsort(dim=1, descending=True, stable=True)[:, : int(is_onset.sum(dim=1).amax())]
    return onsets.gather(1, order[..., None].expand(-1, -1, onsets.shape[2]))
