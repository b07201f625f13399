"""Settings of audio augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from clara_search.config import Between, check_bounds

Probability = Annotated[float, Between(0, 1)]


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly; a probability of 0 leaves a change out.

    Attributes:
        pitch_probability: how often the pitch is moved and the tempo kept.
        pitch_semitones: furthest, either way.
        tempo_probability: how often the tempo is changed and the pitch kept.
        tempo: lowest and highest factor.
        speed_probability: how often a recording is played faster or slower, which moves its pitch too.
        speed: lowest and highest factor.
        blend_probability: how often speech is blended with another sound, a = lambda x + (1 - lambda) y, both at one
            level, and its caption names both (arXiv 2310.11830).
        blend_lambda: lowest and highest lambda.
        blend_weighs: which of the two lambda weighs; the paper leaves it open.
        reverb_probability: how often it sounds as in a room.
        reverb_s: shortest and longest time in which the room's echo falls by 60 dB.
        clip_probability: how often the loudest samples are cut off.
        clip_share: smallest and largest share of the samples that are.
        gain_db: largest change of level, either way; what passes full scale is clipped, as in a recording.
        noise_probability: how often coloured noise is added.
        mix_probability: how often another recording without speech is laid behind one of speech.
        snr_db: lowest and highest signal-to-noise ratio of both.
        band_limit_probability: how often all above a cutoff is silenced, as a telephone or a low rate does.
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
    blend_weighs: Literal["speech", "sound"] = "sound"
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
