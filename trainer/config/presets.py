"""Model configurations for recipes: those of the released models, and newer ones to train from scratch."""

from __future__ import annotations

from clara_search.audio.mel import MelConfig
from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.convert import PRESETS as RELEASED

V2_MEL = MelConfig(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=80, reference_db=20.0)
"""16 kHz, with a fixed reference level: soft sounds stay soft, whatever else is in the clip."""


def _v2(name: str, dim: int, width: int, frame_layers: int, text_layers: int, vocab_size: int) -> ClaraConfig:
    """Return a model with masks, sinusoidal positions, pre-norm GELU layers over frames, and attention over latents."""
    heads = width // 64
    return ClaraConfig(
        name,
        dim,
        V2_MEL,
        AudioTowerConfig(
            width=width,
            conv_strides=(2, 2, 2),
            positions="sinusoidal",
            frame_layers=frame_layers,
            frame_heads=heads,
            frame_feed_forward=4 * width,
            latents=16,
            latent_dim=width,
            cross_heads=heads,
            latent_layers=1,
            latent_heads=heads,
            pooling="attention",
            hidden=dim,
            dropout=0.0,
        ),
        TextTowerConfig(
            vocab_size=vocab_size,
            positions="sinusoidal",
            max_positions=512,
            width=width,
            layers=text_layers,
            heads=heads,
            feed_forward=4 * width,
            pre_norm=True,
            proj_dim=width,
            hidden=dim,
            dropout=0.1,
        ),
    )


PRESETS: dict[str, ClaraConfig] = {
    **RELEASED,
    "clara-v2-tiny": _v2("clara-v2-tiny", 128, 128, frame_layers=2, text_layers=1, vocab_size=1000),
    "clara-v2-small": _v2("clara-v2-small", 256, 256, frame_layers=6, text_layers=4, vocab_size=8000),
    "clara-v2-base": _v2("clara-v2-base", 512, 512, frame_layers=12, text_layers=6, vocab_size=32000),
    "clara-v2-large": _v2("clara-v2-large", 768, 1024, frame_layers=24, text_layers=12, vocab_size=64000),
}
