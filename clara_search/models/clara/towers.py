"""CLARA (arXiv 2310.11830): an audio tower and a text tower that embed into one space.

Masks are boolean, false for padding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.layers import (
    ConvStem,
    FrameConvolution,
    LatentBlock,
    mean_plus_max,
    new_embedding,
    new_positions,
    new_transformer,
    randn_init,
)
from clara_search.models.clara.phone_head import PhoneHead, expected_phone_bigrams

INITIAL_LOGIT_SCALE = 2.6592600369327783  # log(1 / 0.07), as in CLIP and CLARA


class AudioTower(nn.Module):
    """Audio tower: convolutions, positions, frame layers if any, a Perceiver-IO encoder, pooling, a linear layer."""

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
        self.frame_convolutions = nn.ModuleList(
            FrameConvolution(config.width, config.frame_kernel)
            for _ in range(config.frame_layers)
            if config.frame_kernel
        )
        # Small, so that attention to the frames outweighs the initial latents.
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
        """Encode and pool log-mels: (batch, frames, n_mels), mask (batch, frames) -> (batch, hidden)."""
        return self.pool(*self.encode_frames(log_mels, mask))

    def encode_frames(self, log_mels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mels as frames of the tower.

        Args:
            log_mels: Shape (batch, frames, n_mels).
            mask: Shape (batch, frames), false for padding.

        Returns:
            Frames, shape (batch, ceil(frames / stride), width), and their mask.
        """
        frames, mask = self.stem(log_mels, mask)
        return self._transform(frames + self.positions(frames), mask), mask

    def _transform(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Pass frames through the frame layers, a convolution before each if there are any."""
        layers: Any = self.frame_layers
        if layers is None:
            return frames
        padding = None if mask is None else ~mask
        if not self.frame_convolutions:
            return layers(frames, src_key_padding_mask=padding)  # type: ignore[no-any-return]
        for convolution, layer in zip(self.frame_convolutions, layers.layers, strict=True):
            frames = layer(convolution(frames, mask), src_key_padding_mask=padding)
        return layers.norm(frames)  # type: ignore[no-any-return]

    def pool(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the frames of `encode_frames`, shape (batch, frames, width), with their mask -> (batch, hidden)."""
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
    """Text tower: token embeddings, positions, transformer layers, projection, two norms, pooling, a linear layer."""

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
        """Encode and pool tokens: ids (batch, tokens), mask of the same shape -> (batch, hidden)."""
        return self.pool(self.encode_tokens(ids, mask), mask)

    def encode_tokens(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode tokens: ids (batch, tokens), mask of the same shape -> (batch, tokens, proj_dim)."""
        x = self.tokens(ids)
        x = self.layers(x + self.positions(x), src_key_padding_mask=None if mask is None else ~mask)
        return self.norm(self.proj_norm(self.proj(x)))  # type: ignore[no-any-return]

    def pool(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the tokens of `encode_tokens`, (batch, tokens, proj_dim), mask (batch, tokens) -> (batch, hidden)."""
        return F.leaky_relu(self.output(mean_plus_max(tokens, mask)))


class Clara(nn.Module):
    """The CLARA model: both towers, a projection for each, two learned logit scales, and a phone head if any."""

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
        """Embed log-mels.

        Args:
            log_mels: Shape (batch, frames, n_mels).
            mask: Shape (batch, frames), false for padding; None: no padding.

        Returns:
            Unit vectors, shape (batch, dim).
        """
        return self.embed_frames(*self.audio.encode_frames(log_mels, mask))

    def embed_frames(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embed frames that `audio.encode_frames` returned.

        Args:
            frames: Shape (batch, frames, width).
            mask: Shape (batch, frames), false for padding.

        Returns:
            Unit vectors, shape (batch, dim).
        """
        embedded = self.audio_projection(self.audio.pool(frames, mask))
        if self.phone_head is not None:
            embedded = embedded + self.phone_head(frames, mask)
        return F.normalize(embedded, dim=-1)

    def embed_tokens(
        self, ids: Tensor, mask: Tensor | None = None, bigrams: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Embed token ids.

        Args:
            ids: Shape (batch, tokens).
            mask: Shape (batch, tokens), false for padding; None: no padding.
            bigrams: See `embed_token_states`.
            known: See `embed_token_states`.

        Returns:
            Unit vectors, shape (batch, dim).
        """
        return self.embed_token_states(self.text.encode_tokens(ids, mask), mask, bigrams, known)

    def embed_token_states(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        bigrams: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Embed token states that `text.encode_tokens` returned.

        Args:
            tokens: Shape (batch, tokens, proj_dim).
            mask: Shape (batch, tokens), false for padding.
            bigrams: Phone bigrams of the texts, shape (batch, phones * phones + phones), in place of those that the
                tokens predict; None: no text has any.
            known: Texts that have such bigrams, shape (batch,).

        Returns:
            Unit vectors, shape (batch, dim).
        """
        embedded = self.text_projection(self.text.pool(tokens, mask))
        if self.phone_head is not None:
            embedded = embedded + self._embed_token_phones(self.phone_head, tokens, mask, bigrams, known)
        return F.normalize(embedded, dim=-1)

    def _embed_token_phones(
        self, head: PhoneHead, tokens: Tensor, mask: Tensor | None, bigrams: Tensor | None, known: Tensor | None
    ) -> Tensor:
        if head.token_classifier is None or (known is not None and bool(known.all())):
            counts = tokens.new_zeros(len(tokens), head.bigram_projection.in_features) if bigrams is None else bigrams
        else:
            counts = expected_phone_bigrams(*head.predict_from_tokens(tokens, mask))
            if bigrams is not None and known is not None:
                counts = torch.where(known[:, None], bigrams, counts)
        return head.embed_bigrams(counts)
