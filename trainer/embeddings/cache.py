"""Vectors of labelled recordings and their texts, computed once: by content, by model, by how recordings are cut.

What a run that was killed has computed is there for the next one. Beside the vectors stands which file had which
content, so that a file of the same size and time is not read again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.datasets.labelled import Clip
from clara_search.errors import OutputError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.batching import choose_device
from clara_search.models.registry import describe_model, load_encoder
from trainer.embeddings.extract import EncoderSpec, Extractor
from trainer.embeddings.file_hashes import FileHashes
from trainer.embeddings.store import EmbeddingStore
from trainer.evaluation.retrieval import embed_texts

__all__ = ["ClipEmbeddings", "EncoderSpec", "describe_encoder", "embed_clips", "text_digest"]

log = logging.getLogger(__name__)

_TEXTS_A_BATCH = 512


def describe_encoder(model: str, precision: str = "fp32", device: str | None = None) -> EncoderSpec:
    """Return the model of that name, folder or hub id. Raises UnknownModel or FormatError."""
    facts = describe_model(model)
    fingerprint = f"{facts['fingerprint']}-{precision}"
    load = cache(lambda: load_encoder(model, device, precision))
    return EncoderSpec(facts["name"], fingerprint, facts["dim"], load, choose_device(device).type == "cpu")


@dataclass(frozen=True)
class ClipEmbeddings:
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
    model: EncoderSpec,
    folder: Path,
    texts: bool = False,
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
) -> ClipEmbeddings:
    """Return the vectors of `clips`, and of what is said in them where `texts` asks for it, out of `folder` if known.

    A recording longer than a window has the mean over its windows, brought back to unit norm. What cannot be read,
    decoded or embedded is left out, with its reason; so is, where texts are asked for, a clip without any. Raises
    OutputError where `folder` cannot be written or holds vectors that are broken.
    """
    try:
        return _embed_clips(clips, model, folder, texts, (window_s, hop_s))
    except OSError as error:  # what a recording's own file raises is among its problems
        raise OutputError(f"{folder}: the cache cannot be used ({error.strerror or error})") from error


def _embed_clips(
    clips: Sequence[Clip], model: EncoderSpec, folder: Path, texts: bool, cutting: tuple[float, float]
) -> ClipEmbeddings:
    folder.mkdir(parents=True, exist_ok=True)
    problems = dict[int, str]()
    place = folder / hashlib.sha256(f"{model.fingerprint} {model.dim}".encode()).hexdigest()[:16]
    with _held(folder):
        heard = EmbeddingStore(place / f"audio-{cutting[0]:g}-{cutting[1]:g}", model.dim)
        before = len(heard)
        digests = _hear(clips, model, heard, folder, problems, cutting)
        fresh, said = len(heard) - before, None
        if texts:
            said = EmbeddingStore(place / "text", model.dim)
            before = len(said)
            for index, clip in enumerate(clips):
                if not clip.text:
                    problems.setdefault(index, "has no text")
            _read([clip for index, clip in enumerate(clips) if index not in problems], model.load, said)
            fresh += len(said) - before
    kept = [index for index in range(len(clips)) if index not in problems]
    return ClipEmbeddings(
        kept,
        [digests[index].hex() for index in kept],
        heard.vectors([digests[index] for index in kept]),
        said.vectors([text_digest(clips[index]) for index in kept]) if said is not None else None,
        [f"{clips[index].key}: {reason}" for index, reason in sorted(problems.items())],
        fresh,
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the cache; whoever waits for another process is told so."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=1.0)
    except Timeout:
        log.warning("waiting for another process that embeds into %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def text_digest(clip: Clip) -> bytes:
    """Return what the vector of a clip's text is found by."""
    return hashlib.sha256(f"{clip.language}\0{clip.text}".encode("utf-8", "surrogatepass")).digest()


def _hear(
    clips: Sequence[Clip],
    model: EncoderSpec,
    store: EmbeddingStore,
    folder: Path,
    problems: dict[int, str],
    cutting: tuple[float, float],
) -> dict[int, bytes]:
    """Embed the recordings that `store` has not; return the digest of each by its position."""
    contents = FileHashes(folder / "contents.jsonl")
    digests: dict[int, bytes] = {}
    unknown = []
    for index, clip in enumerate(clips):
        digest = contents.known(clip)
        if digest is not None and digest in store:
            digests[index] = digest
        else:
            unknown.append(index)
    if unknown:
        extraction = Extractor(clips, model, store, contents, cutting)
        extraction.run(unknown)
        digests |= extraction.digests
        problems |= extraction.problems
    return digests


def _read(clips: Sequence[Clip], encoder: Callable[[], Encoder], store: EmbeddingStore) -> None:
    """Embed the texts that `store` has not."""
    fresh = list({digest: clip for clip in clips if (digest := text_digest(clip)) not in store}.items())
    for first in range(0, len(fresh), _TEXTS_A_BATCH):
        part = fresh[first : first + _TEXTS_A_BATCH]
        vectors = embed_texts(encoder(), [clip.text for _, clip in part], [clip.language for _, clip in part])
        store.add([digest for digest, _ in part], vectors)
