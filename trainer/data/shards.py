"""Conversion of any source (manifest, folder, shards) to WebDataset shards of one rate."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from clara_search.datasets.example import METADATA_FIELDS, Example
from clara_search.datasets.readers import read_examples
from clara_search.datasets.recordings import load_recording
from clara_search.errors import AudioError, ConfigError, FormatError, OutputError, SourceError
from clara_search.files.atomic import atomic_path, atomic_write_text, make_folder
from clara_search.files.json_reader import read_json
from clara_search.files.paths import stat_file
from trainer.data.corpus import bounded_map

_SHARD_NAME = re.compile(r"\d{5,}\.tar")
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
SKIPPED_FILE = "left-out.txt"
FORMATS = {"flac": {"format": "FLAC", "subtype": "PCM_16"}, "opus": {"format": "OGG", "subtype": "OPUS"}}


def write_shards(source: str, out: Path, per_shard: int, rate: int, suffix: str = "flac") -> tuple[int, int]:
    """Write `out`/00000.tar, 00001.tar, ...; a shard is written again only if its rows or their files changed.

    Args:
        source: manifest, folder, shard, glob, brace pattern or URL.
        out: folder to write to; shards.json in it records the rows of each shard.
        per_shard: examples in a shard.
        rate: of the recordings to write, in Hz.
        suffix: "flac" or "opus".

    Returns:
        The number of shards, and of recordings that were left out.

    Raises:
        ConfigError: Opus does not have that rate.
        OutputError: `out` holds other shards, or shards made with other settings.
        SourceError: there is nothing to write.
    """
    if suffix == "opus" and rate not in OPUS_RATES:
        raise ConfigError(f"Opus has no rate of {rate} Hz, only {', '.join(map(str, OPUS_RATES))}")
    settings = {"manifest": source, "per_shard": per_shard, "rate": rate, "format": suffix}
    record = make_folder(out) / "shards.json"
    before = _read_record(record, settings)
    problems: list[str] = []
    examples = read_examples(source, lambda error: problems.append(str(error)))
    known: dict[str, dict[str, Any]] = {}
    clips = 0
    with ThreadPoolExecutor() as pool, tqdm(desc="clips", unit="") as bar:
        while group := list(islice(examples, per_shard)):
            path = out / f"{len(known):05d}.tar"
            shard = before.get(path.name, {})
            rows = _digest(group)
            if shard.get("rows") != rows or not path.is_file() or path.stat().st_size != shard.get("bytes"):
                skipped = _write_shard(path, pool, group, len(known) * per_shard, rate, suffix)
                shard = {"rows": rows, "bytes": path.stat().st_size, "left_out": skipped}
            known[path.name] = shard
            atomic_write_text(record, json.dumps({**settings, "shards": {**before, **known}}) + "\n")
            clips += len(group) - len(shard["left_out"])
            bar.update(len(group))
    lines = [line for shard in known.values() for line in shard["left_out"]] + problems
    atomic_write_text(out / SKIPPED_FILE, "".join(f"{line}\n" for line in lines))
    if not clips:
        reason = f"; {out / SKIPPED_FILE} says why" if lines else ": it names none"
        _remove(out, before | known)
        raise SourceError(f"{source}: no recording can be written{reason}")
    _remove(out, before.keys() - known.keys())
    atomic_write_text(record, json.dumps({**settings, "shards": known}) + "\n")
    if others := sorted(path.name for path in out.glob("*.tar") if path.name not in known):
        raise OutputError(
            f"{out / others[0]}: not one of these shards, but would be trained on with them: move it away"
        )
    return len(known), len(lines)


def _remove(out: Path, names: Iterable[str]) -> None:
    for name in names:
        (out / name).unlink(missing_ok=True)


def _read_record(path: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records of the shards beside `path`, by name."""
    if not path.exists():
        return {}
    try:
        before = read_json(path)
        shards: dict[str, dict[str, Any]] = before.pop("shards", {})
    except (OSError, FormatError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); take another folder, or remove it") from error
    if before != settings:
        raise OutputError(f"{path.parent} holds shards made with other settings: {before}")
    if not isinstance(shards, dict) or not all(_SHARD_NAME.fullmatch(name) for name in shards):
        raise FormatError(f"{path}: lists other files than shards; take another folder, or remove it")
    return shards


def _digest(group: Iterable[Example]) -> str:
    """Return a hash over the rows of a shard and the content, or size and time, of their recordings."""
    digest = hashlib.sha256()
    for example in group:
        audio: Any = example.audio
        if isinstance(audio, Path):
            with suppress(OSError):
                audio = (str(audio), *stat_file(audio, trust_young=True))
        elif isinstance(audio, bytes):
            audio = hashlib.sha256(audio).hexdigest()
        row = {name: value for name, value in vars(example).items() if name not in ("audio", "stored")}
        digest.update(repr((row, audio)).encode())
    return digest.hexdigest()


def _write_shard(
    path: Path, pool: ThreadPoolExecutor, group: list[Example], first: int, rate: int, suffix: str
) -> list[str]:
    def encode(example: Example) -> tuple[Example, bytes | AudioError, float]:
        try:
            waveform = load_recording(example, rate)
        except AudioError as error:
            return example, error, 0.0
        except (OSError, SourceError) as error:
            return example, AudioError(f"cannot be read ({getattr(error, 'strerror', None) or error})"), 0.0
        content = io.BytesIO()
        soundfile.write(content, waveform, rate, **FORMATS[suffix])
        return example, content.getvalue(), len(waveform) / rate

    skipped: list[str] = []
    with open_shard(path) as tar:
        for number, (example, content, duration_s) in enumerate(
            bounded_map(pool, encode, group, prefetch=32), start=first
        ):
            if isinstance(content, AudioError):
                skipped.append(f"{example.key}: {content}")
                continue
            metadata = {
                name: getattr(example, name) for name in METADATA_FIELDS if name not in ("text", "alternatives")
            }
            texts = [example.text, *example.alternatives]
            metadata |= {
                "text": texts if len(texts) > 1 else texts[0],
                "key": example.key,
                "duration_s": round(duration_s, 3),
            }
            add_member(tar, f"{number:09d}.{suffix}", content)
            add_member(tar, f"{number:09d}.json", json.dumps(metadata, ensure_ascii=False).encode())
    return skipped


@contextmanager
def open_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar for writing that replaces the file at `path` once it is complete. Raises as `atomic_path` does."""
    with atomic_path(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        yield tar


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file `name` with `content`."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
