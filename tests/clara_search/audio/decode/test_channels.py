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


@pytest.mark.parametrize("layouts", [("7.1", "mono"), ("mono", "7.1"), ("stereo", "5.1")])
def test_channels_may_change_within_a_recording(layouts: tuple[str, str]) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    counts = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}
    parts = [np.tile(tone, (counts[layout], 1)).astype(np.float32) for layout in layouts]
    content = b"".join(
        contained(part, "adts", "aac", RATE, layout) for part, layout in zip(parts, layouts, strict=True)
    )
    heard = load_audio(content, RATE)
    assert abs(len(heard) - 2 * RATE) <= 4096
    for half in (heard[12_000:36_000], heard[RATE + 12_000 : RATE + 36_000]):
        assert np.sqrt(np.mean(half**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
