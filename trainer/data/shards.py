"""`python -m trainer shards`: any manifest, folder or shards to WebDataset shards of one rate."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from clara_search.datasets.example import METADATA_FIELDS, Example
from clara_search.datasets.readers import read_examples
from clara_search.datasets.recordings import load_recording
from clara_search.errors import AudioError, ConfigError, FormatError, OutputError, SourceError
from clara_search.files.atomic import atomic_write_text, make_folder
from clara_search.files.paths import stat_file
from trainer.data.corpus import bounded_map
from trainer.data.tar_writer import add_member, open_shard

_SHARD_NAME = re.compile(r"\d{5,}\.tar")
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
FORMATS = {"flac": {"format": "FLAC", "subtype": "PCM_16"}, "opus": {"format": "OGG", "subtype": "OPUS"}}


def write_shards(manifest: str, out: Path, per_shard: int, rate: int, suffix: str = "flac") -> tuple[int, int]:
    """Write `out`/00000.tar, 00001.tar, ... and return how many there are, and how many recordings were left out.

    Each holds what `per_shard` examples of `manifest` gave, in order. `out`/shards.json knows which those were, so that
    a shard is written again only where they, or their files, changed. Raises OutputError for a folder whose shards were
    made with other settings, or holds others, and SourceError where there is nothing to write.
    """
    if suffix == "opus" and rate not in OPUS_RATES:
        raise ConfigError(f"Opus has no rate of {rate} Hz, only {', '.join(map(str, OPUS_RATES))}")
    settings = {"manifest": manifest, "per_shard": per_shard, "rate": rate, "format": suffix}
    record = make_folder(out) / "shards.json"
    before = _written_before(record, settings)
    problems: list[str] = []
    examples = read_examples(manifest, lambda error: problems.append(str(error)))
    known: dict[str, dict[str, Any]] = {}
    clips = 0
    with ThreadPoolExecutor() as pool, tqdm(desc="clips", unit="") as bar:
        while group := list(islice(examples, per_shard)):
            path = out / f"{len(known):05d}.tar"
            shard = before.get(path.name, {})
            rows = _digest(group)
            if shard.get("rows") != rows or not path.is_file() or path.stat().st_size != shard.get("bytes"):
                bad = _write_shard(path, pool, group, len(known) * per_shard, rate, suffix)
                shard = {"rows": rows, "bytes": path.stat().st_size, "left_out": bad}
            known[path.name] = shard
            atomic_write_text(record, json.dumps({**settings, "shards": {**before, **known}}) + "\n")
            clips += len(group) - len(shard["left_out"])
            bar.update(len(group))
    lines = [line for shard in known.values() for line in shard["left_out"]] + problems
    atomic_write_text(out / "left-out.txt", "".join(f"{line}\n" for line in lines))
    if not clips:
        why = f"; {out / 'left-out.txt'} says why" if lines else ": it names none"
        _remove(out, before | known)
        raise SourceError(f"{manifest}: no recording can be written{why}")
    _remove(out, before.keys() - known.keys())
    atomic_write_text(record, json.dumps({**settings, "shards": known}) + "\n")
    if others := sorted(path.name for path in out.glob("*.tar") if path.name not in known):
        raise OutputError(f"{out / others[0]}: not of these shards, and trained on with them: move it away")
    return len(known), len(lines)


def _remove(out: Path, names: Iterable[str]) -> None:
    for name in names:
        (out / name).unlink(missing_ok=True)


def _written_before(path: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what `path` knows of the shards beside it, by name."""
    if not path.exists():
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        shards: dict[str, dict[str, Any]] = before.pop("shards", {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); take another folder, or remove it") from error
    if before != settings:
        raise OutputError(f"{path.parent} holds shards made with other settings: {before}")
    if not isinstance(shards, dict) or not all(_SHARD_NAME.fullmatch(name) for name in shards):
        raise FormatError(f"{path}: lists other files than shards; take another folder, or remove it")
    return shards


def _digest(group: Iterable[Example]) -> str:
    """Return a hash over what a shard is made of: rows, and the content, or size and time, of what they name."""
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
    def encoded(example: Example) -> tuple[Example, bytes | AudioError, float]:
        try:
            waveform = load_recording(example, rate)
        except AudioError as error:
            return example, error, 0.0
        except (OSError, SourceError) as error:
            return example, AudioError(f"cannot be read ({getattr(error, 'strerror', None) or error})"), 0.0
        content = io.BytesIO()
        soundfile.write(content, waveform, rate, **FORMATS[suffix])
        return example, content.getvalue(), len(waveform) / rate

    bad: list[str] = []
    with open_shard(path) as tar:
        for at, (example, content, seconds) in enumerate(bounded_map(pool, encoded, group, ahead=32), start=first):
            if isinstance(content, AudioError):
                bad.append(f"{example.key}: {content}")
                continue
            known = {name: getattr(example, name) for name in METADATA_FIELDS if name not in ("text", "alternatives")}
            texts = [example.text, *example.alternatives]
            known |= {
                "text": texts if len(texts) > 1 else texts[0],
                "key": example.key,
                "duration_s": round(seconds, 3),
            }
            add_member(tar, f"{at:09d}.{suffix}", content)
            add_member(tar, f"{at:09d}.json", json.dumps(known, ensure_ascii=False).encode())
    return bad
