"""What models that know more make of a recording or a text, for the towers to learn from (distillation).

Of recordings: the frames of a speech recogniser, which the audio tower is asked for as well. It is a Whisper model in
CTranslate2's form (a folder such as `faster-whisper-base`); short recordings share a window of 30 s, with silence
between them. Of texts: how like each other a sentence encoder finds them. Both are computed once and kept beside the
list of recordings.
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
from clara_search.models.state_dict import summarize

log = logging.getLogger(__name__)

Frames = npt.NDArray[np.float16]

SAMPLES_PER_FRAME = 640
"""A frame for each 40 ms at 16 kHz: the mean of two of Whisper's."""

_MEL = MelConfig(sample_rate=16000, n_fft=400, win_length=400, hop_length=160)
_MELS_PER_FRAME = SAMPLES_PER_FRAME // _MEL.hop_length
_WINDOW = 3000 // _MELS_PER_FRAME
_GAP = 12
_LOUDEST = 0.4
"""Whisper's log-mel is ours plus a quarter of log10 of the loudest power: that of speech at a usual level."""

_RECORDINGS_PER_PART = 512


class Recordings(Protocol):
    """What a teacher needs of `trainer.data.Corpus`."""

    folder: Path
    sample_rate: int

    def __len__(self) -> int:
        """Return how many there are."""

    def samples(self, index: int) -> int:
        """Return the length of recording `index`."""

    def waveform(self, index: int) -> Waveform:
        """Return recording `index`."""


class WhisperFrames:
    """The encoder of the Whisper model in `folder`, which says what it is called and how wide its frames are."""

    def __init__(self, folder: Path) -> None:
        import ctranslate2

        if not (folder / "model.bin").is_file():
            raise UnknownModel(f"{folder}: no Whisper model in CTranslate2's form, it has no model.bin")
        self._ctranslate2 = ctranslate2
        try:
            threads = core_count()
            self._model = ctranslate2.models.Whisper(str(folder), compute_type="int8", intra_threads=threads)
        except (RuntimeError, ValueError) as error:
            raise FormatError(f"{folder}: not a Whisper model that can be loaded ({first_line(error)})") from error
        self.dim = self._encode(np.zeros((_MEL.n_mels, _MELS_PER_FRAME), dtype=np.float32)).shape[1]

    def hear(self, waveforms: list[Waveform]) -> Iterator[Frames]:
        """Yield, for each waveform at 16 kHz, what is heard: (ceil(samples / SAMPLES_PER_FRAME), dim)."""
        pieces = [
            (index, waveform[start : start + _WINDOW * SAMPLES_PER_FRAME])
            for index, waveform in enumerate(waveforms)
            for start in range(0, len(waveform), _WINDOW * SAMPLES_PER_FRAME)
        ]
        heard: list[list[Frames]] = [[] for _ in waveforms]
        window: list[tuple[int, Waveform]] = []
        used = 0
        for index, piece in pieces:
            needed = frames_of(len(piece)) + _GAP
            if window and used + needed > _WINDOW + _GAP:
                self._hear_window(window, heard)
                window, used = [], 0
            window.append((index, piece))
            used += needed
        if window:
            self._hear_window(window, heard)
        yield from (np.concatenate(parts) for parts in heard)

    def _hear_window(self, window: list[tuple[int, Waveform]], heard: list[list[Frames]]) -> None:
        lengths = [frames_of(len(piece)) for _, piece in window]
        starts = np.cumsum([0, *(length + _GAP for length in lengths)]).tolist()
        mels = np.full((_MEL.n_mels, (starts[-1] - _GAP) * _MELS_PER_FRAME), -1.0, dtype=np.float32)
        for start, length, (_, piece) in zip(starts, lengths, window, strict=False):
            found = log_mel(piece, _MEL).numpy()[: length * _MELS_PER_FRAME].T
            mels[:, start * _MELS_PER_FRAME :][:, : found.shape[1]] = found
        frames = self._encode(mels + np.float32(_LOUDEST))
        for start, length, (index, _) in zip(starts, lengths, window, strict=False):
            heard[index].append(frames[start : start + length])

    def _encode(self, mels: npt.NDArray[np.float32]) -> Frames:
        given = self._ctranslate2.StorageView.from_array(np.ascontiguousarray(mels[None]))
        found: npt.NDArray[np.float32] = np.array(self._model.encode(given, to_cpu=True))[0]
        pairs: Frames = found.reshape(-1, 2, found.shape[1]).mean(axis=1).astype(np.float16)
        return pairs


@dataclass(frozen=True)
class TeacherFrames:
    """What a teacher heard in every recording of a corpus; `mean` and `scale` (dim,) standardise it."""

    parts: list[Frames]
    starts: list[int]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @property
    def dim(self) -> int:
        """Return the width of a frame."""
        return len(self.mean)

    def of(self, index: int, start_sample: int, samples: int, frames: int) -> npt.NDArray[np.float32]:
        """Return what was heard in `samples` of recording `index`, stretched to `frames`: (frames, dim)."""
        part = self.parts[index // _RECORDINGS_PER_PART]
        first = self.starts[index] + start_sample // SAMPLES_PER_FRAME
        heard = part[first : first + frames_of(samples)].astype(np.float32)
        at = np.linspace(0.0, len(heard) - 1.0, frames)
        low = np.floor(at).astype(np.intp)
        share = (at - low)[:, None].astype(np.float32)
        high = np.minimum(low + 1, len(heard) - 1)
        found: npt.NDArray[np.float32] = (heard[low] * (1.0 - share) + heard[high] * share - self.mean) / self.scale
        return found


def frames_of(samples: int) -> int:
    """Return how many frames `samples` at 16 kHz have."""
    return -(-samples // SAMPLES_PER_FRAME)


def compute_teacher_frames(teacher: Path, recordings: Recordings) -> TeacherFrames:
    """Return what the model in folder `teacher` hears in `recordings`; computed once, going on where it stopped."""
    if recordings.sample_rate != _MEL.sample_rate:
        raise ConfigError(f"{teacher}: Whisper hears {_MEL.sample_rate} Hz, the model {recordings.sample_rate} Hz")
    folder = recordings.folder / f"heard-{_digest(teacher)}"
    folder.mkdir(parents=True, exist_ok=True)
    groups = [
        range(start, min(start + _RECORDINGS_PER_PART, len(recordings)))
        for start in range(0, len(recordings), _RECORDINGS_PER_PART)
    ]
    paths = [folder / f"{number:05d}.npy" for number in range(len(groups))]
    missing = [(group, path) for group, path in zip(groups, paths, strict=True) if not path.exists()]
    whisper: Any = WhisperFrames(teacher) if missing else None
    for group, path in tqdm(missing, desc="teacher", unit="part", disable=not missing):
        heard = whisper.hear([recordings.waveform(index) for index in group])
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate(list(heard)))
    parts: list[Frames] = [np.load(path, mmap_mode="r") for path in paths]
    starts = [
        start
        for group in groups
        for start in np.cumsum([0, *(frames_of(recordings.samples(index)) for index in group)])[:-1].tolist()
    ]
    some = np.concatenate([part[::16] for part in parts]).astype(np.float32)
    return TeacherFrames(parts, starts, some.mean(axis=0), some.std(axis=0) + 1e-3)


def _digest(folder: Path) -> str:
    """Return twelve letters that tell one model from another."""
    try:
        with (folder / "model.bin").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise UnknownModel(f"{folder}: no Whisper model in CTranslate2's form, it has no model.bin") from error


class TeacherTexts:
    """Unit vectors that a sentence encoder gives to texts."""

    def __init__(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        self._row = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors

    def of(self, examples: Sequence[Example]) -> npt.NDArray[np.float32]:
        """Return the vectors of the texts of `examples`, shape (n, dim)."""
        found: npt.NDArray[np.float32] = self._vectors[[self._row[example.text] for example in examples]]
        return found


def compute_teacher_texts(teacher: Path, examples: Iterable[Example], cache: Path) -> TeacherTexts:
    """Return what the sentence encoder in folder `teacher` makes of the texts of `examples`, computed once.

    It is a model of `transformers` whose states are averaged over the tokens, as sentence-transformers does.
    """
    texts = sorted({example.text for example in examples})
    key = hashlib.sha256(repr((str(teacher.absolute()), texts)).encode()).hexdigest()[:12]
    path = cache / f"texts-{key}.npy"
    if not path.exists():
        vectors = _sentence_vectors(teacher, texts)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, vectors)
    return TeacherTexts(texts, np.load(path))


def _sentence_vectors(folder: Path, texts: Sequence[str], together: int = 64) -> npt.NDArray[np.float32]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # transformers raises nearly anything for a broken folder
        raise FormatError(f"{folder}: not a sentence encoder that can be loaded ({first_line(error)})") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))  # which is not used
    if missing:
        raise FormatError(f"{folder}: not a whole sentence encoder, {summarize(missing)} missing")
    model.eval()
    found = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(texts), together), desc="text teacher", unit="batch"):
            given = tokenizer(list(texts[start : start + together]), padding=True, truncation=True, return_tensors="pt")
            states, mask = model(**given).last_hidden_state, given["attention_mask"][..., None]
            means = (states * mask).sum(dim=1) / mask.sum(dim=1)
            found.append(torch.nn.functional.normalize(means, dim=-1).numpy())
    return np.concatenate(found).astype(np.float32)
