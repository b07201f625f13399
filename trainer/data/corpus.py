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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from tqdm import tqdm

from clara_search.audio.decode import AUDIO_SUFFIXES, load_audio
from clara_search.audio.waveform import Waveform
from clara_search.datasets.example import Example
from clara_search.datasets.readers import read_source
from clara_search.datasets.recordings import decode_recording, hash_recording, load_recording, read_recording
from clara_search.errors import AudioError, FormatError, SourceError
from clara_search.files.atomic import atomic_path, atomic_write_text, make_folder
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import is_url, stat_file, suffix_of
from clara_search.files.patterns import expand_pattern
from clara_search.files.shards import ByteRange
from clara_search.files.tables import MANIFEST_SUFFIXES

log = logging.getLogger(__name__)

_EXAMPLES, _SAMPLES, _PROBLEMS = "examples.jsonl", "samples.i16", "left-out.txt"

T = TypeVar("T")
U = TypeVar("U")


class Corpus:
    """The recordings listed in `folder`: `examples` (without their audio), and waveforms at `sample_rate` Hz.

    `places` are those that were listed: no other shard is opened, whatever the list says. Raises OSError or ValueError
    for a folder that is not whole.
    """

    def __init__(self, folder: Path, sample_rate: int, places: Collection[str]) -> None:
        self.folder, self.sample_rate = folder, sample_rate
        with (folder / _EXAMPLES).open(encoding="utf-8") as file:
            *rows, end = [json.loads(line) for line in file]
        decoded = folder / _SAMPLES
        self._offsets: list[int] = np.cumsum([0, *(row.pop("samples") for row in rows)]).tolist()
        if end != {"recordings": len(rows)}:
            raise ValueError("the list is cut short")
        if decoded.exists() and decoded.stat().st_size != 2 * self._offsets[-1]:
            raise ValueError("the waveforms are cut short")
        self.hashes: list[str] = [row.pop("content_hash") for row in rows]
        self.examples = [_example(row) for row in rows]
        if strange := {x.stored.path for x in self.examples if x.stored} - set(places):
            raise ValueError(f"the list names {min(strange)!r}, which was not asked for")
        self._decoded: npt.NDArray[np.int16] | None = np.memmap(decoded, np.int16, "r") if decoded.exists() else None

    def locked(self) -> FileLock:
        """Return the lock of the folder, for what is added to it."""
        return FileLock(self.folder / "lock")

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
        if example.stored is not None:
            return load_audio(example.stored.read(), self.sample_rate)
        return load_recording(example, self.sample_rate)


def load_corpus(patterns: Sequence[str], sample_rate: int, cache: Path, decode: bool = True) -> Corpus:
    """List everything that `patterns` name in a folder of `cache`, once, and decode it there where `decode` says so.

    What cannot be read is left out, and listed in the folder with the reason. The list is made anew when the patterns,
    the rate, or the name, size or time of any file that it depends on change, and where it is damaged. Raises
    SourceError where nothing can be read, or a URL cannot be reached.
    """
    places = _places(patterns)
    folder = make_folder(cache / _cache_key(places, sample_rate, decode))
    with FileLock(folder / "lock"):
        try:
            return Corpus(folder, sample_rate, places)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
            log.warning("%s is damaged (%s): made anew", folder, error)
        _list_into(folder, places, sample_rate, decode)
        return Corpus(folder, sample_rate, places)


def _places(patterns: Sequence[str]) -> list[str]:
    """Return what `patterns` name, in order, each once."""
    found: dict[str, str] = {}
    for place in (place for pattern in patterns for place in expand_pattern(pattern)):
        same = place if "://" in place else os.path.realpath(place)
        if same in found:
            log.warning("%s is named twice: taken once", place)
        found.setdefault(same, place)
    return list(found.values())


def _cache_key(places: Sequence[str], sample_rate: int, decode: bool) -> str:
    """Return a name for what the list of `places` depends on: size and time of them and of all files they name."""
    digest = hashlib.sha256(repr((sample_rate, decode, "4")).encode())
    for path in (path for place in places for path in (place, *_files_of(place))):
        state: tuple[int | str, ...] = ()
        if "://" not in path and not os.path.isdir(path):  # noqa: PTH112 - paths are strings, and thousands
            with suppress(OSError):  # one that is not there may come
                state = stat_file(path, trust_young=True)
        digest.update(repr((path, state)).encode())
    return digest.hexdigest()[:16]


def _files_of(place: str) -> Iterator[str]:
    """Yield the files that the list of a folder or a manifest depends on."""
    if "://" in place:
        return
    if os.path.isdir(place):  # noqa: PTH112
        for folder, folders, names in os.walk(place):
            folders.sort()
            stems = {stem for stem, suffix in map(os.path.splitext, names) if suffix.lower() in AUDIO_SUFFIXES}
            yield from (f"{folder}/{name}" for name in sorted(names) if os.path.splitext(name)[0] in stems)  # noqa: PTH122
    elif suffix_of(place) in MANIFEST_SUFFIXES:
        yield from (str(x.audio) for x in read_source(place, lambda _: None) if isinstance(x.audio, Path))


class _Read(NamedTuple):
    waveform: Waveform
    content_hash: str


def _list_into(folder: Path, places: Sequence[str], sample_rate: int, decode: bool) -> None:
    """Write the list of `places`, whole or not at all. Raises SourceError where there is nothing to list."""
    problems: list[str] = []
    count = 0

    def read_one(example: Example) -> tuple[Example, _Read | AudioError]:
        try:
            if not decode and isinstance(example.audio, bytes) and example.stored is None:
                raise AudioError("the manifest holds it itself: make shards of the manifest first")
            content = read_recording(example.audio)
            waveform = decode_recording(example, content, sample_rate)
            return example, _Read(waveform, hash_recording(example, content).hex())
        except (OSError, SourceError) as error:
            reason = getattr(error, "strerror", None) or error
            return example, AudioError(f"{example.audio!s}: cannot be read ({reason})")
        except AudioError as error:
            return example, error

    found = (x for place in places for x in read_source(place, lambda error: problems.append(str(error))))
    with (
        atomic_path(folder / _EXAMPLES) as listed,
        listed.open("w", encoding="utf-8") as rows,
        atomic_path(folder / _SAMPLES) if decode else nullcontext(Path(os.devnull)) as decoded,
        decoded.open("wb") as samples,
        ThreadPoolExecutor() as pool,
    ):
        for example, heard in tqdm(bounded_map(pool, read_one, found, ahead=64), desc="recordings", unit=""):
            if isinstance(heard, AudioError):
                problems.append(f"{example.key}: {heard}")
                continue
            if decode:
                samples.write((np.clip(heard.waveform, -1.0, 1.0) * 32767.0).astype(np.int16).tobytes())
            known = {**dataclasses.asdict(example), "samples": len(heard.waveform), "content_hash": heard.content_hash}
            audio = example.audio.absolute() if isinstance(example.audio, Path) else example.audio
            known["audio"] = None if isinstance(audio, bytes) else str(audio)
            rows.write(json.dumps(known, ensure_ascii=False) + "\n")
            count += 1
        atomic_write_text(folder / _PROBLEMS, "".join(f"{problem}\n" for problem in problems))
        if not count:
            why = f"{folder / _PROBLEMS} says why" if problems else f"{', '.join(places)}: there is none"
            raise SourceError(f"no recording can be read; {why}")
        rows.write(json.dumps({"recordings": count}) + "\n")
    if problems:
        log.warning("%d recordings or rests of files were left out: see %s", len(problems), folder / _PROBLEMS)


def _example(row: dict[str, Any]) -> Example:
    name = row.pop("audio")
    audio = b"" if name is None else admit(ForeignUri(name)) if is_url(name) else Path(name)
    stored = row.pop("stored")
    alternatives = tuple(row.pop("alternatives"))
    return Example(audio=audio, stored=ByteRange(*stored) if stored else None, alternatives=alternatives, **row)


def bounded_map(pool: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], ahead: int) -> Iterator[U]:
    """Yield `function` of each of `items`, in order, computed in `pool` at most `ahead` of what was taken."""
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
