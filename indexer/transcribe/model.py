"""Whisper models in CTranslate2's format, by faster-whisper: found, loaded, and asked what a recording says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara_search.audio.waveform import Waveform
from clara_search.cpu import core_count
from clara_search.errors import DeviceError, FormatError, MissingDependency, UnknownModel, first_line
from clara_search.models import hub
from indexer.transcript import Word

SAMPLE_RATE = 16_000
"""Hz that Whisper takes."""

COMPRESSION_RATIO = 2.4
LOG_PROBABILITY = -1.0
NO_SPEECH = 0.6
"""Whisper's own thresholds. A segment that compresses better (it repeats itself), is less probable on average, or is
more probably no speech is left out. Whisper tries it again at random: a transcript would differ from run to run."""

_BEAM_SIZE = 5
_SETTINGS = "1"
"""Part of the fingerprint: changed with anything here that changes transcripts."""

_NEEDED = ("model.bin", "config.json", "tokenizer.json")
_FILES = (*_NEEDED, "preprocessor_config.json", "vocabulary.json", "vocabulary.txt")
_COMPUTE_TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
_MIN_SPEECH_S = 0.1


@dataclass(frozen=True)
class Speech:
    """What a waveform says.

    Attributes:
        language: code of its language; None where nothing is said.
        words: its words, in seconds from its start.
    """

    language: str | None
    words: list[Word]


class Transcriber:
    """A Whisper model.

    Args:
        folder: its folder.
        name: its name in tables.
        device: "cpu", "cuda", "cuda:1" ...; None: the first GPU, or else the CPU.
        precision: "fp32", "bf16", "int8", or "auto": fp16 on a GPU, int8 on a CPU.

    Attributes:
        name: as above.
        fingerprint: sha256 over the files of the model and the settings.

    Raises:
        MissingDependency: faster-whisper is not installed.
        FormatError: the folder holds no such model.
        DeviceError: the device or the precision is not available.
    """

    def __init__(self, folder: Path, name: str, device: str | None = None, precision: str = "auto"):
        try:
            import ctranslate2
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise MissingDependency(
                "faster-whisper, which transcribes, is not installed: pip install 'clara-search[transcribe]'"
            ) from error
        # faster-whisper fetches a tokenizer from the hub where there is none.
        if missing := [file for file in _NEEDED if not (folder / file).is_file()]:
            raise FormatError(
                f"{folder}: no Whisper model in CTranslate2 format, it has no {missing[0]}; ct2-transformers-converter "
                "makes one of a model of transformers, and copies its tokenizer.json"
            )
        self.name = name
        self.fingerprint = _fingerprint(folder)
        kind, index = _device(device, ctranslate2)
        compute_type = _COMPUTE_TYPES.get(precision, "float16" if kind == "cuda" else "int8")
        if compute_type not in ctranslate2.get_supported_compute_types(kind, index):
            raise DeviceError(f"{device or kind} cannot transcribe in {precision}: leave the precision out")
        try:
            self._model: Any = WhisperModel(str(folder), kind, index, compute_type, core_count(), local_files_only=True)
        except Exception as error:  # of the libraries that read the files
            raise FormatError(f"{folder}: not a Whisper model that can be loaded ({first_line(error)})") from error

    @property
    def label(self) -> str:
        """Name and fingerprint, as a ledger has them."""
        return f"{self.name} {self.fingerprint}"

    def transcribe(self, waveform: Waveform, language: str | None = None) -> Speech:
        """Return what a waveform says.

        Args:
            waveform: mono at 16 kHz, shape (samples,).
            language: code of its language; None: it is detected.

        Returns:
            Its words. Silence and noise have none: a detector of speech looks for it first.
        """
        from faster_whisper.vad import get_speech_timestamps

        if len(waveform) < _MIN_SPEECH_S * SAMPLE_RATE or not get_speech_timestamps(waveform):
            return Speech(None, [])
        segments, info = self._model.transcribe(
            waveform,
            language=language,
            beam_size=_BEAM_SIZE,
            temperature=0.0,
            compression_ratio_threshold=COMPRESSION_RATIO,
            log_prob_threshold=LOG_PROBABILITY,
            no_speech_threshold=NO_SPEECH,
            condition_on_previous_text=False,
            word_timestamps=True,
            vad_filter=True,
        )
        words = [
            Word(word.word, float(word.start), float(word.end), float(word.probability))
            for segment in segments
            if segment.compression_ratio <= COMPRESSION_RATIO
            and segment.avg_logprob >= LOG_PROBABILITY
            and segment.no_speech_prob <= NO_SPEECH
            for word in segment.words or ()
        ]
        return Speech(info.language if words else None, words)


def load_transcriber(model: str | Path, device: str | None = None, precision: str = "auto") -> Transcriber:
    """Load a Whisper model.

    Args:
        model: A folder with a Whisper model in CTranslate2 format, or such a model of the hub ("organisation/name",
            "organisation/name@revision"), which is downloaded unless the hub's cache has it.
        device: "cpu", "cuda", "cuda:1" ...; None: the first GPU, or else the CPU.
        precision: "fp32", "bf16", "int8", or "auto": fp16 on a GPU, int8 on a CPU.

    Returns:
        The model, ready to use.

    Raises:
        UnknownModel: There is no such model.
        MissingDependency: faster-whisper is not installed.
        FormatError: The folder holds no such model.
        DeviceError: The device or the precision is not available.
    """
    if Path(model).is_dir():
        return Transcriber(Path(model), Path(model).resolve().name, device, precision)
    if isinstance(model, str) and hub.is_hub_id(model):
        return Transcriber(hub.download_model(model, _FILES), model, device, precision)
    raise UnknownModel(
        f"no transcriber {str(model)!r}: expected the folder of a Whisper model in CTranslate2 format, or a model of "
        "the hub (organisation/name)"
    )


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256(_SETTINGS.encode())
    for name in _FILES:
        if (path := folder / name).is_file():
            with path.open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _device(device: str | None, ctranslate2: Any) -> tuple[str, int]:
    """Return the kind of a device and its number. Raises DeviceError unless it is there."""
    gpus = ctranslate2.get_cuda_device_count()
    if device is None:
        return ("cuda" if gpus else "cpu"), 0
    kind, _, number = device.partition(":")
    if kind == "cpu" or (kind == "cuda" and number in ("", *map(str, range(gpus))) and gpus):
        return kind, int(number or 0)
    raise DeviceError(f"cannot transcribe on {device!r}: there is the CPU and {gpus} GPUs of CUDA")
