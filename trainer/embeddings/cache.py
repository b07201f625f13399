"""Vectors of labelled recordings and their texts, computed once for each content, model and window length.

The vectors that a killed run has computed are used by the next one. Beside them lies a list of the files' hashes, so
that a file of the same size and version is not read again.
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

_BATCH_TEXTS = 512


def describe_encoder(model: str, precision: str = "fp32", device: str | None = None) -> EncoderSpec:
    """Return a model that is loaded when it is needed.

    Args:
        model: its name, folder or hub id.
        precision: to compute in: "fp32", "bf16" or "int8".
        device: such as "cpu" or "cuda"; None for a GPU if there is any.

    Raises:
        UnknownModel: no such model.
        FormatError: the folder is no model.
    """
    facts = describe_model(model)
    fingerprint = f"{facts['fingerprint']}-{precision}"
    load = cache(lambda: load_encoder(model, device, precision))
    return EncoderSpec(facts["name"], fingerprint, facts["dim"], load, choose_device(device).type == "cpu")


@dataclass(frozen=True)
class ClipEmbeddings:
    """The vectors of clips, without those that could not be embedded.

    Attributes:
        indices: of the clips that have vectors, ascending.
        hashes: SHA-256 of their files, in hex.
        audio: unit vectors of the recordings, shape (n, dim).
        text: unit vectors of the texts, shape (n, dim), if they were asked for.
        problems: the other clips, each with the reason.
        num_computed: vectors that were not in the cache.
    """

    indices: list[int]
    hashes: list[str]
    audio: Embeddings
    text: Embeddings | None
    problems: list[str]
    num_computed: int


def embed_clips(
    clips: Sequence[Clip],
    model: EncoderSpec,
    folder: Path,
    texts: bool = False,
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
) -> ClipEmbeddings:
    """Return the vectors of clips, computing those that the cache does not hold.

    Args:
        clips: recordings, with texts where `texts` asks for them; a clip that cannot be embedded is left out.
        model: the encoder.
        folder: the cache.
        texts: whether to embed the clips' texts too; a clip without text is left out then.
        window_s: seconds of a window; a longer recording has the mean of its windows' vectors, of unit norm.
        hop_s: seconds from the start of a window to that of the next.

    Returns:
        The vectors, and the reasons of the clips that have none.

    Raises:
        OutputError: the folder cannot be written.
        FormatError: it holds broken vectors.
    """
    try:
        return _embed_clips(clips, model, folder, texts, window_s, hop_s)
    except OSError as error:  # an unreadable recording is among the problems and raises nothing
        raise OutputError(f"{folder}: the cache cannot be used ({error.strerror or error})") from error


def _embed_clips(
    clips: Sequence[Clip], model: EncoderSpec, folder: Path, texts: bool, window_s: float, hop_s: float
) -> ClipEmbeddings:
    folder.mkdir(parents=True, exist_ok=True)
    model_folder = folder / hashlib.sha256(f"{model.fingerprint} {model.dim}".encode()).hexdigest()[:16]
    with _locked(folder):
        audio_store = EmbeddingStore(model_folder / f"audio-{window_s:g}-{hop_s:g}", model.dim)
        known = len(audio_store)
        file_hashes = FileHashes(folder / "file-hashes.jsonl")
        digests, problems = _embed_audio(clips, model, audio_store, file_hashes, window_s, hop_s)
        num_computed, text_store = len(audio_store) - known, None
        if texts:
            text_store = EmbeddingStore(model_folder / "text", model.dim)
            known = len(text_store)
            for index, clip in enumerate(clips):
                if not clip.text:
                    problems.setdefault(index, "has no text")
            _embed_texts([clip for index, clip in enumerate(clips) if index not in problems], model.load, text_store)
            num_computed += len(text_store) - known
    indices = [index for index in range(len(clips)) if index not in problems]
    return ClipEmbeddings(
        indices,
        [digests[index].hex() for index in indices],
        audio_store.vectors([digests[index] for index in indices]),
        text_store.vectors([text_digest(clips[index]) for index in indices]) if text_store is not None else None,
        [f"{clips[index].key}: {reason}" for index, reason in sorted(problems.items())],
        num_computed,
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the cache, with a warning if another process has locked it."""
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
    """Return the SHA-256 of a clip's language and text, by which its text's vector is stored."""
    return hashlib.sha256(f"{clip.language}\0{clip.text}".encode("utf-8", "surrogatepass")).digest()


def _embed_audio(
    clips: Sequence[Clip],
    model: EncoderSpec,
    store: EmbeddingStore,
    file_hashes: FileHashes,
    window_s: float,
    hop_s: float,
) -> tuple[dict[int, bytes], dict[int, str]]:
    """Embed the recordings that `store` lacks; return the SHA-256 of each by its index, and the problems."""
    digests: dict[int, bytes] = {}
    missing = []
    for index, clip in enumerate(clips):
        digest = file_hashes.get(clip)
        if digest is not None and digest in store:
            digests[index] = digest
        else:
            missing.append(index)
    if not missing:
        return digests, {}
    extractor = Extractor(clips, model, store, file_hashes, window_s, hop_s)
    extractor.run(missing)
    return digests | extractor.digests, extractor.problems


def _embed_texts(clips: Sequence[Clip], load: Callable[[], Encoder], store: EmbeddingStore) -> None:
    """Embed the texts that `store` lacks."""
    missing = list({digest: clip for clip in clips if (digest := text_digest(clip)) not in store}.items())
    for start in range(0, len(missing), _BATCH_TEXTS):
        batch = missing[start : start + _BATCH_TEXTS]
        vectors = embed_texts(load(), [clip.text for _, clip in batch], [clip.language for _, clip in batch])
        store.add([digest for digest, _ in batch], vectors)
