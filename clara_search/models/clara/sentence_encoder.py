"""Universal Sentence Encoder, multilingual, version 3 (Google, Apache-2.0): token ids to a meaning vector.

Embeddings of tokens, three stacks of convolutions over them (of 2, 3 and 5 tokens), their sum over the text, and a
feed-forward network. The embeddings are stored in 4 bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM = 512

_STACK = 256
_REACHES = ((2, 0), (3, 1), (5, 2))
"""Width of each convolution in tokens, and the number of tokens before its own."""

_INNER = 320


class SentenceEncoder(nn.Module):
    """An encoder of texts in 16 languages; texts of similar meaning get similar vectors."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        # Two steps a byte, low nibble first; a value is step * scale + offset.
        self.register_buffer("table", torch.empty(vocab_size, DIM // 2, dtype=torch.uint8))
        self.register_buffer("scale", torch.empty(vocab_size, 1))
        self.register_buffer("offset", torch.empty(vocab_size, 1))
        self.table: Tensor
        self.scale: Tensor
        self.offset: Tensor
        stacks = len(_REACHES) * _STACK
        self.reduce = nn.Linear(DIM, stacks)
        self.reduce_norm = nn.LayerNorm(stacks)
        self.first = nn.ModuleList(nn.Linear(_STACK * reach, _STACK) for reach, _ in _REACHES)
        self.second = nn.ModuleList(nn.Linear(_STACK * reach, _STACK) for reach, _ in _REACHES)
        self.norm = nn.LayerNorm(DIM + stacks)
        self.pooled = nn.Linear(DIM + stacks, DIM)
        self.inner = nn.ModuleList(
            nn.Linear(into, out, bias=False)
            for into, out in ((DIM, _INNER), (DIM + _INNER, _INNER), (_INNER, DIM), (_INNER + DIM, DIM))
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return unit vectors (batch, 512) of token ids (batch, tokens); `mask` is False for padding."""
        present = mask[..., None].float()
        tokens = self._embed(ids) * present
        stacks = self.reduce_norm(self.reduce(tokens)).split(_STACK, dim=-1)
        seen = [tokens]
        for (reach, before), first, second, stack in zip(_REACHES, self.first, self.second, stacks, strict=True):
            hidden = stack * present
            for layer in (first, second):
                hidden = (_convolve(layer, hidden, before, reach) + hidden) * present
            seen.append(hidden)
        features = self.norm(torch.cat(seen, dim=-1)) * present
        count = present.sum(dim=1)
        pooled = (features.sum(dim=1) @ self.pooled.weight.T + count * self.pooled.bias) / count.sqrt()
        a = self.inner[0](pooled).relu()
        b = self.inner[1](torch.cat([pooled, a], dim=-1)).relu()
        c = self.inner[2](b).relu()
        return F.normalize(self.inner[3](torch.cat([b, c], dim=-1)).tanh(), dim=-1)

    def _embed(self, ids: Tensor) -> Tensor:
        steps = unpack(self.table[ids])
        return steps * self.scale[ids] + self.offset[ids]


def _convolve(layer: nn.Module, x: Tensor, before: int, reach: int) -> Tensor:
    """Apply `layer` to every `reach` neighbours of x (batch, tokens, d); faster than a convolution for short texts."""
    padded = F.pad(x, (0, 0, before, reach - 1 - before))
    return layer(padded.unfold(1, reach, 1).flatten(2)).relu()  # type: ignore[no-any-return]


def pack(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize rows (n, 512) to 4 bits: return bytes (n, 256), and the scale and offset of each row, (n, 1)."""
    offset = table.amin(dim=1, keepdim=True).half().float()
    scale = ((table.amax(dim=1, keepdim=True) - offset) / 15.0).clamp_min(1e-4).half().float()
    steps = ((table - offset) / scale).round().clamp(0, 15).to(torch.uint8)
    return steps[:, 0::2] | (steps[:, 1::2] << 4), scale, offset


def unpack(packed: Tensor) -> Tensor:
    """Return the quantization steps, 0 to 15, float32 (..., 2 n), of bytes (..., n)."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2).float()
