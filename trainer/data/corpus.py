"""The corpus of a run: metadata and waveforms of all recordings, by index.

The sources of a recipe are listed once, with a content hash of every recording. A small corpus is also decoded once, to
16 bits in one memory-mapped file; the recordings of a large one are decoded at each use.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from clara_search.datasets.manifests import DEFAULT_COLUMNS, ManifestColumns
from clara_search.datasets.readers import read_source
from clara_search.datasets.recordings import decode_recording, hash_recording, load_recording, read_recording
from clara_search.errors import AudioError, ClaraError, FormatError, SourceError
from clara_search.files.atomic import atomic_path, atomic_write_text, make_folder
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.json_reader import parse_object
from clara_search.files.paths import is_url, stat_file, suffix_of
from clara_search.files.patterns import expand_pattern
from clara_search.files.redact import redact, without_credentials
from clara_search.files.shards import ByteRange
from clara_search.files.tables import MANIFEST_SUFFIXES

log = logging.getLogger(__name__)

NO_URLS: Mapping[str, str] = {}

_EXAMPLES, _SAMPLES, _PROBLEMS = "examples.jsonl", "samples.i16", "left-out.txt"

T = TypeVar("T")
U = TypeVar("U")


class Corpus:
    """The recordings listed in a cache folder.

    Args:
        folder: of the list.
        sample_rate: of the waveforms, in Hz.
        sources: that were listed; no other shard is opened, whatever the list says.
        signed_urls: URLs with their signatures, which the list does not hold, by those without.

    Attributes:
        examples: metadata by index, without audio.
        hashes: SHA-256 of the encoded recordings, by index.

    Raises:
        OSError: the list cannot be read.
        ValueError: the list or the decoded waveforms are incomplete.
    """

    def __init__(
        self, folder: Path, sample_rate: int, sources: Collection[str], signed_urls: Mapping[str, str] = NO_URLS
    ) -> None:
        self.folder, self.sample_rate = folder, sample_rate
        with (folder / _EXAMPLES).open(encoding="utf-8") as file:
            *rows, last = [parse_object(line, _EXAMPLES) for line in file]
        decoded = folder / _SAMPLES
        self._offsets: list[int] = np.cumsum([0, *(row.pop("samples") for row in rows)]).tolist()
        if last != {"recordings": len(rows)}:
            raise ValueError("the list is cut short")
        if decoded.exists() and decoded.stat().st_size != 2 * self._offsets[-1]:
            raise ValueError("the waveforms are cut short")
        self.hashes: list[str] = [row.pop("content_hash") for row in rows]
        self.examples = [_example(row, signed_urls) for row in rows]
        if others := {x.stored.path for x in self.examples if x.stored} - set(sources):
            raise ValueError(f"the list names {min(others)!r}, which is not a source")
        self._decoded: npt.NDArray[np.int16] | None = np.memmap(decoded, np.int16, "r") if decoded.exists() else None

    def locked(self) -> FileLock:
        """Return the lock of the folder, for writing to it."""
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
        """Return recording `index` as float32, shape (samples,). Raises AudioError if it can no longer be read."""
        if self._decoded is not None:
            return self._decoded[self._offsets[index] : self._offsets[index + 1]].astype(np.float32) / 32768.0
        example = self.examples[index]
        try:
            if example.stored is not None:
                return load_audio(example.stored.read(), self.sample_rate)
            return load_recording(example, self.sample_rate)
        except (OSError, SourceError) as error:
            raise _unreadable(example, error) from error


def load_corpus(
    patterns: Sequence[str],
    sample_rate: int,
    cache: Path,
    cache_decoded: bool = True,
    columns: ManifestColumns = DEFAULT_COLUMNS,
) -> Corpus:
    """List the recordings of sources in the cache, or reuse the list that is there.

    Unreadable recordings are left out, and listed in the folder with the reason. The list is made again when the
    patterns, the rate, or the name, size or time of a file that it depends on change, and if it is damaged.

    Args:
        patterns: files, folders, globs, brace patterns, URLs.
        sample_rate: of the waveforms, in Hz.
        cache: folder of all lists.
        cache_decoded: whether waveforms are decoded once, to a file in the cache.
        columns: what the columns of manifests are, where that is not to be recognised.

    Raises:
        SourceError: nothing can be read, or a URL cannot be reached.
    """
    sources = _expand(patterns)
    folder = make_folder(cache / _cache_key(sources, sample_rate, cache_decoded, columns))
    with FileLock(folder / "lock"):
        signed_urls = {} if cache_decoded else _signed_urls(sources, columns)
        try:
            return Corpus(folder, sample_rate, sources, signed_urls)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
            log.warning("%s is damaged (%s) and is made again", folder, error)
        _write_list(folder, sources, sample_rate, cache_decoded, columns)
        return Corpus(folder, sample_rate, sources, signed_urls)


def _signed_urls(sources: Sequence[str], columns: ManifestColumns) -> dict[str, str]:
    """Return the URLs with credentials in manifests, by those without: credentials are not written to the cache."""
    urls = [
        url
        for source in sources
        if suffix_of(source) in MANIFEST_SUFFIXES
        for example in read_source(source, lambda _: None, columns)
        if is_url(url := str(example.audio))
    ]
    return {public: url for url in urls if (public := without_credentials(url)) != url}


def _expand(patterns: Sequence[str]) -> list[str]:
    """Return the distinct sources that `patterns` name, in order."""
    sources: dict[str, str] = {}
    for source in (source for pattern in patterns for source in expand_pattern(pattern)):
        identity = source if "://" in source else os.path.realpath(source)
        if identity in sources:
            log.warning("%s is named twice and read once", source)
        sources.setdefault(identity, source)
    return list(sources.values())


def _cache_key(sources: Sequence[str], sample_rate: int, decode: bool, columns: ManifestColumns) -> str:
    """Return a name that changes with the settings and with size or time of any file that the list depends on."""
    digest = hashlib.sha256(repr((sample_rate, decode, columns, "5")).encode())
    for path in (path for source in sources for path in (source, *_files_of(source, columns))):
        state: tuple[int | str, ...] = ()
        if "://" not in path and not os.path.isdir(path):  # noqa: PTH112 - paths are strings, and thousands
            with suppress(OSError):  # a missing file may appear later
                state = stat_file(path, trust_young=True)
        digest.update(repr((path, state)).encode())
    return digest.hexdigest()[:16]


def _files_of(source: str, columns: ManifestColumns) -> Iterator[str]:
    """Yield the files that the list of a folder or a manifest depends on."""
    if "://" in source:
        return
    if os.path.isdir(source):  # noqa: PTH112
        for folder, folders, names in os.walk(source):
            folders.sort()
            stems = {stem for stem, suffix in map(os.path.splitext, names) if suffix.lower() in AUDIO_SUFFIXES}
            yield from (f"{folder}/{name}" for name in sorted(names) if os.path.splitext(name)[0] in stems)  # noqa: PTH122
    elif suffix_of(source) in MANIFEST_SUFFIXES:
        yield from (str(x.audio) for x in read_source(source, lambda _: None, columns) if isinstance(x.audio, Path))


class _Decoded(NamedTuple):
    waveform: Waveform
    content_hash: str


def _write_list(folder: Path, sources: Sequence[str], sample_rate: int, decode: bool, columns: ManifestColumns) -> None:
    """Write the list of `sources`, whole or not at all. Raises SourceError if there is nothing to list."""
    problems: list[str] = []
    count = 0

    def read(example: Example) -> tuple[Example, _Decoded | AudioError]:
        try:
            if not decode and isinstance(example.audio, bytes) and example.stored is None:
                raise AudioError("its audio is inside the manifest: make shards of the manifest first")
            content = read_recording(example.audio)
            waveform = decode_recording(example, content, sample_rate, example.key)
            return example, _Decoded(waveform, hash_recording(example, content).hex())
        except (OSError, SourceError) as error:
            return example, _unreadable(example, error)
        except AudioError as error:
            return example, error

    def report(error: ClaraError) -> None:
        problems.append(str(error))

    examples = (x for source in sources for x in read_source(source, report, columns))
    with (
        atomic_path(folder / _EXAMPLES) as listed,
        listed.open("w", encoding="utf-8") as rows,
        atomic_path(folder / _SAMPLES) if decode else nullcontext(Path(os.devnull)) as samples_path,
        samples_path.open("wb") as samples,
        ThreadPoolExecutor() as pool,
    ):
        for example, decoded in tqdm(bounded_map(pool, read, examples, prefetch=64), desc="recordings", unit=""):
            if isinstance(decoded, AudioError):
                problems.append(f"{example.key}: {str(decoded).removeprefix(f'{example.key}: ')}")
                continue
            if decode:
                samples.write((np.clip(decoded.waveform, -1.0, 1.0) * 32767.0).astype(np.int16).tobytes())
            row = {**dataclasses.asdict(example), "samples": len(decoded.waveform)}
            row["content_hash"], row["key"] = decoded.content_hash, without_credentials(example.key)
            audio = example.audio.absolute() if isinstance(example.audio, Path) else example.audio
            row["audio"] = None if isinstance(audio, bytes) else without_credentials(str(audio))
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        atomic_write_text(folder / _PROBLEMS, "".join(f"{redact(problem)}\n" for problem in problems))
        if not count:
            reason = f"{folder / _PROBLEMS} says why" if problems else f"{', '.join(sources)}: none found"
            raise SourceError(f"no recording can be read; {reason}")
        rows.write(json.dumps({"recordings": count}) + "\n")
    if problems:
        log.warning(
            "%d recordings, or files from where they broke, were left out: see %s", len(problems), folder / _PROBLEMS
        )


def _unreadable(example: Example, error: Exception) -> AudioError:
    return AudioError(f"{example.audio!s}: cannot be read ({getattr(error, 'strerror', None) or error})")


def _example(row: dict[str, Any], signed_urls: Mapping[str, str]) -> Example:
    name = row.pop("audio")
    if name is None:
        audio: bytes | str | Path = b""
    else:
        audio = admit(ForeignUri(signed_urls.get(name, name))) if is_url(name) else Path(name)
    stored = row.pop("stored")
    alternatives = tuple(row.pop("alternatives"))
    return Example(audio=audio, stored=ByteRange(*stored) if stored else None, alternatives=alternatives, **row)


def bounded_map(pool: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], prefetch: int) -> Iterator[U]:
    """Yield `function(item)` in order, computed in `pool`; at most `prefetch` results are computed in advance."""
    pending: deque[Any] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= prefetch:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
