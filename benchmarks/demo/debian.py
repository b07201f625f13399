"""The Debian packages of the demo corpus: download, the catalogue of sound effects, and the transcripts of prompts."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clara_search.errors import ClaraError, FormatError

PACKAGES = ("openttd-opensfx", "asterisk-core-sounds-en-gsm", "asterisk-core-sounds-en")
APT_TIMEOUT_S = 180


class CorpusError(ClaraError):
    """The packages of the corpus cannot be downloaded."""


class Effect(NamedTuple):
    """A sound effect of a catalogue: its caption, its credit, its licence and the bytes of its WAV file."""

    caption: str
    author: str
    licence: str
    wav: bytes


def download_packages(folder: Path) -> None:
    """Download the Debian packages to `folder`, without root. Raises CorpusError if that fails.

    If the system has no package lists, they are downloaded to `folder` too; the system's own lists are not changed.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CorpusError("apt-get is not installed")
    quick = ["-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User="]
    try:
        run_command(["apt-get", *quick, "download", *PACKAGES], folder)
    except CorpusError as first:
        state = (folder / "apt").absolute()
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        private = [*quick, "-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state}"]
        try:
            run_command(["apt-get", *private, "update"], folder)
            run_command(["apt-get", *private, "download", *PACKAGES], folder)
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


def run_command(command: list[str], folder: Path | None = None) -> None:
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
