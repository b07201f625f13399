"""Outputs of teacher models for distillation, computed once and cached beside the list of recordings.

For recordings: the encoder frames of a Whisper model in CTranslate2 format (a folder such as `faster-whisper-base`);
short recordings share a window of 30 s, with silence between them. For texts: embeddings of a sentence encoder.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from clara_search.audio.mel import MelConfig, log_mel
from clara_search.audio.waveform import Waveform
from clara_search.cpu import core_count
from clara_search.datasets.example import Example
from clara_search.errors import ConfigError, FormatError, UnknownModel, first_line
from clara_search.files.atomic import atomic_path
from clara_search.models.folder import warn_of_code
from clara_search.models.state_dict import summarize

log = logging.getLogger(__name__)

Frames = npt.NDArray[np.float16]

SAMPLES_PER_FRAME = 640
"""A teacher frame covers 40 ms at 16 kHz: the mean of two of Whisper's frames."""

SAMPLE_RATE = 16_000
"""Hz that Whisper takes."""

_MEL = MelConfig(sample_rate=SAMPLE_RATE, n_fft=400, win_length=400, hop_length=160)
_MELS_PER_FRAME = SAMPLES_PER_FRAME // _MEL.hop_length
_WINDOW = 3000 // _MELS_PER_FRAME
"""Teacher frames in Whisper's window of 30 s."""
_GAP = 12
"""Silent teacher frames between recordings in a window."""
_LEVEL = 0.4
"""Whisper's log-mel is ours plus a quarter of log10 of the peak power: this, for speech at a usual level."""

_RECORDINGS_PER_PART = 512


class Recordings(Protocol):
    """The part of `trainer.data.corpus.Corpus` that a teacher needs."""

    folder: Path
    sample_rate: int

    def __len__(self) -> int:
        """Return the number of recordings."""

    def samples(self, index: int) -> int:
        """Return the length of recording `index` in samples."""

    def waveform(self, index: int) -> Waveform:
        """Return recording `index`, shape (samples,)."""


class WhisperEncoder:
    """The encoder of a Whisper model in CTranslate2 format.

    Attributes:
        dim: width of its frames.

    Raises:
        FormatError: the model cannot be loaded.
        UnknownModel: the folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        import ctranslate2

        if not (folder / "model.bin").is_file():
            raise UnknownModel(f"{folder}: not a Whisper model in CTranslate2 format, it has no model.bin")
        self._ctranslate2 = ctranslate2
        try:
            threads = core_count()
            self._model = ctranslate2.models.Whisper(str(folder), compute_type="int8", intra_threads=threads)
        except (RuntimeError, ValueError) as error:
            raise FormatError(f"{folder}: not a Whisper model that can be loaded ({first_line(error)})") from error
        self.dim = self._encode(np.zeros((_MEL.n_mels, _MELS_PER_FRAME), dtype=np.float32)).shape[1]

    def encode(self, waveforms: list[Waveform]) -> Iterator[Frames]:
        """Yield the frames of each waveform at 16 kHz: (ceil(samples / SAMPLES_PER_FRAME), dim)."""
        pieces = [
            (index, waveform[start : start + _WINDOW * SAMPLES_PER_FRAME])
            for index, waveform in enumerate(waveforms)
            for start in range(0, len(waveform), _WINDOW * SAMPLES_PER_FRAME)
        ]
        frames: list[list[Frames]] = [[] for _ in waveforms]
        window: list[tuple[int, Waveform]] = []
        used = 0
        for index, piece in pieces:
            needed = num_frames(len(piece)) + _GAP
            if window and used + needed > _WINDOW + _GAP:
                self._encode_window(window, frames)
                window, used = [], 0
            window.append((index, piece))
            used += needed
        if window:
            self._encode_window(window, frames)
        yield from (np.concatenate(parts) for parts in frames)

    def _encode_window(self, window: list[tuple[int, Waveform]], frames: list[list[Frames]]) -> None:
        """Encode pieces of recordings, given with their row in `frames`, and append the result there."""
        lengths = [num_frames(len(piece)) for _, piece in window]
        starts = np.cumsum([0, *(length + _GAP for length in lengths)]).tolist()
        mels = np.full((_MEL.n_mels, (starts[-1] - _GAP) * _MELS_PER_FRAME), -1.0, dtype=np.float32)
        for start, length, (_, piece) in zip(starts, lengths, window, strict=False):
            piece_mels = log_mel(piece, _MEL).numpy()[: length * _MELS_PER_FRAME].T
            mels[:, start * _MELS_PER_FRAME :][:, : piece_mels.shape[1]] = piece_mels
        encoded = self._encode(mels + np.float32(_LEVEL))
        for start, length, (index, _) in zip(starts, lengths, window, strict=False):
            frames[index].append(encoded[start : start + length])

    def _encode(self, mels: npt.NDArray[np.float32]) -> Frames:
        """Return the frames of a log-mel (n_mels, frames), averaged in pairs."""
        features = self._ctranslate2.StorageView.from_array(np.ascontiguousarray(mels[None]))
        states: npt.NDArray[np.float32] = np.array(self._model.encode(features, to_cpu=True))[0]
        means: Frames = states.reshape(-1, 2, states.shape[1]).mean(axis=1).astype(np.float16)
        return means


@dataclass(frozen=True)
class TeacherFrames:
    """The teacher frames of every recording of a corpus.

    Attributes:
        parts: frames of consecutive recordings, each part (frames, dim).
        starts: first frame of each recording in its part.
        mean: (dim,), subtracted from frames to standardise them.
        scale: (dim,), which they are then divided by.
    """

    parts: list[Frames]
    starts: list[int]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @property
    def dim(self) -> int:
        """Return the width of a frame."""
        return len(self.mean)

    def of(self, index: int, start_sample: int, samples: int, frames: int) -> npt.NDArray[np.float32]:
        """Return the standardised frames of a part of recording `index`, interpolated to (frames, dim)."""
        part = self.parts[index // _RECORDINGS_PER_PART]
        first = self.starts[index] + start_sample // SAMPLES_PER_FRAME
        source = part[first : first + num_frames(samples)].astype(np.float32)
        positions = np.linspace(0.0, len(source) - 1.0, frames)
        low = np.floor(positions).astype(np.intp)
        weight = (positions - low)[:, None].astype(np.float32)
        high = np.minimum(low + 1, len(source) - 1)
        interpolated: npt.NDArray[np.float32] = source[low] * (1.0 - weight) + source[high] * weight
        standardised: npt.NDArray[np.float32] = (interpolated - self.mean) / self.scale
        return standardised


def num_frames(samples: int) -> int:
    """Return the number of teacher frames in `samples` at 16 kHz."""
    return -(-samples // SAMPLES_PER_FRAME)


def compute_teacher_frames(teacher: Path, recordings: Recordings) -> TeacherFrames:
    """Return the teacher frames of all recordings, from the cache where they are; an interrupted call resumes.

    Args:
        teacher: folder of a Whisper model in CTranslate2 format.
        recordings: at 16 kHz.

    Raises:
        FormatError: the model cannot be loaded, or the sample rate is another.
        UnknownModel: the folder holds no such model.
    """
    if recordings.sample_rate != _MEL.sample_rate:
        raise ConfigError(f"{teacher}: Whisper expects {_MEL.sample_rate} Hz, the model {recordings.sample_rate} Hz")
    folder = recordings.folder / f"teacher-frames-{_digest(teacher)}"
    folder.mkdir(parents=True, exist_ok=True)
    groups = [
        range(start, min(start + _RECORDINGS_PER_PART, len(recordings)))
        for start in range(0, len(recordings), _RECORDINGS_PER_PART)
    ]
    paths = [folder / f"{number:05d}.npy" for number in range(len(groups))]
    missing = [(group, path) for group, path in zip(groups, paths, strict=True) if not path.exists()]
    whisper: Any = WhisperEncoder(teacher) if missing else None
    for group, path in tqdm(missing, desc="teacher", unit="part", disable=not missing):
        frames = whisper.encode([recordings.waveform(index) for index in group])
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate(list(frames)))
    parts: list[Frames] = [np.load(path, mmap_mode="r") for path in paths]
    starts = [
        start
        for group in groups
        for start in np.cumsum([0, *(num_frames(recordings.samples(index)) for index in group)])[:-1].tolist()
    ]
    sample = np.concatenate([part[::16] for part in parts]).astype(np.float32)
    return TeacherFrames(parts, starts, sample.mean(axis=0), sample.std(axis=0) + 1e-3)


def _digest(folder: Path) -> str:
    """Return the first twelve digits of the hash of a model."""
    try:
        with (folder / "model.bin").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise UnknownModel(f"{folder}: not a Whisper model in CTranslate2 format, it has no model.bin") from error


class TeacherTexts:
    """Unit vectors of texts from a sentence encoder."""

    def __init__(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        self._row = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors

    def of(self, examples: Sequence[Example]) -> npt.NDArray[np.float32]:
        """Return the vectors of the texts of `examples`, shape (n, dim)."""
        vectors: npt.NDArray[np.float32] = self._vectors[[self._row[example.text] for example in examples]]
        return vectors


def compute_teacher_texts(teacher: Path, examples: Iterable[Example], cache: Path) -> TeacherTexts:
    """Return the teacher's embeddings of the texts of `examples`, from the cache if they are there.

    Args:
        teacher: folder of a model of `transformers`; its states are averaged over tokens, as in sentence-transformers.
        examples: whose texts are embedded.
        cache: folder of the embeddings.

    Raises:
        FormatError: the model cannot be loaded or is incomplete.
    """
    texts = sorted({example.text for example in examples})
    key = hashlib.sha256(repr((str(teacher.absolute()), texts)).encode()).hexdigest()[:12]
    path = cache / f"teacher-texts-{key}.npy"
    if not path.exists():
        vectors = _embed_sentences(teacher, texts)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, vectors)
    return TeacherTexts(texts, np.load(path))


def _embed_sentences(folder: Path, texts: Sequence[str], batch_size: int = 64) -> npt.NDArray[np.float32]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    warn_of_code(folder)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises nearly anything for a broken folder
        raise FormatError(f"{folder}: not a sentence encoder that can be loaded ({first_line(error)})") from error
    missing = sorted(
        name for name in report["missing_keys"] if not name.startswith("pooler.")
    )  # the pooler is not used
    if missing:
        raise FormatError(f"{folder}: incomplete sentence encoder, {summarize(missing)} missing")
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(texts), batch_size), desc="text teacher", unit="batch"):
            batch = list(texts[start : start + batch_size])
            encoded = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            states, mask = model(**encoded).last_hidden_state, encoded["attention_mask"][..., None]
            means = (states * mask).sum(dim=1) / mask.sum(dim=1)
            parts.append(torch.nn.functional.normalize(means, dim=-1).numpy())
    return np.concatenate(parts).astype(np.float32)
