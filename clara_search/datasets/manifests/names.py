"""Names that the field gives to the columns of manifests, and what their values look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.files.paths import suffix_of

PATH_NAMES = (
    *("path", "url", "filename", "filepath", "audiofilepath", "audiofilename", "audiopath", "audiofile", "audiourl"),
    *("wavpath", "wavfile", "wavfilename", "wavfilepath", "mp3path", "mp3file", "mp3filename", "soundpath"),
    *("soundfile", "clippath", "recordingpath", "filepathname"),
)
"""Names of columns of recordings, in lower case and without `_`, `-` and blanks."""

MAYBE_PATH_NAMES = (
    *("file", "audio", "speech", "sound", "wav", "mp3", "flac", "ogg", "opus", "recording", "clip", "music", "song"),
    *("track", "utt", "uri", "fname", "name", "slicefilename", "location", "media", "src", "link"),
)
"""Names of columns that are recordings where their values are names of audio files."""

STEM_NAMES = ("id", "fileid", "clipid", "audioid", "soundid", "utteranceid", "uttid", "key", "ytid")
"""Names of columns that are recordings where files of their values lie beside the manifest."""

TEXT_NAMES = (
    *("text", "sentence", "caption", "captions", "transcription", "transcript", "transcripts", "rawtext"),
    *("rawtranscription", "normalizedtext", "normalisedtext", "normalizedtranscription", "utterance", "description"),
)
"""Names of columns of texts, the most usual first."""

SPOKEN_NAMES = ("text", "sentence", "transcription", "transcript")
"""Names of columns that are texts also where their values are numbers: somebody says digits."""

START_NAMES, END_NAMES = ("offset", "start", "starttime"), ("end", "endtime")
DURATION_NAMES = ("duration", "durations", "durationseconds", "dur")

NUMBERED_TEXT = re.compile(r"(?:raw)?(?:caption|text|sentence|transcript|transcription|description)s?(\d+)")
_NOT_IN_NAMES = re.compile(r"[\s_\-.]+")
NAMELESS = re.compile(r"(unnamed: \d+|__index_level_\d+__|)", re.IGNORECASE)
"""Columns without a name, as pandas reads and writes its index, and as a comma at the end of the header makes them."""

_SAMPLE = 64
_LONGEST_NAME = 4096


def looks_like_audio_name(value: str) -> bool:
    """Tell whether a text is the name of an audio file by its suffix."""
    if len(value) > _LONGEST_NAME or "\n" in value:
        return False
    try:
        return suffix_of(value) in AUDIO_SUFFIXES
    except ValueError:  # no URL
        return False


def squash(name: str) -> str:
    """Return a name as the lists of this module have it."""
    return _NOT_IN_NAMES.sub("", name.lower())


def sample(rows: Sequence[Sequence[Any]], position: int) -> list[Any]:
    """Return some values of a column that are not missing."""
    return list(islice((row[position] for row in rows if row[position] is not None), _SAMPLE))


def are_audio_names(values: Sequence[Any]) -> bool:
    """Tell whether at least half of the values are names of audio files."""
    named = sum(isinstance(value, str) and looks_like_audio_name(value) for value in values)
    return 2 * named >= max(1, len(values))


def are_texts(values: Sequence[Any]) -> bool:
    """Tell whether the values may be texts, or lists of texts."""
    return not values or any(isinstance(value, (str, list)) for value in values)


def are_times(values: Sequence[Any]) -> bool:
    """Tell whether the values are times in seconds."""
    try:
        return bool(values) and all(float(value) >= 0 for value in values)
    except (TypeError, ValueError):
        return False
