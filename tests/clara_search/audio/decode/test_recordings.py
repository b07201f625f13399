"""Recordings as people have them: headers that lie or say nothing, joined, damaged and cut files, films."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from clara_search.audio.decode import decode_audio, load_audio
from clara_search.errors import AudioError
from tests.clara_search.audio.decode.compare import RATE, agreement, assert_same, expected_at
from tests.clara_search.audio.decode.files import (
    Samples,
    contained,
    encoded,
    melody,
    quiet_then_loud,
    tone,
    with_sizes,
    without_xing,
)

VARIABLE = quiet_then_loud(12.0)
SPEECH = melody(12.0, 16_000)
WAV = encoded(SPEECH, "WAV", 16_000, "PCM_16")
WAV24 = encoded(SPEECH, "WAV", 16_000, "PCM_24")
VBR = encoded(VARIABLE, "MP3")
CBR = contained(VARIABLE, "mp3", "libmp3lame", bit_rate=128_000)
M4A = contained(VARIABLE, "mp4", "aac")
FLAC = encoded(SPEECH, "FLAC", 16_000)


def test_an_mp3_is_read_to_its_end_whatever_its_length_is_estimated_to_be() -> None:
    for waveform in (VARIABLE, VARIABLE[::-1].copy()):
        bare = without_xing(encoded(waveform, "MP3"))
        # Without the header nobody knows the delay of the encoder.
        assert_same(load_audio(bare, RATE)[1105 * RATE // 44100 :], expected_at(waveform, 44_100), 0.06)


@pytest.mark.parametrize("bit_rate", [64_000, 128_000])
def test_an_mp3_of_constant_bit_rate_without_a_header_of_lengths_is_whole(bit_rate: int) -> None:
    bare = without_xing(contained(melody(30.0), "mp3", "libmp3lame", bit_rate=bit_rate))
    assert 30.0 <= len(load_audio(bare, RATE)) / RATE < 30.1


def test_raw_aac_is_read_to_its_end() -> None:
    for waveform in (VARIABLE, VARIABLE[::-1].copy()):
        adts = contained(waveform, "adts", "aac")
        assert abs(len(load_audio(adts, RATE)) / RATE - 12.0) < 0.06


@pytest.mark.parametrize("whole", [VBR, CBR], ids=["vbr", "cbr"])
def test_joined_mp3s_are_both_heard(whole: bytes) -> None:
    joined = decode_audio(whole + whole, RATE)
    # The delay of the encoder and its header are heard in the middle, as players do.
    assert len(joined.waveform) / RATE == pytest.approx(24.06, abs=0.05)
    assert joined.notes == ()
    for part in (joined.waveform[: 12 * RATE], joined.waveform[-12 * RATE :]):
        correlation, lag_s = agreement(part, expected_at(VARIABLE, 44_100))
        assert correlation >= 0.99
        assert abs(lag_s) < 0.06


@pytest.mark.parametrize("kind", ["vorbis", "opus"])
def test_all_links_of_a_chained_ogg_are_heard_also_of_other_rates_and_channels(kind: str) -> None:
    first, second = melody(4.0, 48_000, 1), melody(5.0, 16_000, 2)
    rate = 16_000 if kind == "vorbis" else 48_000
    stereo = np.stack([first, first], 1)
    chain = [
        encoded(stereo, "OGG", 48_000, kind.upper()),
        encoded(second, "OGG", 16_000, kind.upper()),
        encoded(stereo, "OGG", 48_000, kind.upper()),
    ]
    decoded = decode_audio(b"".join(chain), RATE)
    parts = [expected_at(first, 48_000), second, expected_at(first, 48_000)]
    assert_same(decoded.waveform, np.concatenate(parts))
    assert decoded.notes == ("rate or channels change 2 times",)
    assert rate


def test_joined_wav_files_are_both_heard() -> None:
    stereo = encoded(np.stack([SPEECH, SPEECH], 1), "WAV", 16_000, "PCM_16")
    np.testing.assert_array_equal(load_audio(WAV + stereo, RATE), np.tile(load_audio(WAV, RATE), 2))


def test_a_flac_of_unknown_length_is_whole() -> None:
    unknown = bytearray(FLAC)
    unknown[21:26] = bytes([unknown[21] & 0xF0, 0, 0, 0, 0])
    np.testing.assert_array_equal(load_audio(bytes(unknown), RATE), load_audio(FLAC, RATE))


@pytest.mark.parametrize(
    "change",
    [
        lambda wav: with_sizes(wav, data=0),
        lambda wav: with_sizes(wav, riff=0),
        lambda wav: with_sizes(wav, riff=0, data=0),
        lambda wav: with_sizes(wav, riff=3 * len(wav)),
        lambda wav: with_sizes(wav, riff=0xFFFFFFFF, data=0xFFFFFFFF),
        lambda wav: with_sizes(wav, data=64_000),  # of an earlier moment of the recording
    ],
    ids=["data 0", "riff 0", "both 0", "riff too large", "endless", "data of an earlier moment"],
)
@pytest.mark.parametrize("whole", [WAV, WAV24], ids=["16 bits", "24 bits"])
def test_a_wav_whose_header_was_never_finished_is_whole(whole: bytes, change: Callable[[bytes], bytes]) -> None:
    np.testing.assert_array_equal(load_audio(change(whole), RATE), load_audio(whole, RATE))


def test_chunks_behind_the_data_are_no_sound() -> None:
    tagged = WAV + b"LIST\x0c\x00\x00\x00INFOISFT\x00\x00\x00\x00"
    np.testing.assert_array_equal(load_audio(with_sizes(tagged, riff=len(tagged) - 8), RATE), load_audio(WAV, RATE))


def test_rf64_and_w64_and_streams_of_them_are_whole() -> None:
    for kind in ("RF64", "W64", "CAF", "AU", "AIFF"):
        assert_same(load_audio(encoded(SPEECH, kind, 16_000, "PCM_16"), RATE), SPEECH)
    endless = bytearray(encoded(SPEECH, "RF64", 16_000, "PCM_16"))
    at = endless.index(b"ds64") + 8
    endless[at : at + 24] = b"\xff" * 24
    assert len(load_audio(bytes(endless), RATE)) >= len(SPEECH)


def test_garbage_in_the_middle_of_an_mp3_costs_a_moment_and_is_noted() -> None:
    bare = without_xing(CBR)
    half = len(bare) // 2
    decoded = decode_audio(bare[:half] + bytes(60_000) + bare[half:], RATE)
    assert len(decoded.waveform) / RATE == pytest.approx(12.04, abs=0.06)
    assert any("damaged" in note for note in decoded.notes)
    assert np.abs(decoded.waveform).max() < 4.0
    assert_same(decoded.waveform[-5 * RATE :], load_audio(bare, RATE)[-5 * RATE :])


@pytest.mark.parametrize("container", ["mp4", "adts", "matroska"])
def test_a_damaged_packet_is_silence_of_its_length_and_noted(container: str) -> None:
    whole = contained(VARIABLE, container, "aac")
    content = bytearray(whole)
    at = len(content) * 2 // 3
    content[at : at + 40] = b"\xff" * 40
    decoded = decode_audio(bytes(content), RATE)
    expected = load_audio(whole, RATE)
    assert abs(len(decoded.waveform) - len(expected)) < 0.03 * RATE
    # A container without a part of its own index goes on with its next cluster.
    assert all("damaged" in note or "filled with silence" in note for note in decoded.notes)
    assert_same(decoded.waveform[-2 * RATE :], expected[-2 * RATE :])


def test_a_damaged_flac_frame_costs_that_frame() -> None:
    content = bytearray(FLAC)
    at = len(content) // 2
    content[at : at + 3000] = bytes(3000)
    decoded = decode_audio(bytes(content), RATE)
    assert len(decoded.waveform) / RATE == pytest.approx(12.0, abs=0.01)
    if soundfile.__version__.startswith("0.13."):  # it says less exactly where the damage ends
        assert decoded.notes == ("1 packet damaged", "1 gap of 1.0 s filled with silence")
    else:
        assert decoded.notes == ("1 gap of 0.3 s filled with silence",)
    assert_same(decoded.waveform[: 5 * RATE], SPEECH[: 5 * RATE])
    assert_same(decoded.waveform[-5 * RATE :], SPEECH[-5 * RATE :])


@pytest.mark.parametrize(
    "whole",
    [
        WAV,
        FLAC,
        VBR,
        encoded(SPEECH, "AIFF", 16_000, "PCM_16"),
        encoded(SPEECH, "AU", 16_000, "PCM_16"),
        contained(VARIABLE, "mp4", "aac", options={"movflags": "faststart"}),
        contained(VARIABLE, "matroska", "aac"),
        contained(melody(12.0, 48_000), "webm", "libopus", 48_000),
    ],
    ids=["wav", "flac", "mp3", "aiff", "au", "m4a", "mkv", "webm"],
)
def test_what_is_shorter_than_it_states_exactly_is_truncated(whole: bytes) -> None:
    assert len(load_audio(whole, RATE)) / RATE == pytest.approx(12.0, abs=0.05)
    with pytest.raises(AudioError, match=r"truncated, [678]\.\d+ s decoded"):
        load_audio(whole[: len(whole) * 6 // 10], RATE)


def test_an_ogg_without_its_end_is_kept_and_said_to_be() -> None:
    whole = encoded(melody(12.0, 48_000), "OGG", 48_000)
    assert decode_audio(whole, RATE).notes == ()
    cut = decode_audio(whole[: len(whole) * 6 // 10], RATE)
    assert 6.0 < len(cut.waveform) / RATE < 8.0
    assert cut.notes == ("may be cut off: its end is not marked",)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "libopus"), ("matroska", "flac")])
def test_sound_that_starts_late_is_at_its_time(container: str, codec: str) -> None:
    samples = melody(6.0, 48_000)
    decoded = decode_audio(contained(samples, container, codec, 48_000, offset_s=7.0), RATE)
    assert decoded.start_s == pytest.approx(7.0, abs=0.03)
    assert decoded.notes == ("starts at 7.0 s",)
    at = round((7.0 - decoded.start_s) * RATE)
    assert_same(decoded.waveform[max(0, at) :], expected_at(samples, 48_000), 0.03)


def test_segments_are_cut_by_the_times_that_a_player_shows() -> None:
    samples = melody(6.0, 48_000)
    film = contained(samples, "matroska", "flac", 48_000, offset_s=7.0)
    expected = expected_at(samples, 48_000)
    segment = decode_audio(film, RATE, 8.0, 9.5)
    assert segment.start_s == 8.0
    assert_same(segment.waveform, expected[RATE : RATE * 5 // 2])
    assert decode_audio(film, RATE, 5.0, 8.0).start_s == pytest.approx(7.0, abs=0.01)
    with pytest.raises(AudioError, match=r"starts at 14 s, but the recording lasts 13\.00 s"):
        load_audio(film, RATE, 14.0)
    with pytest.raises(AudioError, match=r"ends at 5 s, but the recording starts at 7\.00 s"):
        load_audio(film, RATE, 1.0, 5.0)


def test_a_gap_is_silence() -> None:
    samples = melody(6.0, 48_000)
    film = contained(samples, "matroska", "flac", 48_000, gap=(2 * 48_000, 3.0))
    decoded = decode_audio(film, RATE)
    expected = expected_at(samples, 48_000)
    assert decoded.notes == ("1 gap of 3.0 s filled with silence",)
    assert len(decoded.waveform) / RATE == pytest.approx(9.0, abs=0.05)
    assert np.abs(decoded.waveform[RATE * 22 // 10 : RATE * 48 // 10]).max() == 0.0
    assert_same(decoded.waveform[RATE * 51 // 10 :], expected[RATE * 21 // 10 :], 0.03)


def test_an_edit_list_that_leaves_out_the_start_is_obeyed() -> None:
    at = M4A.index(b"elst") - 4
    content = bytearray(M4A)
    duration, start = struct.unpack(">II", content[at + 16 : at + 24])
    (timescale,) = struct.unpack(">I", content[content.index(b"mvhd") + 16 : content.index(b"mvhd") + 20])
    struct.pack_into(">II", content, at + 16, duration - 3 * timescale, start + 3 * 44_100)
    decoded = decode_audio(bytes(content), RATE)
    assert decoded.start_s == 0.0
    assert_same(decoded.waveform, load_audio(M4A, RATE)[3 * RATE :], 0.03)


def test_the_default_track_is_heard_and_others_are_noted() -> None:
    low, high = tone(3.0, 300), tone(3.0, 3000)
    film = contained([np.zeros_like(low), low, high], "matroska", "flac", default=1)
    decoded = decode_audio(film, RATE)
    assert decoded.notes == ("other tracks: 2",)
    assert_same(decoded.waveform, expected_at(low, 44_100))
    third = decode_audio(film, RATE, track=3)
    assert third.notes == ("track 3 of 3",)
    assert_same(third.waveform, expected_at(high, 44_100))
    with pytest.raises(AudioError, match="has 3 audio tracks, no track 4"):
        decode_audio(film, RATE, track=4)
    assert len(load_audio(M4A, RATE, track=2)) > 0  # its only one


def of_channels(container: str, codec: str, **channels: Samples) -> bytes:
    silence = np.zeros(2 * 48_000, np.float32)
    planar = np.stack([channels.get(name, silence) for name in ("FL", "FR", "FC", "LFE", "BL", "BR")])
    if container == "wav":
        import io

        buffer = io.BytesIO()
        soundfile.write(buffer, planar.T, 48_000, "PCM_16", format="WAV")
        return buffer.getvalue()
    return contained(planar, container, codec, 48_000, "5.1")


@pytest.mark.parametrize(("container", "codec"), [("flac", "flac"), ("matroska", "flac"), ("wav", "")])
def test_channels_are_mixed_by_one_rule_in_every_container(container: str, codec: str) -> None:
    sound = tone(2.0, 400, 48_000)
    levels = {}
    for name in ("FL", "FR", "FC", "BL", "LFE"):
        decoded = decode_audio(of_channels(container, codec, **{name: sound}), RATE)
        levels[name] = np.std(decoded.waveform[800:-800]) / (0.5 / np.sqrt(2))
        assert decoded.notes == (("mixed to silence",) if name == "LFE" else ())
    total = 1 + 2 * 2**-0.5 + 2 * 0.5
    expected = {"FL": 2**-0.5 / total, "FR": 2**-0.5 / total, "FC": 1 / total, "BL": 0.5 / total, "LFE": 0.0}
    assert levels == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_stereo_is_averaged_and_opposite_phases_are_noted(kind: str) -> None:
    left = tone(2.0, 400, 16_000)
    decoded = decode_audio(encoded(np.stack([left, 0 * left], 1), kind, 16_000), RATE)
    np.testing.assert_allclose(decoded.waveform, left / 2, atol=1e-4)
    assert decode_audio(encoded(np.stack([left, -left], 1), kind, 16_000), RATE).notes == ("mixed to silence",)
    assert decode_audio(encoded(np.zeros((16_000, 2)), kind, 16_000), RATE).notes == ()
