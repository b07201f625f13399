"""Layers of the towers: attention, gated feed-forward, masked convolutions, positions, pooling.

Masks are boolean, false for padding, which never affects an output.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Positions = Literal["learned", "sinusoidal"]


class Attention(nn.Module):
    """Multi-head attention of queries over a context, by torch's fused kernel."""

    def __init__(self, query_dim: int, context_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(query_dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, query_dim)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend: (batch, n, query_dim), (batch, m, context_dim), mask (batch, m) -> (batch, n, query_dim)."""
        q = self._split(self.to_q(queries))
        k, v = map(self._split, self.to_kv(context).chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None, :])
        output: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Feed-forward layer with GEGLU (Shazeer, 2020): one half of the inner layer gates the other."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 2 * expansion * dim)
        self.contract = nn.Linear(expansion * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each vector: (..., dim) -> (..., dim)."""
        values, gates = self.expand(x).chunk(2, dim=-1)
        return self.contract(values * F.gelu(gates))  # type: ignore[no-any-return]


class LatentBlock(nn.Module):
    """Pre-norm block of a Perceiver: attention over a context or, without `context_dim`, over the latents."""

    def __init__(
        self, dim: int, heads: int, head_dim: int, context_dim: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(context_dim) if context_dim else None
        self.attention = Attention(dim, context_dim or dim, heads, head_dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, latents: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Update latents (batch, latents, dim), with a context (batch, n, context_dim), mask (batch, n), if given."""
        queries = self.attention_norm(latents)
        attended = queries if context is None or self.context_norm is None else self.context_norm(context)
        latents = latents + self.dropout(self.attention(queries, attended, mask))
        return latents + self.dropout(self.feed_forward(self.feed_forward_norm(latents)))  # type: ignore[no-any-return]


class ConvStem(nn.Module):
    """Strided convolutions of kernel 3, each followed by GELU, over log-mel frames."""

    def __init__(self, n_mels: int, dim: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        widths = [n_mels] + [dim] * len(strides)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size=3, stride=stride, padding=1)
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )

    def forward(self, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Convolve: (batch, frames, n_mels), mask (batch, frames) -> (batch, fewer frames, dim) with their mask.

        Masked frames are zeroed before each convolution, like the padding at the end of an unbatched clip.
        """
        x = frames.transpose(1, 2)
        for convolution in self.convolutions:
            if mask is not None:
                x = x * mask[:, None, :]
            x = F.gelu(convolution(x))
            if mask is not None:
                mask = mask[:, :: convolution.stride[0]]  # type: ignore[index]
        return x.transpose(1, 2), mask


class FrameConvolution(nn.Module):
    """Pre-norm residual block that mixes neighbouring frames: a depthwise convolution, GELU, a linear layer.

    The linear layer starts at zero, so that the block first changes nothing.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.mix = nn.Linear(dim, dim)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve: (batch, frames, dim), mask (batch, frames) -> (batch, frames, dim); masked frames count as zero."""
        x = self.norm(frames)
        if mask is not None:
            x = x * mask[:, :, None]
        x = F.gelu(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return frames + self.mix(x)  # type: ignore[no-any-return]


def new_transformer(dim: int, heads: int, feed_forward: int, layers: int, pre_norm: bool, dropout: float) -> nn.Module:
    """Return transformer layers with a final norm: post-norm with ReLU as in CLARA, or pre-norm with GELU."""
    layer = nn.TransformerEncoderLayer(
        dim,
        heads,
        feed_forward,
        dropout=dropout,
        activation="gelu" if pre_norm else "relu",
        batch_first=True,
        norm_first=pre_norm,
    )
    # With nested tensors, padded batches would take another path, with other rounding.
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)


def randn_init(*shape: int, std: float = 1.0) -> Tensor:
    """Sample N(0, std^2). On the meta device return an empty tensor: sampling there imports torch's compiler."""
    tensor = torch.empty(*shape)
    return tensor if tensor.is_meta else tensor.normal_(std=std)


def new_embedding(count: int, dim: int) -> nn.Embedding:
    """Return an embedding table initialised as torch does it, usable on the meta device (see `randn_init`)."""
    return nn.Embedding(count, dim, _weight=randn_init(count, dim))


class PositionTable(nn.Module):
    """Learned position embeddings 0 ... count - 1."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(randn_init(count, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the position embeddings of a sequence: (batch, n, dim) -> (n, dim)."""
        if x.shape[1] > len(self.weight):
            raise ValueError(f"a sequence of {x.shape[1]} is longer than the {len(self.weight)} learned positions")
        return self.weight[: x.shape[1]]


class SinusoidalPositions(nn.Module):
    """Sinusoidal position embeddings for any length (Vaswani et al., 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the position embeddings of a sequence: (batch, n, dim) -> (n, dim)."""
        length, dim = x.shape[1:]
        frequencies = torch.exp(torch.arange(0, dim, 2, device=x.device) * (-math.log(10000.0) / dim))
        angles = torch.arange(length, device=x.device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)


def new_positions(kind: Positions, count: int, dim: int) -> nn.Module:
    """Return position embeddings of the given kind; `count` matters to learned ones only."""
    return PositionTable(count, dim) if kind == "learned" else SinusoidalPositions()


def mean_plus_max(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Pool by mean + max over n: (batch, n, dim), mask (batch, n) -> (batch, dim)."""
    if mask is None:
        return x.mean(dim=1) + x.amax(dim=1)
    mask = mask[:, :, None]
    mean = (x * mask).sum(dim=1) / mask.sum(dim=1)
    return mean + x.masked_fill(~mask, -torch.inf).amax(dim=1)
