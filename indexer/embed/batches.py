"""Loaded items to embeddings: windows of similar length are encoded together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window
from clara_search.errors import FormatError
from clara_search.models.base import Embeddings, Encoder, max_concurrent_calls
from clara_search.models.batching import encode_in_parts
from indexer.decode.read import Loaded, LoadedItem, LoadedWindow
from indexer.runtime.pools import Job, WorkerThreads
from indexer.runtime.timers import StageTimer
from indexer.sources.item import Item

_BATCH_WINDOWS = 512
_BATCH_AUDIO_S = (80, 640)
"""Size of the first batch and of the largest: batches grow as long as one is encoded in less than `_QUICK_S`."""

_BATCH_TEXTS = 64
_BATCH_CHARACTERS = 100_000
_QUICK_S = 0.5
_GATHERED_BATCHES = 2
"""Inputs for this many batches are gathered, and a batch of similar lengths is taken from them."""

EncoderInput = TypeVar("EncoderInput", Waveform, str)


@dataclass
class EmbeddedItem:
    """An item with its vectors, or the reason why it has none.

    Attributes:
        loaded: the item as it was loaded.
        windows: its windows, then None for each caption; None for a text.
        vectors: shape (windows, dim).
        reason: why it failed.
    """

    loaded: LoadedItem
    windows: Sequence[Window | None] = ()
    vectors: Embeddings = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    reason: str | None = None

    @property
    def item(self) -> Item:
        """The item that was embedded."""
        return self.loaded.item


@dataclass
class _Owner:
    """An item whose windows, or whose text, are being encoded.

    Attributes:
        vectors: the vectors so far; None for those that are not there yet.
        loaded: the item, once all of its windows are known.
        reason: why it failed.
        num_missing: number of vectors that are not there yet.
    """

    vectors: list[npt.NDArray[np.float32] | None] = field(default_factory=list)
    loaded: LoadedItem | None = None
    reason: str | None = None
    num_missing: int = 0

    def add(self) -> int:
        """Count one more window; return its index."""
        self.vectors.append(None)
        self.num_missing += 1
        return len(self.vectors) - 1

    def set_vector(self, index: int, vector: npt.NDArray[np.float32]) -> EmbeddedItem | None:
        """Set the vector of a window; return the item if that was the last one."""
        self.vectors[index] = vector
        self.num_missing -= 1
        return self.embedded()

    def embedded(self) -> EmbeddedItem | None:
        """Return the item once all of its vectors are there."""
        if self.loaded is None or self.num_missing:
            return None
        windows = (*self.loaded.windows, *(None for _ in self.vectors[len(self.loaded.windows) :]))
        vectors = np.stack([vector for vector in self.vectors if vector is not None])
        reason = self.reason
        if reason is None and not np.isfinite(vectors).all():
            reason = "the encoder returned a vector that is not finite"
        return EmbeddedItem(self.loaded, windows, vectors, reason)


def embed_items(loaded: Iterable[Loaded], encoder: Encoder, timer: StageTimer | None = None) -> Iterator[EmbeddedItem]:
    """Yield each item once all of its windows are encoded, not always in order.

    Items that are not fresh pass through. If the encoder refuses a batch with a ClaraError, its parts are tried one by
    one and only the bad items fail; if memory runs out, halves are tried and later batches are smaller. The encoder
    runs in threads of its own (`max_concurrent_calls` of them) while the next batch is gathered.

    Args:
        loaded: items with texts or vectors, and windows of recordings before their item.
        encoder: the encoder of the table.
        timer: counts the encoder's time.
    """
    calls = max_concurrent_calls(encoder)
    queue = EncodeQueue(calls, timer or StageTimer())
    first, longest = (audio_s * encoder.sample_rate for audio_s in _BATCH_AUDIO_S)
    clips = _Batcher[Waveform](encoder.encode_audio, encoder.dim, _BATCH_WINDOWS, first, longest)
    texts = _TextBatchers(encoder)
    owners: dict[str, _Owner] = {}
    try:
        for item in loaded:
            if isinstance(item, LoadedWindow):
                owner = owners.setdefault(item.item.key, _Owner())
                queue.submit(clips.add(owner, owner.add(), item.waveform))
            elif item.state != "fresh":
                owners.pop(item.item.key, None)  # a recording that failed after its first windows
                yield EmbeddedItem(item, reason=item.reason)
            elif item.vectors is not None and not _lacks_captions(item):
                yield EmbeddedItem(item, item.windows, item.vectors)
            else:
                present = list(() if item.vectors is None else item.vectors)
                owner = owners.pop(item.item.key) if item.item.key in owners else _Owner(present)
                owner.loaded = item
                for text in _texts(item.item):
                    queue.submit(texts.of(item.item.language).add(owner, owner.add(), text))
                if (embedded := owner.embedded()) is not None:
                    yield embedded
            yield from queue.completed(calls)
        batchers: list[_Batcher[Waveform] | _Batcher[str]] = [clips, *texts]
        for batcher in batchers:
            for batch in batcher.flush():
                queue.submit(batch)
                yield from queue.completed(calls)
        yield from queue.completed(0)
    finally:
        queue.close()


def _lacks_captions(loaded: LoadedItem) -> bool:
    """Tell whether vectors are there for the windows of a recording, but not for its captions."""
    return bool(loaded.item.captions) and None not in loaded.windows


def _texts(item: Item) -> tuple[str, ...]:
    """Return the texts of an item that have rows of their own."""
    return item.captions or ((item.text or "",) if item.kind == "text" else ())


_Encoded = list[tuple[_Owner, int, npt.NDArray[np.float32]]]
"""Vectors, each with its owner and its index there."""

_Batch = Callable[[], _Encoded]
"""A batch, to be encoded by calling it."""


class EncodeQueue:
    """Encodes batches in threads, and yields the completed items in the order of submission."""

    def __init__(self, calls: int, timer: StageTimer):
        self._workers = WorkerThreads(calls, timer, "encode")
        self._jobs: deque[Job[_Encoded]] = deque()

    def submit(self, batch: _Batch | None) -> None:
        """Queue a batch; None is ignored."""
        if batch is not None:
            self._jobs.append(Job(batch))
            self._workers.submit(self._jobs[-1])

    def completed(self, max_pending: int) -> Iterator[EmbeddedItem]:
        """Yield completed items until at most `max_pending` batches are pending. Raises the errors of the encoder."""
        while self._jobs and (len(self._jobs) > max_pending or self._jobs[0].is_finished.is_set()):
            job = self._jobs.popleft()
            job.is_finished.wait()
            for owner, index, vector in job.result():
                if (embedded := owner.set_vector(index, vector)) is not None:
                    yield embedded

    def close(self) -> None:
        """Drop the queued batches, and wait for those in the encoder."""
        self._workers.close()
        for job in self._jobs:
            if job.started_at is not None:
                job.is_finished.wait()


class _Batcher(Generic[EncoderInput]):
    """Gathers clips or texts of many items, and makes batches of similar length."""

    def __init__(
        self,
        encode: Callable[[Sequence[EncoderInput]], Embeddings],
        dim: int,
        max_size: int,
        length: int,
        longest: int = 0,
    ):
        self._dim = dim
        self._encode: Callable[[Sequence[EncoderInput]], Embeddings] = encode
        self._max_size = max_size
        self._max_length = length
        self._longest = max(length, longest)
        self._gathered: list[tuple[EncoderInput, _Owner, int]] = []
        self._gathered_length = 0

    def add(self, owner: _Owner, index: int, content: EncoderInput) -> _Batch | None:
        """Add a clip or text, whose vector is number `index` of `owner`; return a batch if there is enough for one."""
        self._gathered.append((content, owner, index))
        self._gathered_length += len(content)
        is_full = (
            len(self._gathered) >= _GATHERED_BATCHES * self._max_size
            or self._gathered_length >= _GATHERED_BATCHES * self._max_length
        )
        return partial(self._encode_batch, self._take()) if is_full else None

    def flush(self) -> Iterator[_Batch]:
        """Yield the last batches."""
        while self._gathered:
            yield partial(self._encode_batch, self._take())

    def _take(self) -> list[tuple[EncoderInput, _Owner, int]]:
        """Take out a batch: the first input and those next longer (or shorter, if too few are longer)."""
        lengths = [len(content) for content, _, _ in self._gathered]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        start = max(0, min(order.index(0), len(order) - self._max_size))
        end = start + 1
        # A batch costs the length of its longest input times their number.
        while (
            end < min(start + self._max_size, len(order))
            and lengths[order[end]] * (end + 1 - start) <= self._max_length
        ):
            end += 1
        chosen = set(order[start:end])
        batch = [self._gathered[index] for index in order[start:end]]
        self._gathered = [part for index, part in enumerate(self._gathered) if index not in chosen]
        self._gathered_length -= sum(len(content) for content, _, _ in batch)
        return batch

    def _encode_batch(self, batch: Sequence[tuple[EncoderInput, _Owner, int]]) -> _Encoded:
        dim = self._dim
        encoded: _Encoded = []
        for part, vectors in encode_in_parts(self._encode_contents, batch, self._shrink):
            if isinstance(vectors, str):
                part[0][1].reason = vectors
                vectors = np.zeros((1, dim), np.float32)
            if np.shape(vectors) != (len(part), dim):
                expected = f"expected {(len(part), dim)}"
                raise FormatError(f"the encoder returned vectors of shape {np.shape(vectors)}, {expected}")
            encoded += [(owner, index, vector) for (_, owner, index), vector in zip(part, vectors, strict=True)]
        return encoded

    def _encode_contents(self, batch: Sequence[tuple[EncoderInput, _Owner, int]]) -> Embeddings:
        """Encode a batch; if that is quick, let the next ones be longer."""
        started = time.monotonic()
        vectors = self._encode([content for content, _, _ in batch])
        if time.monotonic() - started < _QUICK_S:
            self._max_length = min(2 * self._max_length, self._longest)
        return vectors

    def _shrink(self, size: int) -> None:
        """Let later batches be smaller than one of `size`, which did not fit into memory."""
        self._max_size = max(1, size // 2)
        self._longest = self._max_length


class _TextBatchers:
    """The batchers of texts, one a language."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._batchers: dict[str | None, _Batcher[str]] = {}

    def __iter__(self) -> Iterator[_Batcher[str]]:
        return iter(self._batchers.values())

    def of(self, language: str | None) -> _Batcher[str]:
        """Return the batcher of a language."""
        if language not in self._batchers:
            encode = _text_encoder(self._encoder, language)
            self._batchers[language] = _Batcher(encode, self._encoder.dim, _BATCH_TEXTS, _BATCH_CHARACTERS)
        return self._batchers[language]


def _text_encoder(encoder: Encoder, language: str | None) -> Callable[[Sequence[str]], Embeddings]:
    return lambda batch: encoder.encode_text(batch, language)
