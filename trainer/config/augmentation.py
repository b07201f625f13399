"""Settings of audio augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from clara_search.config import Between, check_bounds

Probability = Annotated[float, Between(0, 1)]


@dataclass(frozen=True)
class AugmentConfig:
    """Probability and strength of each augmentation.

    Attributes:
        pitch_probability: of a change of pitch at the same tempo.
        pitch_semitones: largest change, up or down.
        tempo_probability: of a change of tempo at the same pitch.
        tempo: lowest and highest factor.
        speed_probability: of a change of speed, which moves the pitch too.
        speed: lowest and highest factor.
        blend_probability: of a blend of speech with a sound, lambda x + (1 - lambda) y, both at one level; its caption
            names both (arXiv 2310.11830).
        blend_lambda: lowest and highest lambda.
        blend_lambda_of: which of the two is x; the paper leaves it open.
        reverb_probability: of reverberation.
        reverb_s: shortest and longest reverberation time (T60).
        clip_probability: of clipping.
        clip_share: smallest and largest share of clipped samples.
        gain_db: largest change of level, up or down; full scale is clipped, as in a recording.
        noise_probability: of added coloured noise.
        mix_probability: of a recording without speech mixed into one of speech, whose caption stays.
        snr_db: lowest and highest signal-to-noise ratio of both.
        band_limit_probability: of a low-pass, as of a telephone or a low sample rate.
        band_limit_hz: lowest and highest cutoff.
        time_masks: masks of up to `time_mask_share` of the frames each.
        time_mask_share: see `time_masks`.
        frequency_masks: masks of up to `frequency_mask_bands` mel bands each.
        frequency_mask_bands: see `frequency_masks`.
    """

    pitch_probability: Probability = 0.0
    pitch_semitones: Annotated[float, Between(0, 24)] = 3.0
    tempo_probability: Probability = 0.0
    tempo: Annotated[tuple[float, float], Between(0.25, 4)] = (0.85, 1.18)
    speed_probability: Probability = 0.0
    speed: Annotated[tuple[float, float], Between(0.1, 10)] = (0.85, 1.18)
    blend_probability: Probability = 0.0
    blend_lambda: Annotated[tuple[float, float], Between(0, 1)] = (0.01, 0.8)
    blend_lambda_of: Literal["speech", "sound"] = "sound"
    reverb_probability: Probability = 0.0
    reverb_s: Annotated[tuple[float, float], Between(0.001, 20)] = (0.1, 0.8)
    clip_probability: Probability = 0.0
    clip_share: Annotated[tuple[float, float], Between(0, 1)] = (0.001, 0.05)
    gain_db: Annotated[float, Between(0, 100)] = 12.0
    noise_probability: Probability = 0.3
    mix_probability: Probability = 0.2
    snr_db: Annotated[tuple[float, float], Between(-100, 100)] = (3.0, 30.0)
    band_limit_probability: Probability = 0.0
    band_limit_hz: Annotated[tuple[float, float], Between(0, 1e6)] = (3000.0, 8000.0)
    time_masks: Annotated[int, Between(0, 100)] = 2
    time_mask_share: Annotated[float, Between(0, 1)] = 0.08
    frequency_masks: Annotated[int, Between(0, 100)] = 2
    frequency_mask_bands: Annotated[int, Between(0, 1024)] = 10

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("tempo", "speed", "blend_lambda", "reverb_s", "clip_share", "snr_db", "band_limit_hz"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ValueError(f"{name} takes a lowest and a highest value")
