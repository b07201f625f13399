import io
import itertools
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from clara_search.audio import decode as audio
from clara_search.audio.decode import decode, load_audio
from clara_search.audio.resample import resample
from clara_search.audio.windows import Window, crop, window_spans
from clara_search.errors import AudioError

RATE = 44100


def tone(seconds: float, hz: float = 440.0, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(waveform: np.ndarray, kind: str, rate: int = RATE, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def m4a(waveform: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "MP3", "OGG"])
def test_a_tone_is_decoded_at_its_pitch_and_length(kind: str) -> None:
    waveform = load_audio(encoded(tone(2.0), kind), 16000)
    assert abs(len(waveform) / 16000 - 2.0) < 0.06
    assert waveform.dtype == np.float32
    assert abs(int(np.abs(np.fft.rfft(waveform)).argmax()) / len(waveform) * 16000 - 440) < 2


def test_formats_unknown_to_libsndfile_are_decoded_too() -> None:
    waveform, rate = decode(m4a(tone(2.0)))
    assert rate == RATE
    assert abs(int(np.abs(np.fft.rfft(waveform)).argmax()) / len(waveform) * rate - 440) < 2


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *(("mp4", "aac"), ("mp4", "alac"), ("3gp", "aac"), ("mov", "alac"), ("matroska", "aac"), ("webm", "libopus")),
        *(("adts", "aac"), ("ac3", "ac3"), ("eac3", "eac3"), ("avi", "mp2"), ("flv", "aac"), ("mpegts", "aac")),
        *(("mpeg", "mp2"), ("caf", "alac"), ("wv", "wavpack"), ("tta", "tta"), ("mp3", "mp3")),
    ],
)
def test_every_container_of_sound_is_still_decoded(container: str, codec: str) -> None:
    waveform, rate = audio._decode_av(contained(tone(1.0, rate=48_000), container, codec), "a")
    assert abs(len(waveform) / rate - 1.0) < 0.11
    assert abs(int(np.abs(np.fft.rfft(waveform)).argmax()) / len(waveform) * rate - 440) < 2


def contained(waveform: np.ndarray, container: str, codec: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for part in av.AudioResampler(stream.codec_context.format, "mono", 48_000).resample(frame):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return buffer.getvalue()


CONCAT = "ffconcat version 1.0\nfile other.wav\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 45454 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n"
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n"
MPD = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>other.wav</BaseURL></MPD>'


@pytest.mark.parametrize("suffix", [".m4a", ".wav"])
@pytest.mark.parametrize(
    ("content", "reason"),  # "Invalid argument": recognised and not on the list, so nothing of it was looked at
    [(CONCAT, "Invalid argument"), (SDP, "Invalid argument"), (PLAYLIST, ""), (MPD, "")],
)
def test_a_recording_that_is_a_list_of_others_is_none(
    content: str, reason: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("other.wav", tone(1.0), RATE)
    (tmp_path / f"list{suffix}").write_text(content)
    with pytest.raises(AudioError, match=rf"list\{suffix}: not a recording that can be decoded \(.*{reason}"):
        load_audio(tmp_path / f"list{suffix}", 16_000)


def test_ffmpeg_reads_other_files_unless_it_is_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above could not fail."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("other.wav", tone(1.0), RATE)
    with av.open(io.BytesIO(CONCAT.encode())) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == RATE


def test_an_edit_list_cannot_play_a_second_of_sound_for_hours() -> None:
    once = m4a(tone(1.0))
    twice, _ = decode(with_edits(once, 2))
    assert len(twice) == 2 * len(decode(once)[0])
    with pytest.raises(AudioError, match="same part of the file again and again"):
        decode(with_edits(once, 5000))


def with_edits(content: bytes, count: int) -> bytes:
    """Return an MP4 whose edit list has its only entry `count` times."""
    at = content.index(b"elst") - 4
    (size,) = struct.unpack(">I", content[at : at + 4])
    edits = struct.pack(">I4sII", 16 + 12 * count, b"elst", 0, count) + count * content[at + 16 : at + 28]
    changed = bytearray(content[:at] + edits + content[at + size :])
    for box in (b"moov", b"trak", b"edts"):
        start = content.index(box) - 4
        (old,) = struct.unpack(">I", content[start : start + 4])
        struct.pack_into(">I", changed, start, old + len(edits) - size)
    return bytes(changed)


def test_channels_are_averaged() -> None:
    left, right = tone(0.1), np.zeros(RATE // 10, np.float32)
    waveform, _ = decode(encoded(np.stack([left, right], axis=1), "WAV", subtype="FLOAT"))
    np.testing.assert_allclose(waveform, left / 2, atol=1e-6)


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
    assert len(decode(bytes(content))[0]) == RATE


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


@settings(deadline=None)
@given(
    duration_s=st.floats(0.01, 200),
    window_s=st.floats(0.1, 30),
    overlap=st.floats(0, 0.9),
)
def test_windows_cover_everything_and_are_equally_long(duration_s: float, window_s: float, overlap: float) -> None:
    hop_s = window_s * (1 - overlap)
    spans = list(window_spans(duration_s, window_s, hop_s))
    assert spans[0].start_s == 0
    assert spans[-1].end_s == pytest.approx(duration_s)
    for before, after in itertools.pairwise(spans):
        assert before.start_s < after.start_s <= before.end_s + 1e-9
    assert all(end - start == pytest.approx(min(window_s, duration_s)) for start, end in spans)


def test_windows_are_a_hop_apart_and_the_last_ends_at_the_end() -> None:
    assert list(window_spans(23.0, 10.0, 5.0)) == [(0, 10), (5, 15), (10, 20), (13, 23)]
    assert list(window_spans(20.0, 10.0, 5.0)) == [(0, 10), (5, 15), (10, 20)]
    assert list(window_spans(3.0, 10.0, 5.0)) == [(0, 3)]


def test_a_cut_holds_the_samples_of_its_window() -> None:
    np.testing.assert_array_equal(crop(np.arange(10, dtype=np.float32), Window(0.2, 0.5), 10), [2, 3, 4])
    assert len(crop(np.arange(10, dtype=np.float32), Window(1.0, 1.0), 10)) == 1


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
    waveform, rate = decode(file.getvalue())
    assert rate == 16000
    np.testing.assert_array_equal(waveform, expected.mean(axis=1, dtype=np.float32))


def test_a_wav_that_is_out_of_the_ordinary_is_left_to_libsndfile() -> None:
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
        waveform_and_rate = audio._decode_pcm(bytes(content))
        if waveform_and_rate is not None:
            expected, rate = soundfile.read(io.BytesIO(content), dtype="float32")
            assert waveform_and_rate[1] == rate
            np.testing.assert_array_equal(waveform_and_rate[0], expected)
            decoded += 1
    assert 100 < decoded < 2000
