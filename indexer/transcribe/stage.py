"""The stage that transcribes: it takes the windows of recordings without a text as they pass by.

Overlapping windows are joined to what they were cut from, and transcribed in blocks of two minutes, each from the
last pause of the one before: memory does not grow with the length of a recording.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from clara_search.audio.resample import resample
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window
from clara_search.errors import first_line
from indexer.decode.read import DecodeWindows, Loaded, LoadedItem, LoadedWindow
from indexer.ledger.failures import NOTES_SEPARATOR
from indexer.runtime.timers import StageTimer
from indexer.transcribe.model import SAMPLE_RATE, Transcriber
from indexer.transcript import Transcript, Word

BLOCK_S = 120.0
"""Longest part of a recording that is transcribed at once, in seconds."""

NO_SPEECH = "no speech"
"""The note on a recording in which nothing is said."""

_PAUSE_S = 0.5
"""A block that is not the last of its recording ends in its last pause of at least this length."""

_log = logging.getLogger(__name__)


class TranscribeStage:
    """Transcribes recordings without a text.

    Args:
        transcriber: the model.
        windows: how recordings are cut.
        timer: counts the model's time.

    Attributes:
        transcribed: number of recordings with words.
        silent: number of recordings in which nothing is said.
        failed: number of recordings that could not be transcribed.
    """

    def __init__(self, transcriber: Transcriber, windows: DecodeWindows, timer: StageTimer | None = None):
        self.transcribed = self.silent = self.failed = 0
        self._transcriber = transcriber
        self._windows = windows
        self._timer = timer or StageTimer()

    def transcribe_items(self, loaded: Iterable[Loaded]) -> Iterator[Loaded]:
        """Yield `loaded`, recordings without a text with their transcript; not windows that are only transcribed."""
        transcribers: dict[str, _RecordingTranscriber] = {}
        for part in loaded:
            of_recording = transcribers.get(part.item.key)
            if isinstance(part, LoadedWindow):
                if of_recording is None and part.item.lacks_text:
                    of_recording = transcribers[part.item.key] = _RecordingTranscriber(self._transcriber, self._windows)
                if of_recording is not None:
                    with self._timer.working():
                        of_recording.add(part.waveform)
                if part.is_embedded:
                    yield part
                continue
            transcribers.pop(part.item.key, None)
            if of_recording is None or part.state == "failed":
                yield part
            else:
                with self._timer.working():
                    finished = self._finish(part, of_recording)
                yield finished

    def _finish(self, loaded: LoadedItem, of_recording: _RecordingTranscriber) -> LoadedItem:
        spans = [span for span in loaded.windows if span is not None]
        of_recording.finish(spans)
        if of_recording.problem is not None:
            self.failed += 1
            _log.warning("not transcribed: %s: %s", loaded.item.uri, of_recording.problem)
            problem = of_recording.problem.replace(NOTES_SEPARATOR.strip(), ",")
            return replace(loaded, notes=(*loaded.notes, f"not transcribed ({problem})"))
        words = [word.shifted(spans[0].start_s) for word in of_recording.words]
        transcript = Transcript(self._transcriber.label, of_recording.language, words)
        if words:
            self.transcribed += 1
            return replace(loaded, transcript=transcript)
        self.silent += 1
        return replace(loaded, transcript=transcript, notes=(*loaded.notes, NO_SPEECH))


class _RecordingTranscriber:
    """Transcribes the windows of one recording in their order.

    Attributes:
        words: the words so far, in seconds from the start of the first window.
        language: their language.
        problem: why the recording cannot be transcribed.
    """

    def __init__(self, transcriber: Transcriber, windows: DecodeWindows):
        self.words: list[Word] = []
        self.language: str | None = None
        self.problem: str | None = None
        self._transcriber = transcriber
        self._rate = windows.sample_rate
        self._hop_s = windows.hop_s
        self._last: Waveform | None = None
        self._count = 0
        self._block: list[Waveform] = []
        self._start = self._end = 0  # of the block, in samples

    def add(self, waveform: Waveform) -> None:
        """Take the next window. The last one may have been moved back, so that each waits for the next."""
        if self._last is not None:
            self._append(self._last, round(self._count * self._hop_s * self._rate))
            self._count += 1
        self._last = waveform

    def finish(self, spans: list[Window]) -> None:
        """Transcribe what is left, with the last window; `spans` are all of them."""
        if self._last is not None:
            self._append(self._last, round((spans[-1].start_s - spans[0].start_s) * self._rate))
        if self._end > self._start:
            self._transcribe(is_last=True)

    def _append(self, window: Waveform, start: int) -> None:
        part = window[max(self._end - start, 0) :]
        self._block.append(part)
        self._end += len(part)
        if self._end - self._start >= BLOCK_S * self._rate:
            self._transcribe(is_last=False)

    def _transcribe(self, is_last: bool) -> None:
        block = np.concatenate(self._block)
        try:
            waveform = resample(block, self._rate, SAMPLE_RATE)
            speech = self._transcriber.transcribe(waveform, self.language)
        except Exception as error:  # a model may fail in any way, which costs its own recording only
            self.problem = first_line(error)
            speech = None
        words = [] if speech is None else speech.words
        kept = len(block)
        if not is_last and (pause := _last_pause(words)) is not None:
            kept = round((words[pause - 1].end_s + words[pause].start_s) / 2 * self._rate)
            words = words[:pause]
        self.words += [word.shifted(self._start / self._rate) for word in words]
        if words and speech is not None:
            self.language = self.language or speech.language
        self._block = [block[kept:]]
        self._start += kept


def _last_pause(words: list[Word]) -> int | None:
    """Return the number of the word behind the last pause, in the second half of a block; None without one."""
    for number in range(len(words) - 1, 0, -1):
        if words[number].start_s < BLOCK_S / 2:
            return None
        if words[number].start_s - words[number - 1].end_s >= _PAUSE_S:
            return number
    return None
