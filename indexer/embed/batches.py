"""Loaded items to embeddings: windows of like length go through the encoder together."""

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
from clara_search.store.table import TableInfo
from indexer.decode.read import LoadedItem
from indexer.ledger.ledger import segment_windows
from indexer.runtime.pools import Job, Workers
from indexer.runtime.timers import StageTimer
from indexer.sources.item import Item

_BATCH_WINDOWS = 512
_BATCH_AUDIO_S = (80, 640)
"""The first batch, and the largest: they grow for as long as one is encoded in less than `_QUICK_S`."""

_BATCH_TEXTS = 64
_BATCH_CHARACTERS = 100_000
_QUICK_S = 0.5
_BATCHES_HELD = 2
"""So many are gathered before one is made of what is alike in length among them."""

Content = TypeVar("Content", Waveform, str)


@dataclass
class EmbeddedItem:
    """An item with its windows (None for a text) and their `vectors`, shape (windows, dim), or why it has none."""

    loaded: LoadedItem
    windows: Sequence[Window | None] = ()
    vectors: Embeddings = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    reason: str | None = None
    waiting: int = 0

    @property
    def item(self) -> Item:
        """What was embedded."""
        return self.loaded.item

    def take(self, position: int, vector: npt.NDArray[np.float32]) -> bool:
        """Take the vector of a window; tell whether it was the last that was missing."""
        self.vectors[position] = vector
        self.waiting -= 1
        if self.waiting == 0 and not np.isfinite(self.vectors).all():
            self.reason = "the encoder gives it a vector that is not finite"
        return self.waiting == 0


def embed_items(
    loaded: Iterable[LoadedItem], encoder: Encoder, info: TableInfo, clock: StageTimer | None = None
) -> Iterator[EmbeddedItem]:
    """Yield each item of `loaded` once all of it went through `encoder`, not always in order.

    What needs no embedding, or failed before, comes through as it is. Where the encoder refuses a batch with a
    ClaraError, its parts are tried one by one, and only the items of the bad ones fail; where memory runs out, halves
    of it are tried, and later batches are as small. The encoder works in a thread of its own (in as many as its
    `max_concurrent_calls` says) while the next batch is gathered: it never waits for one.
    """
    calls = max_concurrent_calls(encoder)
    turns = EncodeQueue(calls, clock or StageTimer())
    first, longest = (audio_s * encoder.sample_rate for audio_s in _BATCH_AUDIO_S)
    clips = _Batcher[Waveform](encoder.encode_audio, _BATCH_WINDOWS, first, longest)
    texts: dict[str | None, _Batcher[str]] = {}
    try:
        for one in loaded:
            if one.state != "fresh":
                yield EmbeddedItem(one, reason=one.reason)
            elif one.vectors is not None:
                yield EmbeddedItem(one, one.windows, one.vectors)
            elif one.waveform is None:
                language = one.item.language
                if language not in texts:
                    texts[language] = _Batcher(_text_encoder(encoder, language), _BATCH_TEXTS, _BATCH_CHARACTERS)
                owner = _unembedded(one, [None], encoder.dim)
                turns.begin(texts[language].add(owner, 0, one.item.text or ""))
            else:
                for owner, position, window in _cut(one, one.waveform, encoder, info):
                    turns.begin(clips.add(owner, position, window))
                    yield from turns.finished(calls)
            yield from turns.finished(calls)
        batchers: list[_Batcher[Waveform] | _Batcher[str]] = [clips, *texts.values()]
        for batcher in batchers:
            for batch in batcher.rest():
                turns.begin(batch)
                yield from turns.finished(calls)
        yield from turns.finished(0)
    finally:
        turns.close()


def _cut(
    loaded: LoadedItem, waveform: Waveform, encoder: Encoder, info: TableInfo
) -> Iterator[tuple[EmbeddedItem, int, Waveform]]:
    """Yield the windows of a recording, each with its owner and the row of the owner's vectors that it is to fill."""
    rate = encoder.sample_rate
    spans = list(segment_windows(loaded.start_s, loaded.start_s + len(waveform) / rate, info))
    # From here on the windows hold what is needed of the waveform.
    owner = _unembedded(replace(loaded, waveform=None), spans, encoder.dim)
    for position, span in enumerate(spans):
        inside = Window(span.start_s - loaded.start_s, span.end_s - loaded.start_s)
        yield owner, position, crop(waveform, inside, rate)


_Encoded = list[tuple[EmbeddedItem, int, npt.NDArray[np.float32]]]
"""Vectors, each with its owner and the row of the owner's vectors that it is for."""

_Encoding = Callable[[], _Encoded]
"""A batch that is to go through the encoder."""


class EncodeQueue:
    """Batches that are encoded, so many at a time, and what they complete, in the order in which they were begun."""

    def __init__(self, calls: int, clock: StageTimer):
        self._worker = Workers(calls, clock, "encode")
        self._begun: deque[Job[_Encoded]] = deque()

    def begin(self, batch: _Encoding | None) -> None:
        """Have `batch`, where there is one, encoded after those before it."""
        if batch is not None:
            self._begun.append(Job(batch))
            self._worker.submit(self._begun[-1])

    def finished(self, most: int) -> Iterator[EmbeddedItem]:
        """Yield the items that are complete, until at most `most` batches are still to come. Raises what one raised."""
        while self._begun and (len(self._begun) > most or self._begun[0].is_finished.is_set()):
            job = self._begun.popleft()
            job.is_finished.wait()
            for owner, position, vector in job.result():
                if owner.take(position, vector):
                    yield owner

    def close(self) -> None:
        """Drop the batches that wait, and wait for the one in the encoder."""
        self._worker.close()
        for job in self._begun:
            if job.began is not None:
                job.is_finished.wait()


class _Batcher(Generic[Content]):
    """Gathers clips or texts of many items, and encodes them sorted by length."""

    def __init__(self, encode: Callable[[Sequence[Content]], Embeddings], most: int, length: int, longest: int = 0):
        self._encode: Callable[[Sequence[Content]], Embeddings] = encode
        self._most = most
        self._most_length = length
        self._longest = max(length, longest)
        self._held: list[tuple[Content, EmbeddedItem, int]] = []
        self._held_length = 0

    def add(self, owner: EmbeddedItem, position: int, content: Content) -> _Encoding | None:
        """Take `content`, whose vector goes to row `position` of `owner`; return what is to be encoded by now."""
        self._held.append((content, owner, position))
        self._held_length += len(content)
        is_full = (
            len(self._held) >= _BATCHES_HELD * self._most or self._held_length >= _BATCHES_HELD * self._most_length
        )
        return partial(self._encode_batch, self._take()) if is_full else None

    def rest(self) -> Iterator[_Encoding]:
        """Yield the batches of all that is held."""
        while self._held:
            yield partial(self._encode_batch, self._take())

    def _take(self) -> list[tuple[Content, EmbeddedItem, int]]:
        """Take out a batch: what came first, and what is next longer (or shorter, where too little is longer)."""
        lengths = [len(content) for content, _, _ in self._held]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        start = max(0, min(order.index(0), len(order) - self._most))
        end = start + 1
        # A batch costs its longest part times its parts.
        while (
            end < min(start + self._most, len(order)) and lengths[order[end]] * (end + 1 - start) <= self._most_length
        ):
            end += 1
        taken = set(order[start:end])
        batch = [self._held[index] for index in order[start:end]]
        self._held = [part for index, part in enumerate(self._held) if index not in taken]
        self._held_length -= sum(len(content) for content, _, _ in batch)
        return batch

    def _encode_batch(self, batch: Sequence[tuple[Content, EmbeddedItem, int]]) -> _Encoded:
        dim = batch[0][1].vectors.shape[1]
        encoded: _Encoded = []
        for part, vectors in encode_in_parts(self._encode_contents, batch, self._shrink):
            if isinstance(vectors, str):
                part[0][1].reason = vectors
                vectors = np.zeros((1, dim), np.float32)
            if np.shape(vectors) != (len(part), dim):
                expected = f"expected {(len(part), dim)}"
                raise FormatError(f"the encoder gives vectors of shape {np.shape(vectors)}, {expected}")
            encoded += [(owner, position, vector) for (_, owner, position), vector in zip(part, vectors, strict=True)]
        return encoded

    def _encode_contents(self, batch: Sequence[tuple[Content, EmbeddedItem, int]]) -> Embeddings:
        """Encode a batch; if that is quick, let the next ones be longer."""
        started = time.monotonic()
        vectors = self._encode([content for content, _, _ in batch])
        if time.monotonic() - started < _QUICK_S:
            self._most_length = min(2 * self._most_length, self._longest)
        return vectors

    def _shrink(self, size: int) -> None:
        """Let later batches be smaller than one of `size`, which did not fit into memory."""
        self._most = max(1, size // 2)
        self._longest = self._most_length


def _unembedded(loaded: LoadedItem, windows: Sequence[Window | None], dim: int) -> EmbeddedItem:
    return EmbeddedItem(loaded, windows, np.zeros((len(windows), dim), np.float32), waiting=len(windows))


def _text_encoder(encoder: Encoder, language: str | None) -> Callable[[Sequence[str]], Embeddings]:
    return lambda batch: encoder.encode_text(batch, language)
