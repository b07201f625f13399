"""Configuration of CLARA models: towers, log-mel, phone head.

With the defaults, a model computes the same as the released code. The other options (sinusoidal positions, frame
layers, pooling over latents, phone head) are those of the bundled model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from clara_search.audio.mel import MelConfig
from clara_search.files.limits import FRAME_NUMBERS, LATENTS, TEXT_TOKENS
from clara_search.models.clara.layers import Positions
from clara_search.models.clara.phone_head import PhoneHeadConfig


@dataclass(frozen=True)
class AudioTowerConfig:
    """Configuration of the audio tower: log-mel to hidden vector. Defaults: `clara-100m`.

    Attributes:
        width: Channels of the convolutions and width of the frames.
        conv_strides: Stride of each convolution.
        positions: Kind of position embeddings of the frames.
        max_positions: Number of learned positions.
        frame_layers: Number of pre-norm transformer layers over the frames, before the cross-attention.
        frame_heads: Attention heads of each frame layer.
        frame_feed_forward: Inner width of each frame layer.
        frame_kernel: Frames that a convolution before each frame layer takes, an odd number; None: no convolutions.
        latents: Number of latents of the Perceiver.
        latent_dim: Width of a latent.
        cross_heads: Heads of the cross-attention from latents to frames.
        cross_head_dim: Width of each of them.
        latent_layers: Number of self-attention layers over the latents.
        latent_heads: Heads of each of them.
        latent_head_dim: Width of each of those heads.
        pooling: "features": mean + max over the features of each latent, as in the released code, which needs latents =
            latent_dim. "latents": mean + max over the latents. "attention": learned weighted mean of the latents.
        hidden: Width of the pooled vector after its linear layer.
        dropout: Dropout in training, after each attention and feed-forward layer.
    """

    width: int = 512
    conv_strides: tuple[int, ...] = (1, 2)
    positions: Positions = "learned"
    max_positions: int = 4096
    frame_layers: int = 0
    frame_heads: int = 4
    frame_feed_forward: int = 1024
    frame_kernel: int | None = None
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
        LATENTS.check(self.latents, "latents", ValueError)
        if self.frame_kernel is not None and self.frame_kernel % 2 == 0:
            raise ValueError(f"frame_kernel must be odd, got {self.frame_kernel}")
        if self.pooling == "features" and self.latents != self.latent_dim:
            raise ValueError("pooling over features gives one number per latent: it needs latents = latent_dim")

    @property
    def stride(self) -> int:
        """Log-mel frames per frame of the tower."""
        return math.prod(self.conv_strides)


@dataclass(frozen=True)
class TextTowerConfig:
    """Configuration of the text tower: token ids to hidden vector. Defaults: `clara-100m`.

    Attributes:
        vocab_size: Number of tokens, special ones included.
        positions: Kind of position embeddings.
        max_positions: Longest text, in tokens; longer ones are truncated.
        width: Width of token embeddings and layers.
        layers: Number of transformer layers.
        heads: Attention heads of each layer.
        feed_forward: Inner width of each layer.
        pre_norm: Pre-norm and GELU instead of post-norm and ReLU.
        proj_dim: Width of the tokens after the projection that follows the layers.
        hidden: Width of the pooled vector after its linear layer.
        dropout: Dropout in training, after each attention and feed-forward layer.
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
        TEXT_TOKENS.check(self.max_positions, "max_positions", ValueError)


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
        frames = self.mel.sample_rate / self.mel.hop_length / self.audio.conv_strides[0]
        FRAME_NUMBERS.check(frames * self.audio.width, "the audio tower", ValueError)


def _check_sizes(config: AudioTowerConfig | TextTowerConfig | ClaraConfig, heads: Mapping[str, str]) -> None:
    """Raise ValueError for a size out of bounds, and for a number of `heads` that does not divide its width."""
    for part in fields(config):
        value = getattr(config, part.name)
        layers = part.name.endswith("layers")
        low, high = (0, 1000) if layers else (1, 10_000_000)
        if isinstance(value, int) and not isinstance(value, bool) and not low <= value <= high:
            raise ValueError(f"{part.name} must lie between {low} and {high}, got {value}")
        if isinstance(value, tuple) and not (1 <= len(value) <= 8 and all(1 <= stride <= 16 for stride in value)):
            raise ValueError(f"{part.name} must be one to eight numbers from 1 to 16, got {list(value)}")
        if part.name == "dropout" and not 0.0 <= value < 1.0:
            raise ValueError(f"dropout must lie between 0 and 1, got {value}")
    for count, width in heads.items():
        if getattr(config, width) % getattr(config, count):
            raise ValueError(f"{width} {getattr(config, width)} cannot be divided by {getattr(config, count)} {count}")
