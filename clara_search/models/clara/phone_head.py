"""What is said, phone by phone, as a part of a vector.

The frames of the audio tower are asked for phones. How often each phone is expected, and how often each one soon after
another, makes a vector that says what a recording says, whatever the tower had been taught of it; the tokens of a text
are asked for phones too, and make the same vector of a transcript. So speech is found without searching it for where.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLANK = 0
"""The index between phones, where nothing new is said (CTC). The phones themselves begin at 1."""

PHONES = "abcdefhijklmnoprstuvwxyzðøŋœɐɑɒɔəɛɜɟɡɣɪɲɹɾʁʃʊʌʎʑʒβθɕ"
"""Letters of the IPA that tell the words of the larger European languages apart."""

SKIP_DECAY = 0.5
"""What one phone leaves of the memory of those before it: neighbours count 1, the next but one this much, and so on."""

_BLOCK = 128
"""Slots whose pairs are counted at once."""

_SILENT = 1e-4
"""So little of what begins in a slot does not count. Where no more begins, as in most slots, it is passed over."""


@dataclass(frozen=True)
class PhoneHeadConfig:
    """The phones that are heard in a recording, and read in a text.

    Attributes:
        phones: a letter for each.
        slots_per_frame: how many phones a frame of the audio tower may hold: they come faster than its frames.
        slots_per_token: how many a token of a text may hold; 0: the text tower gives its vector without telling phones.
    """

    phones: str = PHONES
    slots_per_frame: int = 2
    slots_per_token: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(set(self.phones)) == len(self.phones) <= 500:
            raise ValueError("phones must hold one to 500 letters, none of them twice")
        if not 1 <= self.slots_per_frame <= 64:
            raise ValueError(f"slots_per_frame must lie between 1 and 64, got {self.slots_per_frame}")
        if not 0 <= self.slots_per_token <= 64:
            raise ValueError(f"slots_per_token must lie between 0 and 64, got {self.slots_per_token}")


class PhoneHead(nn.Module):
    """Hears phones in frames, reads them in tokens, and turns phones into vectors."""

    def __init__(self, config: PhoneHeadConfig, width: int, dim: int, text_width: int) -> None:
        super().__init__()
        self.num_phones = len(config.phones)
        self.frame_classifier = nn.Linear(width, config.slots_per_frame * (self.num_phones + 1))
        self.token_classifier = (
            nn.Linear(text_width, config.slots_per_token * (self.num_phones + 1)) if config.slots_per_token else None
        )
        self.bigram_projection = nn.Linear(self.num_phones * self.num_phones + self.num_phones, dim, bias=False)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, frames, width), mask (batch, frames) -> (batch, dim); next to nothing where no phone is heard."""
        return self.embed(expected_phone_bigrams(*self.predict_from_frames(frames, mask)))

    def predict_from_frames(self, frames: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, width), mask (batch, frames) -> logits (batch, slots, blank and phones) with their mask."""
        return self._slots(self.frame_classifier(frames), mask)

    def predict_from_tokens(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(batch, tokens, text_width), mask (batch, tokens) -> logits as of `predict_from_frames`."""
        assert self.token_classifier is not None
        return self._slots(self.token_classifier(tokens), mask)

    def _slots(self, logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        slots = logits.shape[-1] // (self.num_phones + 1)
        logits = logits.reshape(len(logits), -1, self.num_phones + 1)
        return logits, None if mask is None else mask.repeat_interleave(slots, dim=1)

    def embed(self, counts: Tensor) -> Tensor:
        """What `expected_phone_bigrams` returns -> (batch, dim): much is said or little, it is about as long."""
        counts = counts / (1.0 + counts.square().sum(dim=1, keepdim=True)).sqrt()
        return self.bigram_projection(counts.to(self.bigram_projection.weight.dtype))  # type: ignore[no-any-return]


def expected_phone_bigrams(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return how often each phone is expected behind each other one, then how often each is, in float32.

    logits (batch, slots, blank and phones), mask (batch, slots) -> (batch, phones * phones + phones); the pair of `a`
    and then `b` stands at a * phones + b. A phone counts in the slot where it begins; pairs that are not neighbours
    count `SKIP_DECAY` for each phone between them.
    """
    with torch.autocast(logits.device.type, enabled=False):  # counts need more digits than bf16 has
        return _counted(logits.float(), mask)


def _counted(logits: Tensor, mask: Tensor | None) -> Tensor:
    told = logits.softmax(dim=-1)[..., BLANK + 1 :]
    if mask is not None:
        told = told * mask[..., None]
    begun = (told - F.pad(told, (0, 0, 1, 0))[:, :-1]).clamp_min(0.0)
    total = begun.sum(dim=-1, keepdim=True)
    begun = begun * ((total - _SILENT).clamp_min(0.0) / total.clamp_min(_SILENT))
    begins = total[..., 0] > _SILENT
    kept = begins.long().argsort(dim=1, descending=True, stable=True)[:, : int(begins.sum(dim=1).amax())]
    begun = begun.gather(1, kept[..., None].expand(-1, -1, begun.shape[2]))
    fading = torch.log1p((SKIP_DECAY - 1.0) * begun.sum(dim=-1).clamp(max=1.0))
    batch, slots, phones = begun.shape
    memory, pairs = begun.new_zeros(batch, phones), begun.new_zeros(batch, phones, phones)
    for at in range(0, slots, _BLOCK):
        now, since = begun[:, at : at + _BLOCK], fading[:, at : at + _BLOCK].cumsum(dim=1)
        before = since - fading[:, at : at + _BLOCK]
        # A slot remembers an earlier one by all that was begun between the two.
        left = (before[:, :, None] - since[:, None, :]).clamp(max=0.0).exp().tril(-1)
        remembered = left @ now + before.exp()[..., None] * memory[:, None, :]
        pairs = pairs + remembered.transpose(1, 2) @ now
        last = (since[:, -1:] - since).exp()
        memory = since[:, -1:].exp() * memory + (last[:, None, :] @ now)[:, 0]
    return torch.cat([pairs.flatten(1), begun.sum(dim=1)], dim=1)
