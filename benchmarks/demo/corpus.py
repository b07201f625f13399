"""The demo corpus: recorded prompts and sound effects from Debian packages, and phrases spoken by espeak-ng.

The packages are downloaded and unpacked in the demo's folder, without root, and not installed; without apt there are
only the spoken phrases. A folder that has its manifest is complete and is used as it is.
"""

from __future__ import annotations

import csv
import gzip
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from benchmarks.demo.debian import (
    CorpusError,
    Effect,
    download_packages,
    parse_catalogue,
    parse_transcripts,
    run_command,
)
from clara_search.errors import FormatError
from clara_search.files.atomic import atomic_path
from clara_search.files.tables.formulas import guarded, unguarded

CATALOGUE = Path("usr/share/games/openttd/baseset/opensfx/opensfx.cat")
PROMPTS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
MANIFEST = "manifest.csv"
PHRASES = Path(__file__).with_name("phrases.csv")

SOUND_PROMPTS = frozenset({"ascending-2tone", "beep", "beeperr", "descending-2tone", "tt-monkeys"})
"""Prompts without speech."""

VOICES_PER_DIGIT = 4
NO_SPEECH = "zxx"


@dataclass(frozen=True)
class Recording:
    """A row of the manifest.

    Attributes:
        path: relative to the manifest.
        text: transcript or caption.
        language: of the speech; "zxx" for a sound.
        category: "speech" or "sound".
        label: a class such as "digit:7", or "".
        source: the collection.
        licence: SPDX identifier.
        author: the credit that the licence requires.
    """

    path: str
    text: str
    language: str
    category: str
    label: str
    source: str
    licence: str
    author: str


class Corpus(NamedTuple):
    """A folder of recordings with their manifest, and their origin in a few words."""

    manifest: Path
    recordings: list[Recording]
    origin: str

    @property
    def folder(self) -> Path:
        """The folder of the recordings."""
        return self.manifest.parent


def prepare(folder: Path, say: Callable[[str], None] = lambda line: None) -> list[Corpus]:
    """Return the corpora in `folder`, which the first call makes.

    Args:
        folder: of the demo.
        say: prints a line, if the recorded corpus cannot be downloaded.

    Returns:
        The recorded corpus, if it can be downloaded, and the spoken one.
    """
    recorded, spoken = folder / "recorded", folder / "spoken"
    note = recorded / "unavailable.txt"
    corpora = []
    if (recorded / MANIFEST).is_file():
        corpora.append(read_corpus(recorded / MANIFEST))
    elif note.is_file():
        say(f"The demo uses synthetic speech only: {note.read_text(encoding='utf-8')} (to try again, delete {note}).")
    else:
        try:
            corpora.append(make_recorded_corpus(recorded))
        except CorpusError as reason:
            say(f"The recordings cannot be downloaded ({reason}): the demo uses synthetic speech only.")
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(reason), encoding="utf-8")
    exists = (spoken / MANIFEST).is_file()
    return [*corpora, read_corpus(spoken / MANIFEST) if exists else make_spoken_corpus(spoken)]


def make_recorded_corpus(folder: Path) -> Corpus:
    """Download recorded prompts and effects to `folder`. Raises CorpusError without apt or network."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="packages-") as name:
        packages, root = Path(name), Path(name) / "root"
        download_packages(packages)
        for package in packages.glob("*.deb"):
            run_command(["dpkg-deb", "-x", str(package), str(root)])
        transcripts = parse_transcripts(gzip.decompress((root / TRANSCRIPTS).read_bytes()).decode("utf-8"))
        recordings = [
            *_write_effects(parse_catalogue((root / CATALOGUE).read_bytes()), folder),
            *_write_prompts(root / PROMPTS, transcripts, folder),
        ]
    return _write_corpus(folder, recordings)


def make_spoken_corpus(folder: Path) -> Corpus:
    """Speak everyday phrases in five languages to `folder`, with voices that were not used in training.

    A digit is spoken by VOICES_PER_DIGIT voices, any other phrase by one.
    """
    from trainer.data.synthesis import LICENCE, UNHEARD_VARIANTS, trim_silence
    from trainer.phones.espeak import speak

    rng = np.random.default_rng(0)
    with PHRASES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    recordings = []
    for number, row in enumerate(rows):
        label = row.pop("label")
        for language, text in row.items():
            for variant in rng.permutation(UNHEARD_VARIANTS)[: VOICES_PER_DIGIT if label else 1]:
                voice = f"{language}+{variant}"
                waveform, rate = speak(text, voice, int(rng.integers(140, 191)), int(rng.integers(30, 71)))
                path = f"wav/{language}-{number:02d}-{variant}.wav"
                soundfile.write(folder / path, trim_silence(waveform, rate), rate, subtype="PCM_16")
                credit = f"espeak-ng, voice {voice}"
                recordings.append(Recording(path, text, language, "speech", label, "espeak", LICENCE, credit))
    return _write_corpus(folder, recordings)


def read_corpus(manifest: Path) -> Corpus:
    """Return the corpus of a manifest that `prepare` wrote. Raises FormatError if columns are missing."""
    with manifest.open(encoding="utf-8", newline="") as file:
        try:
            recordings = [
                Recording(**{name: unguarded(value) for name, value in row.items()}) for row in csv.DictReader(file)
            ]
        except TypeError as error:
            raise FormatError(
                f"{manifest}: not a manifest of this demo: delete {manifest.parent} to make a new one"
            ) from error
    spoken = all(recording.source == "espeak" for recording in recordings)
    origin = "phrases in five languages, spoken by espeak-ng" if spoken else "telephone prompts and sound effects"
    return Corpus(manifest, recordings, origin)


def _write_effects(effects: Iterable[Effect], folder: Path) -> Iterator[Recording]:
    (folder / "effects").mkdir(parents=True, exist_ok=True)
    for number, effect in enumerate(effects):
        name = re.sub(r"\W+", "-", effect.caption.lower()).strip("-")
        path = f"effects/{number:02d}-{name}.wav"
        (folder / path).write_bytes(effect.wav)
        yield Recording(path, effect.caption, NO_SPEECH, "sound", "", "opensfx", effect.licence, effect.author)


def _write_prompts(prompts: Path, transcripts: dict[str, str], folder: Path) -> Iterator[Recording]:
    for source in sorted(prompts.rglob("*.gsm")):
        name = source.relative_to(prompts).with_suffix("").as_posix()
        if name not in transcripts:
            continue
        path = f"prompts/{name}.wav"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(source, format="RAW", subtype="GSM610", samplerate=8000, channels=1)
        soundfile.write(folder / path, samples, rate, subtype="PCM_16")
        is_sound = name in SOUND_PROMPTS
        digit = re.fullmatch(r"digits/(\d)", name)
        yield Recording(
            path=path,
            text=transcripts[name],
            language=NO_SPEECH if is_sound else "en",
            category="sound" if is_sound else "speech",
            label=f"digit:{digit[1]}" if digit else "",
            source="asterisk",
            licence="CC-BY-SA-3.0",
            author="Allison Smith",
        )


def _write_corpus(folder: Path, recordings: list[Recording]) -> Corpus:
    manifest = folder / MANIFEST
    with atomic_path(manifest) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Recording)])
        writer.writeheader()
        writer.writerows(
            {name: guarded(value) for name, value in asdict(recording).items()} for recording in recordings
        )
    return read_corpus(manifest)
