"""Loaded items to embeddings: windows of similar length are encoded together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window, crop
from clara_search.errors import FormatError
from clara_search.models.base import Embeddings, Encoder, max_concurrent_calls
from clara_search.models.batching import encode_in_parts
from clara_search.store.schema import TableInfo
from indexer.decode.read import LoadedItem
from indexer.ledger.ledger import segment_windows
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
        windows: its windows (None for a text).
        vectors: shape (windows, dim).
        reason: why it failed.
        num_missing: number of vectors that are not there yet.
    """

    loaded: LoadedItem
    windows: Sequence[Window | None] = ()
    vectors: Embeddings = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    reason: str | None = None
    num_missing: int = 0

    @property
    def item(self) -> Item:
        """The item that was embedded."""
        return self.loaded.item

    def set_vector(self, index: int, vector: npt.NDArray[np.float32]) -> bool:
        """Set the vector of a window; return whether all vectors are there."""
        self.vectors[index] = vector
        self.num_missing -= 1
        if self.num_missing == 0 and not np.isfinite(self.vectors).all():
            self.reason = "the encoder returned a vector that is not finite"
        return self.num_missing == 0


def embed_items(
    loaded: Iterable[LoadedItem], encoder: Encoder, info: TableInfo, timer: StageTimer | None = None
) -> Iterator[EmbeddedItem]:
    """Yield each item once all of its windows are encoded, not always in order.

    Items that are not fresh pass through. If the encoder refuses a batch with a ClaraError, its parts are tried one by
    one and only the bad items fail; if memory runs out, halves are tried and later batches are smaller. The encoder
    runs in threads of its own (`max_concurrent_calls` of them) while the next batch is gathered.

    Args:
        loaded: items with waveforms, texts or vectors.
        encoder: the encoder of the table.
        info: window and hop of the table.
        timer: counts the encoder's time.
    """
    calls = max_concurrent_calls(encoder)
    queue = EncodeQueue(calls, timer or StageTimer())
    first, longest = (audio_s * encoder.sample_rate for audio_s in _BATCH_AUDIO_S)
    clips = _Batcher[Waveform](encoder.encode_audio, _BATCH_WINDOWS, first, longest)
    texts: dict[str | None, _Batcher[str]] = {}
    try:
        for item in loaded:
            if item.state != "fresh":
                yield EmbeddedItem(item, reason=item.reason)
            elif item.vectors is not None:
                yield EmbeddedItem(item, item.windows, item.vectors)
            elif item.waveform is None:
                language = item.item.language
                if language not in texts:
                    texts[language] = _Batcher(_text_encoder(encoder, language), _BATCH_TEXTS, _BATCH_CHARACTERS)
                owner = _unembedded(item, [None], encoder.dim)
                queue.submit(texts[language].add(owner, 0, item.item.text or ""))
            else:
                for owner, index, window in _cut_windows(item, item.waveform, encoder, info):
                    queue.submit(clips.add(owner, index, window))
                    yield from queue.completed(calls)
            yield from queue.completed(calls)
        batchers: list[_Batcher[Waveform] | _Batcher[str]] = [clips, *texts.values()]
        for batcher in batchers:
            for batch in batcher.flush():
                queue.submit(batch)
                yield from queue.completed(calls)
        yield from queue.completed(0)
    finally:
        queue.close()


def _cut_windows(
    loaded: LoadedItem, waveform: Waveform, encoder: Encoder, info: TableInfo
) -> Iterator[tuple[EmbeddedItem, int, Waveform]]:
    """Yield the windows of a recording, each with its owner and its index there."""
    rate = encoder.sample_rate
    spans = list(segment_windows(loaded.start_s, loaded.start_s + len(waveform) / rate, info))
    # The windows keep the waveform alive as long as it is needed.
    owner = _unembedded(replace(loaded, waveform=None), spans, encoder.dim)
    for index, span in enumerate(spans):
        inside = Window(span.start_s - loaded.start_s, span.end_s - loaded.start_s)
        yield owner, index, crop(waveform, inside, rate)


_Encoded = list[tuple[EmbeddedItem, int, npt.NDArray[np.float32]]]
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
                if owner.set_vector(index, vector):
                    yield owner

    def close(self) -> None:
        """Drop the queued batches, and wait for those in the encoder."""
        self._workers.close()
        for job in self._jobs:
            if job.started_at is not None:
                job.is_finished.wait()


class _Batcher(Generic[EncoderInput]):
    """Gathers clips or texts of many items, and makes batches of similar length."""

    def __init__(
        self, encode: Callable[[Sequence[EncoderInput]], Embeddings], max_size: int, length: int, longest: int = 0
    ):
        self._encode: Callable[[Sequence[EncoderInput]], Embeddings] = encode
        self._max_size = max_size
        self._max_length = length
        self._longest = max(length, longest)
        self._gathered: list[tuple[EncoderInput, EmbeddedItem, int]] = []
        self._gathered_length = 0

    def add(self, owner: EmbeddedItem, index: int, content: EncoderInput) -> _Batch | None:
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

    def _take(self) -> list[tuple[EncoderInput, EmbeddedItem, int]]:
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

    def _encode_batch(self, batch: Sequence[tuple[EncoderInput, EmbeddedItem, int]]) -> _Encoded:
        dim = batch[0][1].vectors.shape[1]
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

    def _encode_contents(self, batch: Sequence[tuple[EncoderInput, EmbeddedItem, int]]) -> Embeddings:
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


def _unembedded(loaded: LoadedItem, windows: Sequence[Window | None], dim: int) -> EmbeddedItem:
    return EmbeddedItem(loaded, windows, np.zeros((len(windows), dim), np.float32), num_missing=len(windows))


def _text_encoder(encoder: Encoder, language: str | None) -> Callable[[Sequence[str]], Embeddings]:
    return lambda batch: encoder.encode_text(batch, language)
