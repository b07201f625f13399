"""What is indexed: one recording, a stretch of one, or one text, wherever it was listed and wherever its bytes lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode import load_audio
from clara_search.audio.resample import resample
from clara_search.errors import AudioError, FormatError, SourceError
from clara_search.files.paths import FileStat, NamedBytes, is_url, open_binary
from clara_search.files.redact import redact, without_credentials

ColumnType = Literal["bool", "int", "float", "text"]
"""What a further column of a manifest holds, from the narrowest to the widest."""


class Content(Protocol):
    """Where a recording's bytes are, when they are no file of their own."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self) -> bytes:
        """Return them."""


@dataclass(frozen=True)
class InMemoryBytes:
    """Bytes that were read already, from a stream that cannot go back."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    def read(self) -> bytes:
        """Return them."""
        return self.content


@dataclass(frozen=True)
class ByteRange:
    """A part of a file of this machine: `size` bytes from `offset`."""

    place: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return them."""
        with open_binary(self.place) as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(None, f"{self.place} ends within it")
        return content


@dataclass(frozen=True)
class InMemoryWaveform:
    """A waveform in memory, shape (samples,) or (samples, channels), at `sample_rate` Hz."""

    waveform: npt.NDArray[np.floating[Any]]
    sample_rate: int

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.waveform.nbytes)

    def read(self) -> bytes:
        """Return what its content hash is made of."""
        return f"{self.sample_rate} {self.waveform.dtype} {self.waveform.shape}".encode() + self.waveform.tobytes()

    def at(self, sample_rate: int) -> npt.NDArray[np.float32]:
        """Return the waveform as mono float32 at another rate. Raises AudioError for what is no sound."""
        waveform = np.asarray(self.waveform)
        if waveform.ndim not in (1, 2) or not waveform.size or waveform.dtype.kind != "f" or self.sample_rate < 1:
            raise AudioError(
                f"has shape {waveform.shape} of {waveform.dtype} at {self.sample_rate} Hz: expected floating point "
                "samples, (samples,) or (samples, channels)"
            )
        mono = waveform.astype(np.float32) if waveform.ndim == 1 else waveform.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise AudioError("holds samples that are not finite")
        return resample(mono, self.sample_rate, sample_rate)


@dataclass(frozen=True)
class Item:
    """One recording, one stretch of a recording, or one text, as a source lists it.

    `start_s` and `end_s` bound the stretch in seconds (None: the beginning, the end). `content` is where the bytes are
    if not at `uri`: then they are current for as long as the file `source` is. `stat` is that of the file, where the
    listing says it. `problem` says why the item cannot be used, where its listing already shows that; `hides_more` that
    it stands for a folder, or the rest of a shard, that could not be listed.

    `uri` and `source` are stored, shown and compared, and so carry no credentials; `url` is what is opened.
    """

    source: str
    kind: Literal["audio", "text"]
    uri: str
    line: int | None = None
    text: str | None = None
    language: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    hides_more: bool = False
    content: Content | InMemoryWaveform | None = field(default=None, compare=False, repr=False)
    stat: FileStat | None = field(default=None, compare=False, repr=False)
    url: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Keep the URL as it was given, and name the item without what gives access to it."""
        if not self.url:
            object.__setattr__(self, "url", self.uri)
        if is_url(self.uri) or is_url(self.source):  # nothing has to be taken from a path, and there are very many
            object.__setattr__(self, "uri", without_credentials(self.uri))
            object.__setattr__(self, "source", without_credentials(self.source))
        if self.problem is not None:
            object.__setattr__(self, "problem", redact(self.problem))

    @property
    def key(self) -> str:
        """What tells items apart: the uri, with the stretch where one is given."""
        return self.uri + self.stretch

    @property
    def stretch(self) -> str:
        """The stretch as a fragment of a URL, empty where all of the recording is meant."""
        if self.kind == "text" or (self.start_s is None and self.end_s is None):
            return ""
        return f"#t={self.start_s or 0:g},{'' if self.end_s is None else f'{self.end_s:g}'}"

    @cached_property
    def details(self) -> str:
        """Everything but the content that ends up in a row."""
        known = [self.text, self.language, self.start_s, self.end_s, self.columns]
        return json.dumps(known, sort_keys=True, default=str)

    @property
    def place(self) -> str:
        """The file whose time of modification tells whether the item may have changed."""
        return self.url if self.content is None else self.source


@dataclass(frozen=True)
class Survey:
    """What a first look at the sources finds: how many items (None: not before the end), and the further columns."""

    items: int | None
    columns: Mapping[str, ColumnType]


def suffix_of(place: str) -> str:
    """Return the suffix of a path or URL, in lower case, dot included."""
    return PurePosixPath(urlsplit(place).path if is_url(place) else place).suffix.lower()


def text_lines(place: str | Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, line ends included.

    Raises FormatError with the line that is not UTF-8, SourceError where the file cannot be read.
    """
    try:
        with open_binary(place) as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise FormatError(f"{place}, line {number}: not UTF-8 ({error.reason})") from error
    except OSError as error:
        raise SourceError(f"{place}: {error.strerror or error}") from error


def content_hash(content: bytes) -> str:
    """Return what tells two contents apart: sha256, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def waveform_of(item: Item, content: bytes, sample_rate: int) -> npt.NDArray[np.float32]:
    """Return the recording of `item`, whose bytes are `content`. Raises AudioError as `load_audio` does."""
    if isinstance(item.content, InMemoryWaveform):
        return item.content.at(sample_rate)
    return load_audio(NamedBytes(content, item.uri), sample_rate)
