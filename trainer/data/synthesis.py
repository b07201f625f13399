"""Shards of synthetic speech: digits and texts spoken by espeak-ng in many voices."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from clara_search.audio.resample import resample
from clara_search.audio.waveform import Waveform
from clara_search.errors import FormatError
from trainer.data.shards import add_member, open_shard
from trainer.phones.espeak import speak

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
"""Intelligible timbres: espeak-ng's variants without its robots, whispers and demons."""

UNHEARD_VARIANTS = ("Henrique", "Reed", "RicishayMax", "Storm", "Tweaky", "iven", "iven3", "kaukovalta")
"""Timbres reserved for scores on new voices: never trained on, and unlike any of `VARIANTS`."""


@dataclass(frozen=True)
class SpokenWord:
    """A synthetic recording with its metadata; `speaker` names voice, speed and pitch."""

    waveform: Waveform
    text: str
    language: str
    label: str | None
    speaker: str
    source_rate: int


def trim_silence(waveform: Waveform, sample_rate: int, min_db: float = -45.0, margin_s: float = 0.03) -> Waveform:
    """Return `waveform`, shape (samples,), without leading and trailing silence.

    Silence is more than `min_db` below the peak; `margin_s` of it is kept.
    """
    level = np.abs(waveform)
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (min_db / 20))
    if not len(loud):
        return waveform
    margin = round(margin_s * sample_rate)
    return waveform[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


def spoken_digits(per_word: int, words: Mapping[str, Sequence[str]], seed: int = 0) -> Iterator[SpokenWord]:
    """Yield the ten digit `words` of each language in `per_word` renditions, trimmed, at 16 kHz.

    A rendition has its own seeded accent, variant, speed (120 to 220 words a minute) and pitch (20 to 80). No two of a
    word share accent and variant while there are enough of them.
    """
    for language, digits in words.items():
        for digit, word in enumerate(digits):
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

    The same samples give the same names and metadata. Raises OutputError where it cannot be written.
    """
    count = 0
    with open_shard(path) as tar:
        for count, sample in enumerate(samples, start=1):
            key = f"{source}-{count - 1:06d}"
            add_member(tar, f"{key}.opus", _opus(sample.waveform))
            add_member(tar, f"{key}.json", json.dumps(_metadata(sample, source), ensure_ascii=False).encode("utf-8"))
    return count


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank. Raises FormatError for a file without any."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not a text that can be read ({error})") from error
    if not lines:
        raise FormatError(f"{path}: has no lines")
    return lines


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
