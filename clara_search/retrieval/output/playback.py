"""The sound of a hit: cut out of its recording, which is opened through the gate, for the table may be a stranger's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clara_search.audio.decode import load_audio
from clara_search.audio.waveform import Waveform
from clara_search.errors import AudioError, FormatError, OutputError, SourceError
from clara_search.files.atomic import atomic_path
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import is_url, open_binary, stat_file
from clara_search.files.regular import open_regular

DEFAULT_RATE = 48_000
"""Hz: nothing that people hear is lost."""

_FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}


def cut(
    uri: str,
    start_s: float | None,
    end_s: float | None,
    sample_rate: int = DEFAULT_RATE,
    max_bytes: int | None = None,
) -> Waveform:
    """Return a part of a recording that a table names.

    Args:
        uri: Path or URL out of the table.
        start_s: Start of the part in seconds; None for the start of the recording.
        end_s: End of the part in seconds; None for its end.
        sample_rate: Rate of the waveform in Hz.
        max_bytes: Size in bytes up to which a recording on this machine is read.

    Returns:
        Mono float32, shape (samples,).

    Raises:
        AudioError: The recording is too large, is not there any more, may not be opened, or cannot be decoded.
    """
    try:
        path = admit(ForeignUri(uri))
        if max_bytes is not None and stat_file(path).size > max_bytes:
            raise AudioError(f"{uri}: the recording is too large to be played here")
        with _open(path) as file:
            return load_audio(file, sample_rate, start_s, end_s)
    except FileNotFoundError as error:
        raise AudioError(f"{uri}: the recording is not there any more; index it again where it is now") from error
    except OSError as error:
        raise AudioError(f"{uri}: the recording cannot be read ({error.strerror or error})") from error
    except (FormatError, SourceError, UnicodeEncodeError) as error:  # the last for a name that no file can have
        raise AudioError(f"{uri}: the recording cannot be opened ({error})") from error


def save_waveform(path: str | Path, waveform: Waveform, sample_rate: int) -> Path:
    """Write a waveform, shape (samples,), to a WAV, FLAC or OGG file.

    Args:
        path: The file; its suffix tells the format.
        waveform: Mono, shape (samples,).
        sample_rate: Its rate in Hz.

    Returns:
        The file.

    Raises:
        OutputError: The suffix is another one, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"{path}: the name has to end in {', '.join(_FORMATS)}")
    with atomic_path(path, sync=False) as partial:
        partial.write_bytes(encode(waveform, sample_rate, _FORMATS[path.suffix.lower()]))
    return path


def encode(waveform: Waveform, sample_rate: int, audio_format: str = "WAV") -> bytes:
    """Return the bytes of a sound file of a waveform, 16 bits a sample; louder than full scale is clipped."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1, 1), sample_rate, format=audio_format)
    return buffer.getvalue()


def _open(path: str) -> BinaryIO:
    """Open what the gate admitted: on this machine a regular file, so that no pipe blocks."""
    return open_binary(path) if is_url(path) else open_regular(path)
