"""Vectors of labelled recordings and their texts, computed once: by content, by model, by how recordings are cut.

What a run that was killed has computed is there for the next one. Beside the vectors stands which file had which
content, so that a file of the same size and time is not read again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from clara_search.audio import DEFAULT_HOP_S, DEFAULT_WINDOW_S, Waveform, cut, load_audio, windows
from clara_search.datasets.labelled import Clip
from clara_search.datasets.readers import content_of
from clara_search.datasets.spec import Stored
from clara_search.encoder import Embeddings, Encoder, load_encoder
from clara_search.errors import ClaraError
from clara_search.models.catalog import describe
from clara_search.prompts import mean_direction
from clara_search.scoring import embed_texts
from trainer.corpus import bounded_map
from trainer.vector_store import Store

log = logging.getLogger(__name__)

_WINDOWS_A_BATCH, _SECONDS_A_BATCH = 256, 1280.0
_TEXTS_A_BATCH = 512


@dataclass(frozen=True)
class Model:
    """What is known of a model before it is loaded, which happens when there is something to embed."""

    name: str
    fingerprint: str
    dim: int
    load: Callable[[], Encoder]


def model_of(model: str, precision: str = "fp32", device: str | None = None) -> Model:
    """Return the model of that name, folder or hub id. Raises UnknownModel or FormatError."""
    facts = describe(model)
    fingerprint = f"{facts['fingerprint']}-{precision}"
    return Model(facts["name"], fingerprint, facts["dim"], cache(lambda: load_encoder(model, device, precision)))


@dataclass(frozen=True)
class Vectors:
    """What could be embedded.

    Attributes:
        kept: positions of the clips that have vectors, ascending.
        hashes: SHA-256 of each kept recording's file, in hex.
        audio: unit vectors, shape (kept, dim).
        text: those of the texts, where they were asked for.
        problems: what was left out, with its reason.
        fresh: how many vectors were computed now.
    """

    kept: list[int]
    hashes: list[str]
    audio: Embeddings
    text: Embeddings | None
    problems: list[str]
    fresh: int


def embed_clips(
    clips: Sequence[Clip],
    model: Model,
    folder: Path,
    texts: bool = False,
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
) -> Vectors:
    """Return the vectors of `clips`, and of what is said in them where `texts` asks for it, out of `folder` if known.

    A recording longer than a window has the mean over its windows, brought back to unit norm. What cannot be read,
    decoded or embedded is left out, with its reason; so is, where texts are asked for, a clip without any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = dict[int, str]()
    place = folder / hashlib.sha256(f"{model.fingerprint} {model.dim}".encode()).hexdigest()[:16]
    with FileLock(folder / "lock"):
        heard = Store(place / f"audio-{window_s:g}-{hop_s:g}", model.dim)
        before = len(heard)
        digests = _hear(clips, model.load, heard, folder, problems, (window_s, hop_s))
        fresh, said = len(heard) - before, None
        if texts:
            said = Store(place / "text", model.dim)
            before = len(said)
            for index, clip in enumerate(clips):
                if not clip.text:
                    problems.setdefault(index, "has no text")
            _read([clip for index, clip in enumerate(clips) if index not in problems], model.load, said)
            fresh += len(said) - before
    kept = [index for index in range(len(clips)) if index not in problems]
    return Vectors(
        kept,
        [digests[index].hex() for index in kept],
        heard.vectors([digests[index] for index in kept]),
        said.vectors([text_digest(clips[index]) for index in kept]) if said is not None else None,
        [f"{clips[index].key}: {reason}" for index, reason in sorted(problems.items())],
        fresh,
    )


def text_digest(clip: Clip) -> bytes:
    """Return what the vector of a clip's text is found by."""
    return hashlib.sha256(f"{clip.language}\0{clip.text}".encode("utf-8", "surrogatepass")).digest()


class _Heard(NamedTuple):
    """A recording that was read: what of its content, and its windows where they are to be embedded."""

    position: int
    digest: bytes = b""
    windows: Sequence[Waveform] = ()
    reason: str | None = None


def _hear(
    clips: Sequence[Clip],
    encoder: Callable[[], Encoder],
    store: Store,
    folder: Path,
    problems: dict[int, str],
    cutting: tuple[float, float],
) -> dict[int, bytes]:
    """Embed the recordings that `store` has not; return the digest of each by its position."""
    contents = _Contents(folder / "contents.jsonl")
    digests: dict[int, bytes] = {}
    unknown = []
    for index, clip in enumerate(clips):
        digest = contents.known(clip)
        if digest is not None and digest in store:
            digests[index] = digest
        else:
            unknown.append(index)
    if not unknown:
        return digests
    rate = encoder().sample_rate

    def read(index: int) -> _Heard:
        try:
            content = content_of(clips[index].audio)
            digest = hashlib.sha256(content).digest()
            if digest in store:
                return _Heard(index, digest)
            waveform = load_audio(content, rate)
            found = windows(len(waveform) / rate, *cutting)
            return _Heard(index, digest, [cut(waveform, window, rate) for window in found])
        except Exception as error:  # a decoder may fail in any way, and that costs its own file only
            return _Heard(index, reason=_reason(error))

    waiting: list[_Heard] = []
    with (
        contents,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        tqdm(total=len(unknown), desc="embedding", unit="clip", disable=None) as bar,
    ):
        for heard in bounded_map(pool, read, unknown, ahead=_WINDOWS_A_BATCH):
            bar.update()
            if heard.reason is not None:
                problems[heard.position] = heard.reason
                continue
            digests[heard.position] = heard.digest
            contents.note(clips[heard.position], heard.digest)
            if heard.windows:
                waiting.append(heard)
            if _is_batch(waiting, rate):
                _embed(waiting, encoder(), store, problems)
                waiting = []
        _embed(waiting, encoder(), store, problems)
    for index in [index for index, digest in digests.items() if digest not in store]:
        problems.setdefault(index, "the same recording could not be embedded")
    return digests


def _is_batch(waiting: Sequence[_Heard], rate: int) -> bool:
    parts = [len(part) for heard in waiting for part in heard.windows]
    return len(parts) >= _WINDOWS_A_BATCH or sum(parts) >= _SECONDS_A_BATCH * rate


def _embed(waiting: Sequence[_Heard], encoder: Encoder, store: Store, problems: dict[int, str]) -> None:
    """Embed recordings together and store them; where the encoder refuses, one by one, to find whose fault it is."""
    fresh = list({heard.digest: heard for heard in waiting if heard.digest not in store}.values())
    if not fresh:
        return
    try:
        vectors = encoder.encode_audio([part for heard in fresh for part in heard.windows])
    except ClaraError as error:
        if len(fresh) == 1:
            problems[fresh[0].position] = str(error)
        else:
            for heard in fresh:
                _embed([heard], encoder, store, problems)
        return
    firsts = np.cumsum([0, *(len(heard.windows) for heard in fresh)])
    store.add(
        [heard.digest for heard in fresh],
        np.stack([_mean(vectors[first:last]) for first, last in pairwise(firsts)]),
    )


def _mean(vectors: Embeddings) -> Embeddings:
    return vectors[0] if len(vectors) == 1 else mean_direction(vectors)


def _read(clips: Sequence[Clip], encoder: Callable[[], Encoder], store: Store) -> None:
    """Embed the texts that `store` has not."""
    fresh = list({digest: clip for clip in clips if (digest := text_digest(clip)) not in store}.items())
    for first in range(0, len(fresh), _TEXTS_A_BATCH):
        part = fresh[first : first + _TEXTS_A_BATCH]
        vectors = embed_texts(encoder(), [clip.text for _, clip in part], [clip.language for _, clip in part])
        store.add([digest for digest, _ in part], vectors)


class _Contents:
    """Which content a file had when it was read last, by its place, size and time; a context to note more in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[object, ...], bytes] = {}
        self._status: dict[str, os.stat_result] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                *stamp, digest = json.loads(line)
                self._known[tuple(stamp)] = bytes.fromhex(digest)
            except ValueError:  # an empty line, or one that was cut short
                continue

    def known(self, clip: Clip) -> bytes | None:
        """Return the digest of a clip's file, if it is as it was."""
        try:
            return self._known.get(self._stamp(clip))
        except (OSError, ValueError):
            return None

    def __enter__(self) -> _Contents:
        self._file = self._path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends a line that a run which was killed has begun
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, clip: Clip, digest: bytes) -> None:
        """Remember what was read."""
        stamp = self._stamp(clip)
        if self._known.get(stamp) != digest:
            self._known[stamp] = digest
            self._file.write(json.dumps([*stamp, digest.hex()]) + "\n")

    def _stamp(self, clip: Clip) -> tuple[object, ...]:
        if not isinstance(clip.audio, Stored):
            status = clip.audio.stat()
            return str(clip.audio), 0, status.st_size, status.st_mtime_ns
        place = clip.audio.place
        if place not in self._status and "://" not in place:
            self._status[place] = os.stat(place)  # noqa: PTH116 - a place is a string
        mtime = self._status[place].st_mtime_ns if place in self._status else 0
        return os.path.abspath(place), clip.audio.offset, clip.audio.size, mtime  # noqa: PTH100


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, ClaraError) else f"{type(error).__name__}: {error}"
