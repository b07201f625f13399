"""Every format that the backends decode is listed, recognised and read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clara_search.audio.decode import AUDIO_SUFFIXES, load_audio, looks_like_audio
from clara_search.audio.decode.formats import SNIFF_BYTES
from clara_search.errors import AudioError
from tests.clara_search.audio.decode.compare import RATE, agreement, assert_same, expected_at
from tests.clara_search.audio.decode.files import contained, encoded, melody

CONTAINERS = [
    *((".mp4", "mp4", "aac"), (".m4b", "ipod", "alac"), (".3gp", "3gp", "aac"), (".mov", "mov", "alac")),
    *((".mkv", "matroska", "aac"), (".weba", "webm", "libopus"), (".aac", "adts", "aac"), (".ac3", "ac3", "ac3")),
    *((".eac3", "eac3", "eac3"), (".avi", "avi", "mp2"), (".flv", "flv", "aac"), (".ts", "mpegts", "aac")),
    *((".mpg", "mpeg", "mp2"), (".caf", "caf", "alac"), (".wv", "wv", "wavpack"), (".tta", "tta", "tta")),
    *((".mp3", "mp3", "libmp3lame"), (".mp2", "mp2", "mp2"), (".wma", "asf", "wmav2"), (".nut", "nut", "flac")),
    *((".w64", "w64", "pcm_s24le"), (".voc", "voc", "pcm_s16le"), (".ogg", "ogg", "flac"), (".rm", "rm", "ac3")),
]
KINDS = {
    ".wav": "WAV",
    ".w64": "W64",
    ".rf64": "RF64",
    ".aiff": "AIFF",
    ".au": "AU",
    ".caf": "CAF",
    ".voc": "VOC",
    ".sph": "NIST",
    ".paf": "PAF",
    ".svx": "SVX",
    ".ircam": "IRCAM",
    ".pvf": "PVF",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".mp3": "MP3",
}
SNIFFED = {".nut", ".pvf", ".paf", ".ircam"}
"""Formats that are recognised by name only: nobody has files of these under another one."""


@pytest.mark.parametrize(("suffix", "container", "codec"), CONTAINERS)
def test_every_container_of_sound_is_decoded(suffix: str, container: str, codec: str) -> None:
    samples = melody(3.0, 48_000)
    content = contained(samples, container, codec, 48_000, bit_rate=128_000)
    # Bare streams have the delay of their encoder, and the padding of their last packet.
    assert abs(len(load_audio(content, RATE)) / RATE - 3.0) < 0.11
    start = max(0, len(load_audio(content, RATE)) - 3 * RATE)
    assert start < 0.1 * RATE
    assert suffix in AUDIO_SUFFIXES or suffix == ".ts"
    assert looks_like_audio(content[:SNIFF_BYTES]) or suffix in SNIFFED


@pytest.mark.parametrize(("suffix", "kind"), KINDS.items())
def test_every_format_of_libsndfile_is_decoded(suffix: str, kind: str) -> None:
    samples = melody(2.0, 16_000)
    content = encoded(samples, kind, 16_000)
    assert_same(load_audio(content, RATE), expected_at(samples, 16_000))
    assert suffix in AUDIO_SUFFIXES
    assert looks_like_audio(content[:SNIFF_BYTES]) or suffix in SNIFFED


def test_raw_gsm_is_known_by_its_suffix_and_its_frames(tmp_path: Path) -> None:
    samples = melody(2.0, 8000)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 8000, "GSM610", format="RAW")
    (tmp_path / "a.gsm").write_bytes(buffer.getvalue())
    decoded = load_audio(tmp_path / "a.gsm", RATE)
    assert abs(len(decoded) / RATE - 2.0) < 0.05
    assert agreement(decoded, expected_at(samples, 8000))[0] > 0.9
    (tmp_path / "b.gsm").write_bytes(b"no sound at all" * 99)
    with pytest.raises(AudioError, match="not a recording"):
        load_audio(tmp_path / "b.gsm", RATE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"I",
        b"ID",
        b"\xff",
        b"\xff\xfb",
        b"hello, world" * 99,
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"%PDF-1.7\n",
        b"RIFF",
    ],
)
def test_other_files_do_not_look_like_audio(content: bytes) -> None:
    assert not looks_like_audio(content)


def test_random_bytes_seldom_look_like_audio() -> None:
    rng = np.random.default_rng(0)
    assert sum(looks_like_audio(rng.bytes(SNIFF_BYTES)) for _ in range(3000)) <= 2
