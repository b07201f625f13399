"""Synthetic speech: espeak-ng through its wheel, and the shards of spoken digits."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from clara_search.datasets.readers import read_shard
from trainer.commands.synthesize import synthesize_command
from trainer.config.evaluation import bundled_digits
from trainer.data import synthesis
from trainer.data.synthesis import spoken_digits, trim_silence, write_shard
from trainer.phones import espeak
from trainer.phones.espeak import SpeechError, speak

needs_espeak = pytest.mark.skipif(
    find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (extra: demo)",
)


@needs_espeak
@pytest.mark.parametrize("text", ["hello world", "ноль", "zéro", "日本"])
def test_speech_is_audible_mono_at_the_stated_rate(text: str) -> None:
    waveform, rate = speak(text)
    assert rate == 22050
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert 0.1 < len(waveform) / rate < 5
    assert 0.05 < np.abs(waveform).max() <= 1.0


@needs_espeak
def test_a_slower_voice_speaks_longer_and_a_higher_pitch_sounds_higher() -> None:
    slow, rate = speak("one two three four", speed_wpm=110)
    fast, _ = speak("one two three four", speed_wpm=220)
    assert len(slow) > 1.5 * len(fast)
    low, high = (_fundamental_hz(speak("a", "en+klatt", pitch=pitch)[0], rate) for pitch in (10, 90))
    assert high > 1.2 * low


def _fundamental_hz(waveform: np.ndarray, rate: int) -> float:
    """The strongest periodicity between 60 and 400 Hz, by autocorrelation of the loudest part."""
    middle = len(waveform) // 2
    part = waveform[middle - 1024 : middle + 1024].astype(np.float64)
    correlation = np.correlate(part, part, "full")[len(part) - 1 :]
    lags = np.arange(rate // 400, rate // 60)
    return rate / lags[np.argmax(correlation[lags])]


@needs_espeak
@pytest.mark.parametrize("voice", ["xx", "en+nobody", "", "+f3", "../en", "en+../en"])
def test_an_unknown_voice_is_an_error_that_names_it(voice: str) -> None:
    with pytest.raises(SpeechError, match="has no voice"):
        speak("hello", voice)


@needs_espeak
def test_every_voice_that_is_drawn_from_exists() -> None:
    there = set(espeak.voice_variants())
    assert set(synthesis.VARIANTS) | set(synthesis.UNHEARD_VARIANTS) <= there
    assert not set(synthesis.VARIANTS) & set(synthesis.UNHEARD_VARIANTS)
    for accent in sum(synthesis.ACCENTS.values(), ()):
        assert len(speak("a", f"{accent}+f3")[0])


def test_without_the_wheel_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._start.cache_clear()
    try:
        with pytest.raises(SpeechError, match="pip install espeakng-loader"):
            speak("hello")
    finally:
        espeak._start.cache_clear()


def test_trimming_keeps_the_loud_part_and_a_margin() -> None:
    waveform = np.concatenate([np.zeros(1000), np.full(500, 0.5), np.full(1000, 1e-4)]).astype(np.float32)
    trimmed = trim_silence(waveform, sample_rate=1000, margin_s=0.1)
    assert len(trimmed) == 100 + 500 + 100
    assert trimmed[99] == 0
    assert trimmed[100] == 0.5
    silence = np.zeros(10, np.float32)
    assert len(trim_silence(silence, 1000)) == 10


@needs_espeak
def test_digits_are_ten_words_a_language_in_as_many_voices() -> None:
    suite = {language: bundled_digits().words[language] for language in ("en", "ru")}
    words = list(spoken_digits(3, suite))
    assert len(words) == 2 * 10 * 3
    assert [word.text for word in words[:30:3]] == list(suite["en"])
    assert len({word.speaker for word in words[:3]}) == 3
    assert {word.label for word in words} == {f"digit:{digit}" for digit in range(10)}
    assert all(0.1 < len(word.waveform) / 16_000 < 1.5 for word in words)
    assert [word.speaker for word in spoken_digits(3, suite)] == [word.speaker for word in words]
    assert [word.speaker for word in spoken_digits(3, suite, seed=1)] != [w.speaker for w in words]


@needs_espeak
def test_a_shard_reads_back_as_it_was_written(tmp_path: Path) -> None:
    suite = {"fr": bundled_digits().words["fr"]}
    words = list(spoken_digits(1, suite))
    shard = tmp_path / "new" / "digits.tar"
    assert write_shard(words, shard) == 10
    examples = list(read_shard(shard))
    assert [example.text for example in examples] == list(suite["fr"])
    assert {(e.kind, e.language, e.text_language, e.source) for e in examples} == {
        ("speech", "fr", "fr", "espeak_digits")
    }
    for example, word in zip(examples, words, strict=True):
        assert isinstance(example.audio, bytes)
        decoded, rate = soundfile.read(io.BytesIO(example.audio))
        assert rate == 16_000
        assert abs(len(decoded) - len(word.waveform)) < 0.02 * rate
    assert sorted(path.name for path in shard.parent.iterdir()) == ["digits.tar"]


@pytest.mark.slow
@needs_espeak
def test_the_command_writes_a_shard_of_five_languages(tmp_path: Path) -> None:
    shard = tmp_path / "digits.tar"
    result = CliRunner().invoke(synthesize_command, ["--out", str(shard), "--per-word", "1", "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("50 clips")
    with tarfile.open(shard) as tar:
        names = tar.getnames()
        member = tar.extractfile(names[1])
        assert member is not None
        metadata = json.loads(member.read())
    assert len(names) == 100
    assert set(metadata) == {
        *("text", "language", "text_language", "kind", "label", "source", "speaker", "licence"),
        *("duration_s", "source_rate"),
    }
    assert metadata["label"] == "digit:0"
    assert metadata["licence"] == "CC0-1.0 (synthetic)"
