"""Loaded items to embeddings: windows of like length go through the encoder together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from clara_search.audio import Waveform, Window, cut
from clara_search.encoder import Embeddings, Encoder
from clara_search.errors import ClaraError
from clara_search.store import TableInfo
from indexer.decoding import Loaded
from indexer.items import Item
from indexer.ledger import stretch_windows
from indexer.stages import Clock

_BATCH_WINDOWS = 32
_BATCH_AUDIO_S = 320
_BATCH_TEXTS = 64
_BATCH_CHARACTERS = 100_000
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_BATCHES_HELD = 2
"""So many are gathered before one is made of what is alike in length among them."""

Content = TypeVar("Content", Waveform, str)


@dataclass
class Embedded:
    """An item with its windows (None for a text) and their `vectors`, shape (windows, dim), or why it has none."""

    loaded: Loaded
    windows: Sequence[Window | None] = ()
    vectors: Embeddings = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    reason: str | None = None
    waiting: int = 0

    @property
    def item(self) -> Item:
        """What was embedded."""
        return self.loaded.item


def embed(
    loaded: Iterable[Loaded], encoder: Encoder, info: TableInfo, clock: Clock | None = None
) -> Iterator[Embedded]:
    """Yield each item of `loaded` once all of it went through `encoder`, not always in order.

    What needs no embedding, or failed before, comes through as it is. Where the encoder refuses a batch with a
    ClaraError, its parts are tried one by one, and only the items of the bad ones fail; where memory runs out, halves
    of it are tried, and later batches are as small.
    """
    rate, clock = encoder.sample_rate, clock or Clock()
    clips = _Batcher[Waveform](encoder.encode_audio, _BATCH_WINDOWS, _BATCH_AUDIO_S * rate, clock)
    texts: dict[str | None, _Batcher[str]] = {}
    for one in _waited_for(loaded, clock):
        if one.state != "fresh":
            yield Embedded(one, reason=one.reason)
        elif one.vectors is not None:
            yield Embedded(one, one.windows, one.vectors)
        elif one.waveform is None:
            language = one.item.language
            if language not in texts:
                encode = _text_encoder(encoder, language)
                texts[language] = _Batcher(encode, _BATCH_TEXTS, _BATCH_CHARACTERS, clock)
            yield from texts[language].add(_unembedded(one, [None], encoder.dim), 0, one.item.text or "")
        else:
            end_s = one.start_s + len(one.waveform) / rate
            spans = list(stretch_windows(one.start_s, end_s, info))
            # From here on the windows hold what is needed of the waveform.
            recording = _unembedded(replace(one, waveform=None), spans, encoder.dim)
            for position, span in enumerate(spans):
                inside = Window(span.start_s - one.start_s, span.end_s - one.start_s)
                yield from clips.add(recording, position, cut(one.waveform, inside, rate))
    yield from clips.flush()
    for batcher in texts.values():
        yield from batcher.flush()


def _waited_for(loaded: Iterable[Loaded], clock: Clock) -> Iterator[Loaded]:
    source = iter(loaded)
    while True:
        with clock.waiting():
            one = next(source, None)
        if one is None:
            return
        yield one


class _Batcher(Generic[Content]):
    """Gathers clips or texts of many items, and encodes them sorted by length."""

    def __init__(self, encode: Callable[[Sequence[Content]], Embeddings], most: int, most_length: int, clock: Clock):
        self._encode: Callable[[Sequence[Content]], Embeddings] = encode
        self._most = most
        self._most_length = most_length
        self._clock = clock
        self._held: list[tuple[Content, Embedded, int]] = []
        self._held_length = 0

    def add(self, owner: Embedded, position: int, content: Content) -> Iterator[Embedded]:
        """Take `content`, whose vector goes to row `position` of `owner`; yield the items that this completes."""
        self._held.append((content, owner, position))
        self._held_length += len(content)
        while len(self._held) >= _BATCHES_HELD * self._most or self._held_length >= _BATCHES_HELD * self._most_length:
            yield from self._encode_batch(self._take())

    def flush(self) -> Iterator[Embedded]:
        """Encode all that is held; yield the items that this completes."""
        while self._held:
            yield from self._encode_batch(self._take())

    def _take(self) -> list[tuple[Content, Embedded, int]]:
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

    def _encode_batch(self, batch: list[tuple[Content, Embedded, int]]) -> Iterator[Embedded]:
        try:
            with self._clock.working():
                vectors = self._encode([content for content, _, _ in batch])
        except Exception as error:
            is_memory = is_out_of_memory(error)
            if not is_memory and not isinstance(error, ClaraError):
                raise
            if len(batch) > 1:
                if is_memory:
                    self._most = max(1, len(batch) // 2)
                yield from self._encode_parts(batch, len(batch) // 2 if is_memory else 1)
                return
            batch[0][1].reason = "does not fit into memory" if is_memory else str(error)
            vectors = np.zeros((1, batch[0][1].vectors.shape[1]), np.float32)
        for (_, owner, position), vector in zip(batch, vectors, strict=True):
            owner.vectors[position] = vector
            owner.waiting -= 1
            if owner.waiting == 0:
                if not np.isfinite(owner.vectors).all():
                    owner.reason = "the encoder gives it a vector that is not finite"
                yield owner

    def _encode_parts(self, batch: list[tuple[Content, Embedded, int]], size: int) -> Iterator[Embedded]:
        for start in range(0, len(batch), size):
            yield from self._encode_batch(batch[start : start + size])


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether `error` says that memory ran out, of this machine or of an accelerator."""
    says_so = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError) or says_so


def _unembedded(loaded: Loaded, windows: Sequence[Window | None], dim: int) -> Embedded:
    return Embedded(loaded, windows, np.zeros((len(windows), dim), np.float32), waiting=len(windows))


def _text_encoder(encoder: Encoder, language: str | None) -> Callable[[Sequence[str]], Embeddings]:
    return lambda batch: encoder.encode_text(batch, language)
