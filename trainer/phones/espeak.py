"""Text to synthetic speech and to phones with espeak-ng.

espeak-ng comes from the PyPI wheel `espeakng-loader` (the shared library and its voices) and is called through ctypes,
so that neither a system package nor a process per word is needed.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clara_search.audio.waveform import Waveform
from clara_search.errors import ClaraError

_ESPEAK_RATE, _ESPEAK_PITCH = 1, 3  # espeak_PARAMETER
_SYNCHRONOUS, _UTF8, _DONT_EXIT = 0x02, 0x01, 0x8000
_IPA = 0x02  # a mode of espeak_TextToPhonemes
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechError(ClaraError):
    """espeak-ng is missing, does not start, or does not know a voice."""


def speak(text: str, voice: str = "en", speed_wpm: int = 175, pitch: int = 50) -> tuple[Waveform, int]:
    """Synthesize speech.

    The same calls in a new process give the same samples; within a process, espeak-ng keeps the phase of its
    oscillators between calls.

    Args:
        text: to speak.
        voice: of espeak-ng ("en", "es-419"), optionally with a variant after a plus ("en+f3").
        speed_wpm: words a minute, 80 to 450.
        pitch: 0 to 99.

    Returns:
        The waveform (samples,), mono float32, and its rate in Hz.

    Raises:
        SpeechError: espeakng-loader is missing, or the voice is unknown.
    """
    with _lock:
        espeak = _start()
        _set_voice(espeak, voice)
        espeak.library.espeak_SetParameter(_ESPEAK_RATE, speed_wpm, 0)
        espeak.library.espeak_SetParameter(_ESPEAK_PITCH, pitch, 0)
        espeak.chunks.clear()
        content = text.encode("utf-8") + b"\0"
        espeak.library.espeak_Synth(content, ctypes.c_size_t(len(content)), 0, 0, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(espeak.chunks), dtype=np.int16)
    return samples.astype(np.float32) / 32768.0, espeak.sample_rate


def pronounce(text: str, voice: str = "en") -> str:
    """Return the pronunciation of `text` by an espeak-ng voice, in the IPA. Raises SpeechError as `speak` does."""
    with _lock:
        espeak = _start()
        if espeak.voice != [voice]:  # setting one reads its dictionary, 8 MB for Russian
            _set_voice(espeak, voice)
        remaining = ctypes.c_char_p(text.encode("utf-8"))
        clauses = []
        while remaining.value is not None:
            clauses.append(espeak.library.espeak_TextToPhonemes(ctypes.byref(remaining), _UTF8, _IPA).decode("utf-8"))
    return " ".join(clauses)


def voice_variants() -> list[str]:
    """Return the sorted names of the variants of the installed espeak-ng, such as "f3" for "en+f3"."""
    with _lock:
        return sorted(path.name for path in (_start().voices / "!v").iterdir())


class _Espeak(NamedTuple):
    """The initialised library, the buffer that its callback fills with samples, and the voice that is set, if any."""

    library: ctypes.CDLL
    voices: Path
    sample_rate: int
    chunks: list[bytes]
    voice: list[str]
    callback: Any  # kept alive: the library calls it


_lock = threading.Lock()  # the library has one global state


@cache
def _start() -> _Espeak:
    try:
        import espeakng_loader
    except ImportError as error:
        raise SpeechError("speech synthesis needs espeak-ng: pip install espeakng-loader") from error
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    folder = Path(espeakng_loader.get_data_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DONT_EXIT))
    if rate <= 0:
        raise SpeechError(f"espeak-ng did not start with the voices in {folder} (its limit for that path is 160 bytes)")
    chunks: list[bytes] = []

    def on_samples(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    callback = _Callback(on_samples)
    library.espeak_SetSynthCallback(callback)
    return _Espeak(library, folder / "voices", rate, chunks, [], callback)


def _set_voice(espeak: _Espeak, voice: str) -> None:
    """Set the voice; variants are looked up in the folder, because the library ignores unknown ones silently."""
    name, _, variant = voice.partition("+")
    known = bool(name) and (not variant or (espeak.voices / "!v" / variant).is_file())
    if not known or espeak.library.espeak_SetVoiceByName(voice.encode()) != 0:
        espeak.voice.clear()
        raise SpeechError(f"espeak-ng has no voice {voice!r}: try a language code such as 'en', or 'en+f3'")
    espeak.voice[:] = [voice]
