"""Codec x container x rate x channels x offset x length: the samples, their number and their times are right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clara_search.audio.decode import decode_audio
from tests.clara_search.audio.decode.compare import RATE, agreement, expected_at
from tests.clara_search.audio.decode.files import Samples, contained, encoded, melody

CONTAINERS = {
    ("mp4", "aac"): (16_000, 22_050, 44_100, 48_000),
    ("mp4", "alac"): (16_000, 44_100, 48_000),
    ("mov", "pcm_s16le"): (8000, 16_000, 44_100),
    ("matroska", "aac"): (16_000, 44_100),
    ("matroska", "flac"): (8000, 16_000, 44_100, 96_000),
    ("matroska", "pcm_f32le"): (16_000, 44_100),
    ("webm", "libopus"): (16_000, 48_000),
    ("ogg", "libopus"): (8000, 48_000),
    ("ogg", "flac"): (16_000, 44_100),
    ("mp3", "libmp3lame"): (16_000, 22_050, 44_100, 48_000),
    ("flac", "flac"): (8000, 44_100, 96_000),
    ("wv", "wavpack"): (16_000, 44_100),
    ("tta", "tta"): (16_000, 44_100),
    ("caf", "pcm_s16be"): (16_000, 44_100),
    ("w64", "pcm_s24le"): (16_000, 44_100),
    ("aiff", "pcm_s16be"): (11_025, 44_100),
}
KINDS = {"WAV": ("PCM_16", "PCM_24", "FLOAT", "PCM_U8", "ULAW"), "OGG": ("VORBIS", "OPUS"), "AU": ("PCM_16",)}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
WITH_OFFSETS = {"mp4", "mov", "matroska", "webm"}
SIX_CHANNELS = {"aac", "flac", "alac", "pcm_s16le", "pcm_f32le", "wavpack", "tta", "pcm_s24le"}


class Recording(NamedTuple):
    """What a file is made of; `container` and `codec` are FFmpeg's or libsndfile's names."""

    container: str
    codec: str
    rate: int
    channels: int
    offset_s: float
    seconds: float
    seed: int

    def write(self, samples: Samples) -> bytes:
        """Return the file; all channels are alike, so that their mix is each of them."""
        if self.container in KINDS:
            return encoded(np.stack([samples] * self.channels, 1), self.container, self.rate, self.codec)
        planar, layout = np.stack([samples] * self.channels), LAYOUTS[self.channels]
        bit_rate = 128_000 * self.channels
        return contained(planar, self.container, self.codec, self.rate, layout, self.offset_s, bit_rate=bit_rate)


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    seconds, seed = draw(st.sampled_from([0.4, 1.0, 2.7, 5.03, 10.0])), draw(st.integers(0, 3))
    if draw(st.integers(0, 3)) == 0:
        kind = draw(st.sampled_from(sorted(KINDS)))
        subtype = draw(st.sampled_from(KINDS[kind]))
        rate = draw(st.sampled_from([8000, 16_000, 48_000] if subtype == "OPUS" else [16_000, 22_050, 44_100]))
        return Recording(kind, subtype, rate, draw(st.sampled_from([1, 2])), 0.0, seconds, seed)
    container, codec = draw(st.sampled_from(sorted(CONTAINERS)))
    rate = draw(st.sampled_from(CONTAINERS[container, codec]))
    channels = draw(st.sampled_from([1, 2, 6] if codec in SIX_CHANNELS else [1, 2]))
    offset_s = draw(st.sampled_from([0.0, 0.5, 6.94])) if container in WITH_OFFSETS else 0.0
    return Recording(container, codec, rate, channels, offset_s, seconds, seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=120, derandomize=True)
@given(recording=recordings())
def test_every_recording_is_decoded_to_the_samples_it_was_made_of(recording: Recording) -> None:
    samples = melody(recording.seconds, recording.rate, recording.seed)
    decoded = decode_audio(recording.write(samples), RATE)
    expected = expected_at(samples, recording.rate)
    # AAC keeps the padding of its last packet, and in Matroska the delay of its encoder.
    padding_s = 2048 / recording.rate if recording.codec == "aac" else 0.0
    length_s, wanted_s = len(decoded.waveform) / RATE, len(expected) / RATE
    assert wanted_s - 0.01 <= length_s <= wanted_s + 0.01 + padding_s
    at = round((recording.offset_s - decoded.start_s) * RATE)
    correlation, lag_s = agreement(decoded.waveform[max(0, at) :], expected[max(0, -at) :])
    assert correlation >= 0.99
    assert abs(lag_s) <= 0.02
    assert all(note.startswith("starts at") for note in decoded.notes)
