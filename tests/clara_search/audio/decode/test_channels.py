"""Recordings of many channels."""

from __future__ import annotations

import numpy as np
import pytest

from clara_search.audio.decode import load_audio
from tests.clara_search.audio.decode.files import contained

RATE = 48_000


@pytest.mark.parametrize(
    ("container", "codec", "layout", "count"),
    [
        ("matroska", "wavpack", "7.1", 8),
        ("matroska", "wavpack", "hexadecagonal", 16),
        ("matroska", "libopus", "7.1", 8),
        ("adts", "aac", "7.1", 8),
        ("matroska", "pcm_f32le", "hexadecagonal", 16),
    ],
)
def test_all_channels_and_nothing_else_are_heard(container: str, codec: str, layout: str, count: int) -> None:
    """FFmpeg keeps eight and more channels in a list of pointers without an end."""
    times = np.arange(RATE) / RATE
    loudness = 0.5 * np.arange(1, count + 1)[:, None] / count
    channels = (loudness * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    content = contained(channels, container, codec, RATE, layout)
    heard = load_audio(content, RATE)
    expected = channels.mean(axis=0)[12_000:24_000]
    assert abs(len(heard) - RATE) <= 2048
    assert np.sqrt(np.mean(heard[12_000:24_000] ** 2)) == pytest.approx(np.sqrt(np.mean(expected**2)), rel=0.1)
