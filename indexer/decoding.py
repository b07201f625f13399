"""Recordings to waveforms in threads, ahead of the encoder, as far as memory allows."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from clara_search.audio import Waveform, Window, cut, load_audio
from clara_search.errors import ClaraError
from indexer.items import Item
from indexer.ledger import Ledger, stamp_of

_MOST_FILES_AHEAD = 64
_MOST_BYTES_AHEAD = 64 * 2**20
"""Of files as they lie on disk: an opus file becomes some fifty times as much."""


State = Literal["fresh", "touched", "unchanged", "failed"]
"""To be embedded; done before with the same content, but the file was touched; done before; of no use."""


@dataclass(frozen=True)
class Loaded:
    """An item that was looked at. `content_hash` is None where it was not read, or could not be.

    `waveform`, shape (samples,), begins `start_s` into the recording; only a fresh recording has one. `reason` says why
    it failed.
    """

    item: Item
    state: State
    content_hash: str | None = None
    stamp: str = ""
    waveform: Waveform | None = None
    start_s: float = 0.0
    reason: str | None = None


def load(items: Iterable[Item], ledger: Ledger, sample_rate: int) -> Generator[Loaded, None, None]:
    """Yield `items` in order, loaded; recordings are decoded in threads ahead of the one that is asked for.

    Consecutive items of one recording decode it once. What the ledger holds unchanged is not decoded, and not even read
    where its size and time of modification are the same.
    """
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="decode")
    ahead: deque[tuple[int, list[Loaded] | Future[list[Loaded]]]] = deque()
    bytes_ahead = 0
    try:
        for settled, status, wanted in _jobs(items, ledger):
            if settled:
                ahead.append((0, settled))
            if wanted and status is not None:
                ahead.append((status.st_size, pool.submit(_read, wanted, status, ledger, sample_rate)))
                bytes_ahead += status.st_size
            while len(ahead) > _MOST_FILES_AHEAD or bytes_ahead > _MOST_BYTES_AHEAD:
                size, job = ahead.popleft()
                bytes_ahead -= size
                yield from _result(job)
        while ahead:
            yield from _result(ahead.popleft()[1])
    finally:
        pool.shutdown(cancel_futures=True)


def _result(job: list[Loaded] | Future[list[Loaded]]) -> list[Loaded]:
    return job if isinstance(job, list) else job.result()


def _jobs(items: Iterable[Item], ledger: Ledger) -> Iterator[tuple[list[Loaded], os.stat_result | None, list[Item]]]:
    """Yield, for each run of items with one uri, what is settled already, and what has to be read from the file."""
    for uri, run in groupby(items, key=lambda item: item.uri):
        settled, wanted = list[Loaded](), list[Item]()
        status: os.stat_result | None = None
        for item in run:
            if item.problem is not None:
                settled.append(Loaded(item, "failed", reason=item.problem))
            elif item.kind == "text":
                settled.append(_text(item, ledger))
            else:
                try:
                    status = status or Path(uri).stat()
                except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                    settled.append(Loaded(item, "failed", reason=_reason(error, uri)))
                    continue
                if not stat.S_ISREG(status.st_mode):
                    settled.append(Loaded(item, "failed", reason="is no file, but a pipe, a device or a folder"))
                    continue
                if ledger.is_untouched(item, stamp_of(item, status)):
                    settled.append(Loaded(item, "unchanged"))
                else:
                    wanted.append(item)
        yield settled, status, wanted


def _text(item: Item, ledger: Ledger) -> Loaded:
    content_hash = hashlib.sha256((item.text or "").encode()).hexdigest()
    return Loaded(item, "unchanged") if ledger.is_done(item, content_hash) else Loaded(item, "fresh", content_hash)


def _read(items: list[Item], status: os.stat_result, ledger: Ledger, sample_rate: int) -> list[Loaded]:
    """Return `items`, all of one file, loaded from it."""
    content_hash, waveform, reason = None, None, None
    try:
        content = _NamedBytes(items[0].uri)
        content_hash = hashlib.sha256(content.getbuffer()).hexdigest()
        if not all(ledger.is_done(item, content_hash) for item in items):
            waveform = load_audio(content, sample_rate)
    except Exception as error:  # a decoder may fail in any way, and that costs its own file only
        reason = _reason(error, items[0].uri)
    found = []
    for item in items:
        stamp = stamp_of(item, status)
        if reason is not None:
            found.append(Loaded(item, "failed", content_hash, reason=reason))
        elif content_hash is not None and ledger.is_done(item, content_hash):
            found.append(Loaded(item, "touched", content_hash, stamp))
        elif waveform is not None:
            found.append(_stretch(Loaded(item, "fresh", content_hash, stamp, waveform), sample_rate))
    return found


def _stretch(loaded: Loaded, sample_rate: int) -> Loaded:
    """Cut `loaded` down to the stretch that its item asks for."""
    item, waveform = loaded.item, loaded.waveform
    assert waveform is not None
    start_s, duration_s = item.start_s or 0.0, len(waveform) / sample_rate
    if start_s >= duration_s:
        reason = f"starts at {start_s:g} s, but the recording lasts {duration_s:.2f} s"
        return Loaded(item, "failed", loaded.content_hash, reason=reason)
    end_s = duration_s if item.end_s is None else min(item.end_s, duration_s)
    return replace(loaded, waveform=cut(waveform, Window(start_s, end_s), sample_rate), start_s=start_s)


class _NamedBytes(io.BytesIO):
    """A file's content that knows where it came from."""

    def __init__(self, path: str):
        super().__init__(Path(path).read_bytes())
        self.name = path


def _reason(error: Exception, uri: str) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, ClaraError):
        return str(error).removeprefix(f"{uri}: ")
    return f"{type(error).__name__}: {error}"
