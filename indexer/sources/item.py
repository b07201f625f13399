"""Items: recordings, segments of recordings and texts, as sources list them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode import AudioSource, stream_audio
from clara_search.audio.resample import resample
from clara_search.audio.segments import format_segment
from clara_search.datasets.manifests import Manifest
from clara_search.errors import AudioError
from clara_search.files.paths import FileStat, NamedBytes, is_url
from clara_search.files.redact import redact, without_credentials
from clara_search.files.shards import BytesSource
from indexer.sources.columns import CAPTIONS_COLUMN, ColumnType, widen


@dataclass(frozen=True)
class InMemoryBytes:
    """Bytes that were read from a stream, which cannot go back."""

    content: bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content)

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content


@dataclass(frozen=True)
class InMemoryWaveform:
    """A waveform in memory, shape (samples,) or (samples, channels), at `sample_rate` Hz."""

    waveform: npt.NDArray[np.floating[Any]]
    sample_rate: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return int(self.waveform.nbytes)

    def read(self) -> bytes:
        """Return the bytes that the content hash is made of."""
        return f"{self.sample_rate} {self.waveform.dtype} {self.waveform.shape}".encode() + self.waveform.tobytes()

    def resampled(self, sample_rate: int) -> npt.NDArray[np.float32]:
        """Return the waveform as mono float32 at `sample_rate` Hz. Raises AudioError if it is no sound."""
        waveform = np.asarray(self.waveform)
        if waveform.ndim not in (1, 2) or not waveform.size or waveform.dtype.kind != "f" or self.sample_rate < 1:
            raise AudioError(
                f"has shape {waveform.shape} of {waveform.dtype} at {self.sample_rate} Hz: expected floating point "
                "samples, (samples,) or (samples, channels)"
            )
        mono = waveform.astype(np.float32) if waveform.ndim == 1 else waveform.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise AudioError("has samples that are not finite")
        return resample(mono, self.sample_rate, sample_rate)


@dataclass(frozen=True)
class Item:
    """One recording, one segment of a recording, or one text, as a source lists it.

    `uri` and `source` are stored, shown and compared, and so carry no credentials; `url` is opened.

    Attributes:
        source: the path or URL that listed the item; empty for a recording in memory.
        kind: "audio" or "text".
        uri: name of the recording or text.
        line: line or row number in the source, from 1.
        text: the text, or the transcript or caption of a recording.
        language: code of the text's language.
        start_s: start of the segment in seconds (None: 0).
        end_s: end of the segment in seconds (None: the end of the recording).
        columns: values of further columns; `captions` are all texts of an item that has several.
        problem: why the item cannot be used, if its listing already shows that.
        hides_more: whether the item stands for a folder, or the rest of a shard, that could not be listed.
        content: the bytes, if they are not a file at `uri`; they are current as long as the file `source` is.
        stat: size and token of the file, if the listing has them.
        url: `uri` with credentials.
        track: number of the audio track, from 1, that was asked for; None: the default one.
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
    content: BytesSource | InMemoryWaveform | None = field(default=None, compare=False, repr=False)
    stat: FileStat | None = field(default=None, compare=False, repr=False)
    url: str = field(default="", compare=False, repr=False)
    track: int | None = None

    def __post_init__(self) -> None:
        """Keep the URL as given, and strip credentials from the names."""
        if not self.url:
            object.__setattr__(self, "url", self.uri)
        if is_url(self.uri) or is_url(self.source):  # paths have none, and there are very many
            object.__setattr__(self, "uri", without_credentials(self.uri))
            object.__setattr__(self, "source", without_credentials(self.source))
        if self.problem is not None:
            object.__setattr__(self, "problem", redact(self.problem))

    @property
    def key(self) -> str:
        """The key of the item in the ledger: the uri, followed by the segment if there is one."""
        return self.uri + self.segment

    @property
    def segment(self) -> str:
        """The segment as a fragment of a URL; empty for a whole recording or a text."""
        return "" if self.kind == "text" else format_segment(self.start_s, self.end_s)

    @property
    def captions(self) -> tuple[str, ...]:
        """The texts of an item with several, which each have a row of their own; empty for other items."""
        captions = self.columns.get(CAPTIONS_COLUMN)
        return tuple(captions) if isinstance(captions, list) else ()

    @property
    def lacks_text(self) -> bool:
        """Whether it is a recording without a transcript or caption."""
        return self.kind == "audio" and not (self.text or "").strip() and not self.captions

    @cached_property
    def details(self) -> str:
        """All that a row is made of except the content, as JSON."""
        plain = self.text, self.language, self.start_s, self.end_s
        if plain == (None, None, None, None) and not self.columns:
            return _details_of_a_recording(self.track)
        return _details([*plain, self.columns], self.track)

    @property
    def file(self) -> str:
        """The path or URL of the file that changes when the item does."""
        return self.url if self.content is None else self.source


def _details(details: list[Any], track: int | None) -> str:
    return _ENCODER.encode(details if track is None else [*details, track])


@cache
def _details_of_a_recording(track: int | None) -> str:
    """Return the details of a recording of which nothing else is known: there are very many."""
    return _details([None, None, None, None, {}], track)


_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Attributes:
        items: number of items; None: unknown before the end.
        columns: types of the further columns.
        manifests: the manifests among the sources by path or name, surveyed.
    """

    items: int | None
    columns: Mapping[str, ColumnType]
    manifests: Mapping[str, Manifest] = field(default_factory=dict)


def merge_surveys(surveys: Iterable[Survey]) -> Survey:
    """Return the survey of several sources together."""
    count: int | None = 0
    columns, manifests = dict[str, ColumnType](), dict[str, Manifest]()
    for survey in surveys:
        count = None if count is None or survey.items is None else count + survey.items
        manifests.update(survey.manifests)
        for name, kind in survey.columns.items():
            widen(columns, name, kind)
    return Survey(count, columns, manifests)


def in_memory_bytes(item: Item) -> int:
    """Return the number of bytes of a recording that its item holds in memory; 0 for one that is read later."""
    return item.content.size if isinstance(item.content, (InMemoryBytes, InMemoryWaveform)) else 0


def content_hash(content: bytes) -> str:
    """Return the sha256 of `content` as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


class DecodedItem(Protocol):
    """The waveform of a recording, in blocks of mono float32; see `clara_search.audio.decode.AudioStream`."""

    start: int
    """Where the first block starts in the recording, in samples; known once it was yielded."""

    @property
    def notes(self) -> list[str]:
        """What is out of the ordinary about it; complete at the end."""

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the blocks."""


@dataclass
class _InMemoryStream:
    """A waveform in memory as a stream of one block."""

    waveform: npt.NDArray[np.float32]
    start: int = 0
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        yield self.waveform


def decode_item(item: Item, content: bytes | Path, sample_rate: int) -> DecodedItem:
    """Return the recording of `item`, whose bytes or file are `content`, as a stream. Raises as `stream_audio` does."""
    if isinstance(item.content, InMemoryWaveform):
        return _InMemoryStream(item.content.resampled(sample_rate))
    source = NamedBytes(content, item.uri) if isinstance(content, bytes) else content
    return stream_audio(replace(AudioSource.of(source), name=item.uri), sample_rate, item.track)
