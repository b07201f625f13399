"""All recordings of a run, by number: what is known of each, and its waveform.

What the places of a recipe hold is listed once, with a content hash for every recording. A small corpus is decoded once
too, to 16 bits in one memory-mapped file; of a large one each recording is decoded whenever it is wanted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from clara_search.audio import Waveform, load_audio
from clara_search.datasets.readers import matching, read, stored_bytes
from clara_search.datasets.spec import Example, Stored
from clara_search.errors import AudioError, FormatError

log = logging.getLogger(__name__)

_EXAMPLES, _SAMPLES, _PROBLEMS = "examples.jsonl", "samples.i16", "left-out.txt"

T = TypeVar("T")
U = TypeVar("U")


class Corpus:
    """The recordings listed in `folder`: `examples` (without their audio), and waveforms at `sample_rate` Hz."""

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self.folder, self.sample_rate = folder, sample_rate
        with (folder / _EXAMPLES).open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        if not rows:
            raise FormatError(f"no recording can be read; {folder / _PROBLEMS} says why")
        self._offsets: list[int] = np.cumsum([0, *(row.pop("samples") for row in rows)]).tolist()
        self.hashes: list[str] = [row.pop("content_hash") for row in rows]
        self.examples = [_example(row) for row in rows]
        decoded = folder / _SAMPLES
        self._decoded: npt.NDArray[np.int16] | None = np.memmap(decoded, np.int16, "r") if decoded.exists() else None

    def __len__(self) -> int:
        return len(self.examples)

    def samples(self, index: int) -> int:
        """Return the length of recording `index` in samples."""
        return self._offsets[index + 1] - self._offsets[index]

    def duration_s(self, index: int) -> float:
        """Return the length of recording `index` in seconds."""
        return self.samples(index) / self.sample_rate

    def waveform(self, index: int) -> Waveform:
        """Return recording `index` as float32, shape (samples,)."""
        if self._decoded is not None:
            return self._decoded[self._offsets[index] : self._offsets[index + 1]].astype(np.float32) / 32768.0
        example = self.examples[index]
        return load_audio(stored_bytes(example.stored) if example.stored else example.audio, self.sample_rate)


def load_corpus(patterns: Sequence[str], sample_rate: int, cache: Path, decode: bool = True) -> Corpus:
    """List everything that `patterns` name in a folder of `cache`, once, and decode it there where `decode` says so.

    What cannot be read is left out, and listed in the folder with the reason. The list is made anew when the patterns,
    the rate, or a file's name, size or time change.
    """
    folder = cache / _cache_key(patterns, sample_rate, decode)
    if not (folder / _EXAMPLES).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _list_into(folder, patterns, sample_rate, decode)
    return Corpus(folder, sample_rate)


def _cache_key(patterns: Sequence[str], sample_rate: int, decode: bool) -> str:
    def state(place: str) -> tuple[object, ...]:
        if "://" in place:
            return (place,)
        status = os.stat(place)  # noqa: PTH116 - a place is a string
        return place, status.st_size, status.st_mtime_ns

    places = [state(place) for pattern in patterns for place in matching(pattern)]
    return hashlib.sha256(repr((places, sample_rate, decode, "2")).encode()).hexdigest()[:16]


class _Read(NamedTuple):
    waveform: Waveform
    content_hash: str


def _list_into(folder: Path, patterns: Sequence[str], sample_rate: int, decode: bool) -> None:
    problems: list[str] = []

    def read_one(example: Example) -> tuple[Example, _Read | AudioError]:
        try:
            content = example.audio if isinstance(example.audio, bytes) else example.audio.read_bytes()
            return example, _Read(load_audio(content, sample_rate), hashlib.sha256(content).hexdigest())
        except OSError as error:
            return example, AudioError(f"{example.audio!s}: cannot be read ({error.strerror})")
        except AudioError as error:
            return example, error

    found = (x for pattern in patterns for x in read(pattern, lambda error: problems.append(str(error))))
    partial = folder / "examples.partial"
    with (
        (folder / "samples.partial").open("wb") as samples,
        partial.open("w", encoding="utf-8") as rows,
        ThreadPoolExecutor() as pool,
    ):
        for example, heard in tqdm(bounded_map(pool, read_one, found, ahead=64), desc="recordings", unit=""):
            if isinstance(heard, AudioError):
                problems.append(f"{example.key}: {heard}")
                continue
            if decode:
                samples.write((np.clip(heard.waveform, -1.0, 1.0) * 32767.0).astype(np.int16).tobytes())
            known = {**dataclasses.asdict(example), "samples": len(heard.waveform), "content_hash": heard.content_hash}
            known["audio"] = None if isinstance(example.audio, bytes) else str(example.audio.absolute())
            rows.write(json.dumps(known, ensure_ascii=False) + "\n")
    (folder / _PROBLEMS).write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8")
    if problems:
        log.warning("%d recordings were left out: see %s", len(problems), folder / _PROBLEMS)
    if decode:
        (folder / "samples.partial").replace(folder / _SAMPLES)
    else:
        (folder / "samples.partial").unlink()
    partial.replace(folder / _EXAMPLES)


def _example(row: dict[str, Any]) -> Example:
    audio = Path(row.pop("audio")) if row.get("audio") else b""
    row.pop("audio", None)
    stored = row.pop("stored")
    alternatives = tuple(row.pop("alternatives"))
    return Example(audio=audio, stored=Stored(*stored) if stored else None, alternatives=alternatives, **row)


def bounded_map(pool: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], ahead: int) -> Iterator[U]:
    """Yield `function` of each of `items`, in order, computed in `pool` at most `ahead` of what was taken."""
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
