from __future__ import annotations

import io
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clara_search.audio.decode import AudioSource, load_audio, stream_audio
from clara_search.audio.decode.blocks import Facts
from clara_search.audio.decode.headers import find_data
from clara_search.audio.decode.pcm import NotPlain, read_pcm
from clara_search.audio.resample import resample
from clara_search.errors import AudioError
from clara_search.files.limits import limits
from tests.clara_search.audio.decode.files import Samples, contained, encoded, melody, tone

RATE = 44100


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "MP3", "OGG"])
def test_a_tone_is_decoded_at_its_pitch_and_length(kind: str) -> None:
    waveform = load_audio(encoded(tone(2.0), kind), 16000)
    assert abs(len(waveform) / 16000 - 2.0) < 0.06
    assert waveform.dtype == np.float32
    assert abs(int(np.abs(np.fft.rfft(waveform)).argmax()) / len(waveform) * 16000 - 440) < 2


def test_resampling_lets_nothing_alias() -> None:
    above = resample(tone(1.0, hz=9000.0, rate=48000), 48000, 16000)
    below = resample(tone(1.0, hz=7000.0, rate=48000), 48000, 16000)
    assert np.std(above[800:-800]) < 1e-4
    assert abs(np.std(below[800:-800]) - 0.5 / np.sqrt(2)) < 0.01


@pytest.mark.parametrize("kind", ["MP3", "FLAC", "WAV", "AIFF"])
def test_a_truncated_file_is_an_error_that_names_it(kind: str, tmp_path: Path) -> None:
    whole = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=rf"cut\.{kind.lower()}"):
        load_audio(path, 16000)


def test_a_wav_that_was_written_to_a_pipe_is_whole() -> None:
    content = bytearray(encoded(tone(1.0), "WAV"))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    assert len(load_audio(bytes(content), RATE)) == RATE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"this is a text, not a recording\n" * 9, "not a recording"),
        (encoded(np.zeros(0, np.float32), "WAV"), "no samples"),
        (encoded(np.array([0.0, np.nan], np.float32), "WAV", subtype="FLOAT"), "not finite"),
    ],
    ids=["empty", "text", "no samples", "not finite"],
)
def test_bad_recordings_are_errors_with_a_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"bad\.wav: .*{reason}"):
        load_audio(path, 16000)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav: No such file"):
        load_audio(tmp_path / "none.wav", 16000)


def test_a_file_of_a_few_samples_a_second_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", np.zeros(300, np.float32), 1)
    with pytest.raises(AudioError, match=r"slow\.wav: has 1 samples a second"):
        load_audio(tmp_path / "slow.wav", 16000)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_is_decoded_bit_for_bit_as_libsndfile_does(subtype: str, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (1000, channels))
    samples[:2] = [[-1.0] * channels, [1.0] * channels]
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, subtype, format="WAV")
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(load_audio(file.getvalue(), 16000), expected.mean(axis=1, dtype=np.float32))


def test_a_wav_whose_header_is_true_is_decoded_as_libsndfile_does_or_left_to_it() -> None:
    rng = np.random.default_rng(0)
    whole = encoded(rng.uniform(-1, 1, 400).astype(np.float32), "WAV", 16000, "PCM_16")
    odd = [b"LIST\x03\x00\x00\x00abc", b"data\x04\x00\x00\x00abcd", b"odd \x00\x00\x00\x00"]
    pieces = [whole[12:36], whole[36:], *odd]
    decoded = 0
    for number in range(3000):
        if number % 3:
            content = bytearray(whole)
            for position in rng.integers(0, 48, rng.integers(1, 3)):
                content[position] = rng.choice([0, 1, 2, 255, rng.integers(256)])
        else:
            body = b"".join(pieces[position] for position in rng.integers(0, len(pieces), 4))
            content = bytearray(b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WAVE" + body)
        source = AudioSource.of(bytes(content))
        try:
            blocks = list(read_pcm(source, Facts()))
        except NotPlain:
            continue
        data = find_data(source)
        assert data is not None
        # Of two chunks of data libsndfile takes the last one.
        if blocks and not data.overrides and data.cut_share == 1.0 and content.count(b"data") == 1:
            try:
                expected, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:  # stricter about the rest of the header
                continue
            assert blocks[0].rate == rate
            np.testing.assert_array_equal(blocks[0].samples, expected.T)
            decoded += 1
    assert 100 < decoded < 2500


def pipe_like(content: bytes) -> io.BytesIO:
    return io.BytesIO(content)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_paths_bytes_and_file_objects_are_the_same_recording(kind: str, tmp_path: Path) -> None:
    content = encoded(melody(1.0), kind)
    (tmp_path / "a").write_bytes(content)
    expected = load_audio(content, 16000)
    for source in (tmp_path / "a", str(tmp_path / "a"), pipe_like(content)):
        np.testing.assert_array_equal(load_audio(source, 16000), expected)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_part_of_a_large_file_is_read_as_its_bytes_are(kind: str, tmp_path: Path) -> None:
    content = encoded(melody(1.0), kind)
    (tmp_path / "a").write_bytes(b"x" * 1000 + content + b"y" * 1000)
    source = AudioSource("a", tmp_path / "a", 1000, len(content))
    np.testing.assert_array_equal(load_audio(source, 16000), load_audio(content, 16000))
    whole = AudioSource("a", tmp_path / "a", 0, len(content) + 2000)
    assert whole.read(1000, len(content)) == content


def test_a_stream_yields_what_loading_returns_in_blocks() -> None:
    content = encoded(melody(90.0), "WAV")
    blocks = list(stream_audio(content, 16000))
    assert len(blocks) > 4
    assert max(map(len, blocks)) < 20 * 16000
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(content, 16000))


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (44_100, 2), (16_000, 2), (8000, 1)])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_resampling_in_blocks_is_resampling_the_whole(kind: str, rate: int, channels: int) -> None:
    samples: Samples = np.stack([melody(25.0, rate, seed) for seed in range(channels)], 1)
    content = encoded(samples, kind, rate, "PCM_16")
    decoded, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    expected = resample(decoded.mean(axis=1, dtype=np.float32), rate, 16000)
    np.testing.assert_array_equal(load_audio(content, 16000), expected)


def test_limits_are_those_of_the_table() -> None:
    content = encoded(melody(3.0, 16000), "WAV", 16000)
    for name, value in {"audio_seconds": 2, "audio_bytes": 1000, "audio_rate": 8000, "waveform_bytes": 1000}.items():
        with limits(**{name: value}), pytest.raises(AudioError, match=f"{name}=NUMBER"):
            load_audio(io.BytesIO(content), 16000)
    stereo = encoded(np.zeros((1600, 2), np.float32), "WAV", 16000)
    with limits(audio_channels=1), pytest.raises(AudioError, match="audio_channels=NUMBER"):
        load_audio(stereo, 16000)


def test_hours_of_silence_in_a_small_file_are_refused() -> None:
    bomb = contained(np.zeros(600 * 8000, np.float32), "flac", "flac", 8000)
    with limits(audio_free_seconds=60), pytest.raises(AudioError, match="audio_seconds_per_kb=NUMBER"):
        load_audio(bomb, 16000)
    assert len(load_audio(bomb, 8000)) == 600 * 8000  # ten minutes are free


def test_hours_of_eight_silent_channels_end_at_a_limit_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 4000, 8, subtype="PCM_16", format="FLAC") as file:
        for _ in range(120):
            file.write(np.zeros((60 * 4000, 8), np.int16))
    assert path.stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AudioError, match=r"bomb\.flac: .* seconds of a recording for each 1,000 bytes of its file"):
        load_audio(path, 16_000)
    with limits(audio_seconds_per_kb=1000):
        blocks = list(map(len, stream_audio(path, 16_000)))
    assert sum(blocks) == 7200 * 16_000
    assert max(blocks) < 20 * 16_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10
