"""The demo corpus: the two formats of its packages, the cache, and the corpus that is spoken without apt."""

from __future__ import annotations

import io
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.demo import corpus as demo_corpus
from benchmarks.demo import debian
from benchmarks.demo.corpus import Recording, prepare
from benchmarks.demo.debian import CorpusError, parse_catalogue, parse_transcripts, run_command
from clara_search.errors import FormatError

needs_espeak = pytest.mark.skipif(
    find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed (extra: demo)"
)


def _wav(samples: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.linspace(-0.5, 0.5, samples), 8000, format="WAV", subtype="PCM_16")
    return content.getvalue()


def _catalogue(*credits_and_wavs: tuple[str, bytes]) -> bytes:
    head, body = b"", b""
    for credits_line, wav in credits_and_wavs:
        offset = 8 * len(credits_and_wavs) + len(body)
        head += struct.pack("<II", offset | 0x80000000, len(wav))
        text = credits_line.encode() + b"\0"
        body += bytes([len(text)]) + text + wav
    return head + body


def test_a_catalogue_gives_captions_credits_licences_and_whole_wavs() -> None:
    content = _catalogue(
        ('"Tropical: Bird (2)". Original "a.wav" by "B". License: Creative Commons Zero 1.0.', _wav(7)),
        ('"Unused/Nothing". Trivial empty sound file. License: Creative Commons Zero 1.0.', _wav(0)),
        ('"Truck/old bus start". By J. L. License: Creative Commons Attribution 3.0 Unported.', _wav(9)),
    )
    bird, bus = parse_catalogue(content)
    assert (bird.caption, bird.author, bird.licence) == ("Bird", 'Original "a.wav" by "B".', "CC0-1.0")
    assert (bus.caption, bus.author, bus.licence) == ("Truck or old bus start", "By J. L.", "CC-BY-3.0")
    assert [len(soundfile.read(io.BytesIO(effect.wav))[0]) for effect in (bird, bus)] == [7, 9]


@pytest.mark.parametrize("length", [0, 3, 12, 60, -1])
def test_a_catalogue_that_ends_too_early_is_an_error(length: int) -> None:
    content = _catalogue(('"Cow". By C. License: Creative Commons Zero 1.0.', _wav(20)))
    with pytest.raises(FormatError, match="sound catalogue"):
        list(parse_catalogue(content[:length]))


def test_transcripts_lose_comments_notes_and_silence_but_no_words() -> None:
    content = """; a comment: with a colon

digits/2: two
beep: [this is a simple beep tone]
letters/at: at [@]
vm-leavemsg:  Press 5 to leave  a message
time: The time is: now
dir-multi2: ... for ...
exactly: the time will be exactly...
silence/1: (1 second of silence)
join: <beep ascending>
vm-intro: Leave your message after the tone.  (simple tone sound plays)
a line without one
"""
    assert parse_transcripts(content) == {
        "digits/2": "two",
        "beep": "a simple beep tone",
        "letters/at": "at",
        "vm-leavemsg": "Press 5 to leave a message",
        "time": "The time is: now",
        "dir-multi2": "for",
        "exactly": "the time will be exactly",
        "vm-intro": "Leave your message after the tone.",
    }


@pytest.mark.slow
@needs_espeak
def test_without_apt_the_corpus_is_speech_in_five_languages_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    lines: list[str] = []
    (corpus,) = prepare(tmp_path, lines.append)
    assert len(lines) == 1
    assert "apt-get is not installed" in lines[0]
    assert "\n" not in lines[0]
    assert len(corpus.recordings) >= 200
    assert {recording.language for recording in corpus.recordings} == {"en", "es", "fr", "de", "it"}
    assert all((corpus.folder / recording.path).stat().st_size > 1000 for recording in corpus.recordings)
    fours = [recording for recording in corpus.recordings if recording.text == "vier"]
    assert {recording.label for recording in fours} == {"digit:4"}
    assert len({recording.author for recording in fours}) == demo_corpus.VOICES_PER_DIGIT

    monkeypatch.setattr(demo_corpus, "make_recorded_corpus", _unexpected)
    assert prepare(tmp_path, lines.append) == [corpus]
    assert len(lines) == 2
    assert "apt-get is not installed" in lines[1]


def test_a_complete_folder_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cow = Recording("cow.wav", 'a "cow", lowing', "zxx", "sound", "", "opensfx", "CC0-1.0", "C")
    two = Recording("2.wav", "dos", "es", "speech", "digit:2", "espeak", "CC0-1.0", "")
    for part, recording in (("recorded", cow), ("spoken", two)):
        (tmp_path / part).mkdir()
        demo_corpus._write_corpus(tmp_path / part, [recording])
    monkeypatch.setattr(demo_corpus, "make_recorded_corpus", _unexpected)
    monkeypatch.setattr(demo_corpus, "make_spoken_corpus", _unexpected)
    recorded, spoken = prepare(tmp_path)
    assert (recorded.recordings, spoken.recordings) == ([cow], [two])
    assert recorded.folder == tmp_path / "recorded"


def test_a_failed_download_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "run_command", _never)
    with pytest.raises(CorpusError, match="no network"):
        demo_corpus.make_recorded_corpus(tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_the_error_of_a_missing_or_failing_program_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no-such-program"):
        run_command(["no-such-program"])
    with pytest.raises(CorpusError, match="sh: second"):
        run_command(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])


def _unexpected(folder: Path) -> None:
    raise AssertionError("made again")


def _never(command: list[str], folder: Path | None = None) -> None:
    raise CorpusError("no network")
