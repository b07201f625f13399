"""A recording is read from its own bytes and no others, and yields no more than they hold."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import pytest
import soundfile

from clara_search.audio.decode import load_audio
from clara_search.errors import AudioError
from tests.clara_search.audio.decode.files import contained, tone

RATE = 44100

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
    once = contained(tone(1.0), "mp4", "aac")
    assert len(load_audio(with_edits(once, 2), RATE)) == 2 * len(load_audio(once, RATE))
    with pytest.raises(AudioError, match="same part of the file again and again"):
        load_audio(with_edits(once, 5000), RATE)


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
