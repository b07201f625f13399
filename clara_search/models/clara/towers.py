"""CLARA (arXiv 2310.11830): an audio tower and a text tower that share one space.

The defaults of the configuration compute what the released code computes; the options beside them (masks, sinusoidal
positions, frame layers, pooling over latents) are what our own weights use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.audio.mel import MelConfig
from clara_search.models.clara.layers import (
    ConvStem,
    LatentBlock,
    Positions,
    mean_plus_max,
    new_embedding,
    new_positions,
    new_transformer,
    randn_init,
)
from clara_search.models.clara.phone_head import PhoneHead, PhoneHeadConfig, expected_phone_bigrams

INITIAL_LOGIT_SCALE = 2.6592600369327783  # log(1 / 0.07), as CLIP and CLARA begin


@dataclass(frozen=True)
class AudioTowerConfig:
    """Log-mel to hidden vector. Defaults: `clara-100m`.

    Attributes:
        width: channels of the convolutions and of the frames behind them.
        conv_strides: a convolution for each, with its stride.
        positions: kind of positions added to the frames.
        max_positions: size of the table, where they are learned.
        frame_layers: pre-norm transformer layers over the frames, before the latents look at them.
        frame_heads: their heads.
        frame_feed_forward: their inner width.
        latents: how many latents the Perceiver has.
        latent_dim: their width.
        cross_heads: heads of the cross-attention from latents to frames.
        cross_head_dim: width of each.
        latent_layers: self-attention layers over the latents.
        latent_heads: their heads.
        latent_head_dim: width of each.
        pooling: mean + max over the features of each latent (the released code; needs latents = latent_dim) or over
            the latents; or a learned attention over the latents.
        hidden: width of the pooled vector after its linear layer.
        dropout: in training, after each attention and feed-forward.
    """

    width: int = 512
    conv_strides: tuple[int, ...] = (1, 2)
    positions: Positions = "learned"
    max_positions: int = 4096
    frame_layers: int = 0
    frame_heads: int = 4
    frame_feed_forward: int = 1024
    latents: int = 512
    latent_dim: int = 512
    cross_heads: int = 2
    cross_head_dim: int = 64
    latent_layers: int = 10
    latent_heads: int = 16
    latent_head_dim: int = 64
    pooling: Literal["features", "latents", "attention"] = "features"
    hidden: int = 512
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self, heads={"frame_heads": "width"})
        if self.pooling == "features" and self.latents != self.latent_dim:
            raise ValueError("pooling over features leaves one number a latent: it needs latents = latent_dim")

    @property
    def stride(self) -> int:
        """Frames of the log-mel for one of the tower."""
        return math.prod(self.conv_strides)


@dataclass(frozen=True)
class TextTowerConfig:
    """Token ids to hidden vector. Defaults: `clara-100m`.

    Attributes:
        vocab_size: tokens, specials included.
        positions: kind of positions added to the tokens.
        max_positions: the longest text, in tokens.
        width: of tokens and layers.
        layers: transformer layers.
        heads: their heads.
        feed_forward: their inner width.
        pre_norm: pre-norm and GELU instead of post-norm and ReLU.
        proj_dim: width of each token after the layers and the projection behind them.
        hidden: width of the pooled vector after its linear layer.
        dropout: in training, after each attention and feed-forward.
    """

    vocab_size: int = 50373
    positions: Positions = "learned"
    max_positions: int = 4096
    width: int = 512
    layers: int = 10
    heads: int = 8
    feed_forward: int = 1024
    pre_norm: bool = False
    proj_dim: int = 512
    hidden: int = 512
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self, heads={"heads": "width"})


@dataclass(frozen=True)
class ClaraConfig:
    """Configuration of a CLARA model.

    Attributes:
        name: For people, and stored in the tables that the model builds.
        dim: Length of an embedding.
        mel: The log-mel that the audio tower takes.
        audio: The audio tower.
        text: The text tower.
        phone_head: Adds a vector of expected phone bigrams to the embeddings of audio and, with `slots_per_token`, of
            text. None: the model has no phone head.
    """

    name: str = "clara-100m"
    dim: int = 512
    mel: MelConfig = field(default_factory=MelConfig)
    audio: AudioTowerConfig = field(default_factory=AudioTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    phone_head: PhoneHeadConfig | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, heads={})


def _check_sizes(config: AudioTowerConfig | TextTowerConfig | ClaraConfig, heads: Mapping[str, str]) -> None:
    """Raise ValueError for a size that no model has, and for `heads` that do not divide their width."""
    for part in fields(config):
        value = getattr(config, part.name)
        layers = part.name.endswith("layers")
        low, high = (0, 1000) if layers else (1, 10_000_000)
        if isinstance(value, int) and not isinstance(value, bool) and not low <= value <= high:
            raise ValueError(f"{part.name} must lie between {low} and {high}, got {value}")
        if isinstance(value, tuple) and not (1 <= len(value) <= 8 and all(1 <= stride <= 16 for stride in value)):
            raise ValueError(f"{part.name} must hold one to eight numbers from 1 to 16, got {list(value)}")
        if part.name == "dropout" and not 0.0 <= value < 1.0:
            raise ValueError(f"dropout must lie between 0 and 1, got {value}")
    for count, width in heads.items():
        if getattr(config, width) % getattr(config, count):
            raise ValueError(f"{width} {getattr(config, width)} cannot be divided by {getattr(config, count)} {count}")


class AudioTower(nn.Module):
    """Convolutions, positions, (frame layers,) a Perceiver-IO encoder, pooling, linear."""

    def __init__(self, config: AudioTowerConfig, n_mels: int) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.stem = ConvStem(n_mels, config.width, config.conv_strides)
        self.positions = new_positions(config.positions, config.max_positions, config.width)
        self.frame_layers = (
            new_transformer(
                config.width, config.frame_heads, config.frame_feed_forward, config.frame_layers, True, config.dropout
            )
            if config.frame_layers
            else None
        )
        # Small at first, so that what the latents hear outweighs what they are.
        self.latents = nn.Parameter(randn_init(config.latents, config.latent_dim, std=0.02))
        self.cross = LatentBlock(
            config.latent_dim,
            config.cross_heads,
            config.cross_head_dim,
            context_dim=config.width,
            dropout=config.dropout,
        )
        self.layers = nn.ModuleList(
            LatentBlock(config.latent_dim, config.latent_heads, config.latent_head_dim, dropout=config.dropout)
            for _ in range(config.latent_layers)
        )
        self.norm = nn.LayerNorm(config.latent_dim)
        self.pool_attention = nn.Linear(config.latent_dim, 1) if config.pooling == "attention" else None
        self.output = nn.Linear(config.latent_dim, config.hidden)

    def forward(self, log_mels: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, frames, n_mels), mask (batch, frames) -> (batch, hidden)."""
        return self.pool(*self.encode_frames(log_mels, mask))

    def encode_frames(self, log_mels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, n_mels), mask (batch, frames) -> (batch, fewer frames, width) with their mask."""
        frames, mask = self.stem(log_mels, mask)
        frames = frames + self.positions(frames)
        if self.frame_layers is not None:
            frames = self.frame_layers(frames, src_key_padding_mask=None if mask is None else ~mask)
        return frames, mask

    def pool(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """What `encode_frames` returns -> (batch, hidden)."""
        latents = self.cross(self.latents.expand(len(frames), -1, -1), frames, mask)
        for layer in self.layers:
            latents = layer(latents)
        latents = self.norm(latents)
        if self.pool_attention is not None:
            return F.leaky_relu(self.output((self.pool_attention(latents).softmax(dim=1) * latents).sum(dim=1)))
        if self.pooling == "features":
            latents = latents.transpose(1, 2)
        return F.leaky_relu(self.output(mean_plus_max(latents)))


class TextTower(nn.Module):
    """Token embeddings, positions, transformer layers, two norms around a linear layer, pooling, linear."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.tokens = new_embedding(config.vocab_size, config.width)
        self.positions = new_positions(config.positions, config.max_positions, config.width)
        self.layers = new_transformer(
            config.width, config.heads, config.feed_forward, config.layers, config.pre_norm, config.dropout
        )
        self.proj = nn.Linear(config.width, config.proj_dim)
        self.proj_norm = nn.LayerNorm(config.proj_dim)
        self.norm = nn.LayerNorm(config.proj_dim)
        self.output = nn.Linear(config.proj_dim, config.hidden)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, tokens) of ids, mask of the same shape -> (batch, hidden)."""
        return self.pool(self.encode_tokens(ids, mask), mask)

    def encode_tokens(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, tokens) of ids, mask of the same shape -> (batch, tokens, out)."""
        x = self.tokens(ids)
        x = self.layers(x + self.positions(x), src_key_padding_mask=None if mask is None else ~mask)
        return self.norm(self.proj_norm(self.proj(x)))  # type: ignore[no-any-return]

    def pool(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """What `encode_tokens` returns, mask (batch, tokens) -> (batch, hidden)."""
        return F.leaky_relu(self.output(mean_plus_max(tokens, mask)))


class Clara(nn.Module):
    """Both towers, a projection for each, and the two learned temperatures."""

    def __init__(self, config: ClaraConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioTower(config.audio, config.mel.n_mels)
        self.text = TextTower(config.text)
        self.audio_projection = nn.Linear(config.audio.hidden, config.dim)
        self.text_projection = nn.Linear(config.text.hidden, config.dim)
        self.audio_logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.text_logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.phone_head = (
            PhoneHead(config.phone_head, config.audio.width, config.dim, config.text.proj_dim)
            if config.phone_head
            else None
        )

    def embed_log_mels(self, log_mels: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, frames, n_mels), mask (batch, frames), true where a frame stands -> (batch, dim), unit norm."""
        return self.embed_frames(*self.audio.encode_frames(log_mels, mask))

    def embed_frames(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """What `audio.encode_frames` returns -> (batch, dim), unit norm."""
        embedded = self.audio_projection(self.audio.pool(frames, mask))
        if self.phone_head is not None:
            embedded = embedded + self.phone_head(frames, mask)
        return F.normalize(embedded, dim=-1)

    def embed_tokens(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, tokens) of ids, mask of the same shape, true where a token stands -> (batch, dim), unit norm."""
        return self.embed_token_states(self.text.encode_tokens(ids, mask), mask)

    def embed_token_states(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """What `text.encode_tokens` returns, mask (batch, tokens) -> (batch, dim), unit norm."""
        embedded = self.text_projection(self.text.pool(tokens, mask))
        if self.phone_head is not None and self.phone_head.token_classifier is not None:
            embedded = embedded + self.phone_head.embed(
                expected_phone_bigrams(*self.phone_head.predict_from_tokens(tokens, mask))
            )
        return F.normalize(embedded, dim=-1)
