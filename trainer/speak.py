"""Text to synthetic speech with espeak-ng, and shards of spoken digits in five languages for training.

espeak-ng comes from the PyPI wheel `espeakng-loader` (the shared library and its voices) and is called through ctypes,
so that neither a system package nor a process per word is needed.
"""

from __future__ import annotations

import ctypes
import io
import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import soundfile

from clara_search.audio import Waveform, resample
from clara_search.datasets.digits import DIGITS
from clara_search.errors import ClaraError, FormatError
from trainer.recipe import bundled
from trainer.tar import add_member, new_shard

SAMPLE_RATE = 16_000
"""Hz of the clips in a shard; espeak-ng itself speaks at 22,050 Hz."""

LICENCE = "CC0-1.0 (synthetic)"

ACCENTS: dict[str, tuple[str, ...]] = {
    "en": ("en-us", "en", "en-gb-scotland", "en-gb-x-rp"),
    "es": ("es", "es-419"),
    "fr": ("fr", "fr-be", "fr-ch"),
    "it": ("it",),
    "ru": ("ru",),
}
"""The espeak-ng voices that speak a language ("en" is British)."""

VARIANTS: tuple[str, ...] = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *("Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario"),
    *("Michael", "Mike", "Nguyen", "adam", "anika", "announcer", "antonio", "aunty", "belinda", "benjamin", "boris"),
    *("caleb", "croak", "david", "ed", "edward", "grandma", "grandpa", "gustave", "ian", "john", "klatt", "klatt2"),
    *("klatt4", "linda", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob"),
    *("robert", "sandro", "shelby", "steph", "travis", "victor", "zac"),
)
"""Timbres that keep speech intelligible: espeak-ng's variants without its robots, whispers and demons."""

UNHEARD_VARIANTS = ("Henrique", "Reed", "RicishayMax", "Storm", "Tweaky", "iven", "iven3", "kaukovalta")
"""Timbres that no shard for training may hold, and none of whose kin is in `VARIANTS`: for scores on new voices."""

_ESPEAK_RATE, _ESPEAK_PITCH = 1, 3  # espeak_PARAMETER
_SYNCHRONOUS, _UTF8, _DONT_EXIT = 0x02, 0x01, 0x8000
_IPA = 0x02  # a mode of espeak_TextToPhonemes
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechError(ClaraError):
    """Speech that cannot be made: espeak-ng is missing, does not start, or does not know a voice."""


@dataclass(frozen=True)
class SpokenWord:
    """A synthetic recording and what a shard says about it; `speaker` names the voice, its speed and its pitch."""

    waveform: Waveform
    text: str
    language: str
    label: str | None
    speaker: str
    source_rate: int


def speak(text: str, voice: str = "en", speed_wpm: int = 175, pitch: int = 50) -> tuple[Waveform, int]:
    """Return `text` spoken by espeak-ng as mono float32, shape (samples,), and its rate in Hz.

    `voice` is an espeak-ng voice ("en", "es-419"), with a variant after a plus where wanted ("en+f3"). `speed_wpm` is
    in words a minute (80 to 450), `pitch` from 0 to 99. The same calls in a new process give the same samples; within
    one, espeak-ng goes on from where its oscillators stand. Raises SpeechError without espeakng-loader or for an
    unknown voice.
    """
    with _lock:
        espeak = _start()
        _choose(espeak, voice)
        espeak.library.espeak_SetParameter(_ESPEAK_RATE, speed_wpm, 0)
        espeak.library.espeak_SetParameter(_ESPEAK_PITCH, pitch, 0)
        espeak.chunks.clear()
        content = text.encode("utf-8") + b"\0"
        espeak.library.espeak_Synth(content, ctypes.c_size_t(len(content)), 0, 0, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(espeak.chunks), dtype=np.int16)
    return samples.astype(np.float32) / 32768.0, espeak.sample_rate


def pronounce(text: str, voice: str = "en") -> str:
    """Return how the espeak-ng voice `voice` would say `text`, in the IPA. Raises SpeechError as `speak` does."""
    with _lock:
        espeak = _start()
        _choose(espeak, voice)
        rest = ctypes.c_char_p(text.encode("utf-8"))
        clauses = []
        while rest.value is not None:
            clauses.append(espeak.library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode("utf-8"))
    return " ".join(clauses)


def voice_variants() -> list[str]:
    """Return the names of all variants that the installed espeak-ng has, sorted ("f3" makes "en+f3")."""
    with _lock:
        return sorted(path.name for path in (_start().voices / "!v").iterdir())


def trim_silence(waveform: Waveform, sample_rate: int, floor_db: float = -45.0, margin_s: float = 0.03) -> Waveform:
    """Return `waveform` without the silence at its ends: what is more than `floor_db` below the peak, but a margin."""
    level = np.abs(waveform)
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (floor_db / 20))
    if not len(loud):
        return waveform
    margin = round(margin_s * sample_rate)
    return waveform[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


def spoken_digits(per_word: int, seed: int = 0, languages: Iterable[str] = tuple(DIGITS)) -> Iterator[SpokenWord]:
    """Yield every digit word of `languages` in `per_word` renditions, trimmed, at 16 kHz.

    A rendition has its own seeded accent, variant, speed (120 to 220 words a minute) and pitch (20 to 80). No two of a
    word share accent and variant while there are enough of them.
    """
    for language in languages:
        for digit, word in enumerate(DIGITS[language]):
            yield from _renditions(word, language, per_word, [seed, *language.encode(), digit], f"digit:{digit}")


def spoken_texts(texts: Iterable[str], language: str, per_text: int, seed: int = 0) -> Iterator[SpokenWord]:
    """Yield each of `texts` in `per_text` renditions, as `spoken_digits` does; `language` is a code of espeak-ng's."""
    for number, text in enumerate(texts):
        yield from _renditions(text, language, per_text, [seed, *language.encode(), number], None)


def _renditions(text: str, language: str, count: int, seed: list[int], label: str | None) -> Iterator[SpokenWord]:
    accents = ACCENTS.get(language, (language,))
    voices = [f"{accent}+{variant}" for accent, variant in itertools.product(accents, VARIANTS)]
    rng = np.random.default_rng(seed)
    order = np.resize(rng.permutation(len(voices)), count)
    for voice in (voices[index] for index in order):
        speed_wpm, pitch = int(rng.integers(120, 221)), int(rng.integers(20, 81))
        waveform, rate = speak(text, voice, speed_wpm, pitch)
        clip = trim_silence(resample(waveform, rate, SAMPLE_RATE), SAMPLE_RATE)
        yield SpokenWord(clip, text, language, label, f"espeak-{voice}-{speed_wpm}-{pitch}", rate)


def write_shard(samples: Iterable[SpokenWord], path: Path, source: str = "espeak_digits") -> int:
    """Write a WebDataset tar of KEY.opus (16 kHz mono) and KEY.json pairs to `path`; return the number of pairs.

    The same samples give the same names and metadata. Raises FormatError where it cannot be written.
    """
    count = 0
    with new_shard(path) as tar:
        for count, sample in enumerate(samples, start=1):
            key = f"{source}-{count - 1:06d}"
            add_member(tar, f"{key}.opus", _opus(sample.waveform))
            add_member(tar, f"{key}.json", json.dumps(_metadata(sample, source), ensure_ascii=False).encode("utf-8"))
    return count


@click.command("speak")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The tar to write.")
@click.option("--texts", type=click.Path(path_type=Path), help="Speak the lines of this file, or of trainer/recipes.")
@click.option("--language", default="en", show_default=True, help="Code of the language that --texts is in.")
@click.option("--per-word", type=click.IntRange(min=1), default=24, show_default=True, help="Renditions of each.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws voices, speeds and pitches."
)
def speak_command(out: Path, texts: Path | None, language: str, per_word: int, seed: int) -> None:
    """Write a shard of the digits zero to nine, or of other texts, spoken by espeak-ng in many voices."""
    if texts is None:
        count = write_shard(spoken_digits(per_word, seed), out)
    else:
        lines = _lines(bundled(texts))
        count = write_shard(spoken_texts(lines, language, per_word, seed), out, "espeak_texts")
    click.echo(f"{count} clips in {out}")


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not a text that can be read ({error})") from error
    if not lines:
        raise FormatError(f"{path}: there is no line to speak")
    return lines


class _Espeak(NamedTuple):
    """The started library: what it holds, and where its callback leaves the samples."""

    library: ctypes.CDLL
    voices: Path
    sample_rate: int
    chunks: list[bytes]
    callback: Any  # kept alive: the library calls it


_lock = threading.Lock()  # the library has one global state


@cache
def _start() -> _Espeak:
    try:
        import espeakng_loader
    except ImportError as error:
        raise SpeechError("speech synthesis needs espeak-ng: pip install espeakng-loader") from error
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    folder = Path(espeakng_loader.get_data_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DONT_EXIT))
    if rate <= 0:
        raise SpeechError(f"espeak-ng did not start with the voices in {folder} (its limit for that path is 160 bytes)")
    chunks: list[bytes] = []

    def keep(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    callback = _Callback(keep)
    library.espeak_SetSynthCallback(callback)
    return _Espeak(library, folder / "voices", rate, chunks, callback)


def _choose(espeak: _Espeak, voice: str) -> None:
    """Set `voice`; an unknown variant is asked of the folder, since the library ignores it without a word."""
    name, _, variant = voice.partition("+")
    known = bool(name) and (not variant or (espeak.voices / "!v" / variant).is_file())
    if not known or espeak.library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise SpeechError(f"espeak-ng has no voice {voice!r}: try a language code such as 'en', or 'en+f3'")


def _opus(waveform: Waveform) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE, format="OGG", subtype="OPUS")
    return content.getvalue()


def _metadata(sample: SpokenWord, source: str) -> dict[str, str | float | int | None]:
    return {
        "text": sample.text,
        "language": sample.language,
        "text_language": sample.language,
        "kind": "speech",
        "label": sample.label,
        "source": source,
        "speaker": sample.speaker,
        "licence": LICENCE,
        "duration_s": round(len(sample.waveform) / SAMPLE_RATE, 3),
        "source_rate": sample.source_rate,
    }
