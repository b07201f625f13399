"""The demo corpus: recorded prompts and sound effects from Debian packages, and phrases spoken by espeak-ng.

The packages are downloaded and unpacked in the demo's folder, without root, and not installed; without apt there are
only the spoken phrases. A folder that has its manifest is complete and is used as it is.
"""

from __future__ import annotations

import csv
import gzip
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from clara_search.errors import ClaraError, FormatError

PACKAGES = ("openttd-opensfx", "asterisk-core-sounds-en-gsm", "asterisk-core-sounds-en")
CATALOGUE = Path("usr/share/games/openttd/baseset/opensfx/opensfx.cat")
PROMPTS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
MANIFEST = "manifest.csv"
PHRASES = Path(__file__).with_name("phrases.csv")

SOUND_PROMPTS = frozenset({"ascending-2tone", "beep", "beeperr", "descending-2tone", "tt-monkeys"})
"""Prompts without speech."""

VOICES_PER_DIGIT = 4
APT_TIMEOUT_S = 180
NO_SPEECH = "zxx"


class CorpusError(ClaraError):
    """The packages of the corpus cannot be downloaded."""


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


class Effect(NamedTuple):
    """A sound effect of a catalogue: its caption, its credit, its licence and the bytes of its WAV file."""

    caption: str
    author: str
    licence: str
    wav: bytes


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
            _run(["dpkg-deb", "-x", str(package), str(root)])
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
            recordings = [Recording(**row) for row in csv.DictReader(file)]
        except TypeError as error:
            raise FormatError(
                f"{manifest}: not a manifest of this demo: delete {manifest.parent} to make a new one"
            ) from error
    spoken = all(recording.source == "espeak" for recording in recordings)
    origin = "phrases in five languages, spoken by espeak-ng" if spoken else "telephone prompts and sound effects"
    return Corpus(manifest, recordings, origin)


def download_packages(folder: Path) -> None:
    """Download the Debian packages to `folder`, without root. Raises CorpusError if that fails.

    If the system has no package lists, they are downloaded to `folder` too; the system's own lists are not changed.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CorpusError("apt-get is not installed")
    quick = ["-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User="]
    try:
        _run(["apt-get", *quick, "download", *PACKAGES], folder)
    except CorpusError as first:
        state = (folder / "apt").absolute()
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        private = [*quick, "-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state}"]
        try:
            _run(["apt-get", *private, "update"], folder)
            _run(["apt-get", *private, "download", *PACKAGES], folder)
        except CorpusError:
            raise first from None


def parse_catalogue(content: bytes) -> Iterator[Effect]:
    """Yield the effects of an OpenTTD sound catalogue, without those that are "Unused".

    The catalogue starts with a little-endian pair for each sound: its offset, whose top bit is a flag, and its size.
    At the offset there are a length byte, that many bytes of credits ending in NUL, and a WAV file. Raises FormatError
    if the catalogue is truncated.
    """
    try:
        count = (struct.unpack_from("<I", content)[0] & 0x7FFFFFFF) // 8
        for entry in range(count):
            offset = struct.unpack_from("<I", content, 8 * entry)[0] & 0x7FFFFFFF
            start = offset + 1 + content[offset]
            credits_line = content[offset + 1 : start].rstrip(b"\0").decode("utf-8", "replace")
            tag, riff_size = struct.unpack_from("<4sI", content, start)
            wav = content[start : start + 8 + riff_size]
            if tag != b"RIFF" or len(wav) != 8 + riff_size:
                raise FormatError(f"sound catalogue: entry {entry} is not a complete WAV file")
            match = re.match(r'"(?P<caption>[^"]*)"\.?\s*(?P<author>.*?)\s*License: (?P<licence>.*?)\.?$', credits_line)
            if match and "Unused" not in match["caption"]:
                yield Effect(_clean_caption(match["caption"]), match["author"], _spdx(match["licence"]), wav)
    except (struct.error, IndexError) as error:
        raise FormatError("sound catalogue: truncated before its last entry") from error


def parse_transcripts(content: str) -> dict[str, str]:
    """Return the transcripts of prompts by name, from lines "name: text", in which `;` begins a comment.

    Ellipses, notes in brackets and prompts of silence are dropped.
    """
    transcripts = {}
    for line in content.splitlines():
        name, colon, text = line.partition(":")
        if not colon or line.lstrip().startswith(";"):
            continue
        text = re.sub(r"^\[(?:this is )?(.{2,})\]$", r"\1", text.strip())
        text = re.sub(r"\s*(\[.\]|\([^)]*\)|<[^>]*>)", "", text).replace("...", " ")
        text = " ".join(text.split()).removesuffix(" .")
        if text:
            transcripts[name.strip()] = text
    return transcripts


def _clean_caption(caption: str) -> str:
    """Return an effect's caption without the game's climate before it and the take number after it."""
    caption = re.sub(r"^(Toyland|Tropical|Lumber mill): ", "", caption)
    caption = re.sub(r"\s*\((\d+\)|[^)]*builds\)?)$", "", caption)
    return caption.replace("Diesel/electric", "Diesel-electric").replace("/", " or ")


def _spdx(licence: str) -> str:
    """Return the SPDX identifier of a Creative Commons licence."""
    if "Zero" in licence:
        return "CC0-1.0"
    return "CC-BY-SA-3.0" if "ShareAlike" in licence else "CC-BY-3.0" if "Attribution 3.0" in licence else licence


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
    partial = manifest.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Recording)])
        writer.writeheader()
        writer.writerows(asdict(recording) for recording in recordings)
    partial.replace(manifest)
    return read_corpus(manifest)


def _run(command: list[str], folder: Path | None = None) -> None:
    """Run `command` in `folder`. Raises CorpusError with the last line of its error output."""
    try:
        done = subprocess.run(
            command, cwd=folder, timeout=APT_TIMEOUT_S, capture_output=True, text=True, errors="replace", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CorpusError(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CorpusError(f"{command[0]}: {lines[-1]}")
