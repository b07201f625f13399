"""libsndfile as a backend: files of samples (WAV, AIFF, AU, CAF ...) of all types."""

from __future__ import annotations

from collections.abc import Iterator

import soundfile

from clara_search.audio.decode.blocks import Block, Facts
from clara_search.audio.decode.headers import find_data
from clara_search.audio.decode.source import AudioSource

_BLOCK_SAMPLES = 1 << 17
_NAMED_CHANNELS = 2
_CODED = frozenset({"FLAC", "OGG", "MPEG"})
_LEFT_TO_OTHERS = ("ALAC", "MPEG")


class LeftToOthers(Exception):
    """A file of several channels, whose names libsndfile does not tell, or of a codec that it ends early."""


class EndsElsewhere(Exception):
    """A file whose header states a length that its data do not have."""


def read_sndfile(source: AudioSource, facts: Facts, is_last_resort: bool = False) -> Iterator[Block]:
    """Yield the blocks of a file.

    Args:
        source: The file.
        facts: Gets the duration that the file states.
        is_last_resort: Whether nobody else can read it: then channels without names are better than nothing.

    Raises:
        LibsndfileError: It cannot be decoded.
        LeftToOthers: It has more than two channels, or is coded.
        EndsElsewhere: Its header states too small a length, by which libsndfile goes.
    """
    data = find_data(source)
    if data is not None and data.overrides and data.fmt and not is_last_resort:
        raise EndsElsewhere
    with source.open() as content, soundfile.SoundFile(content) as file:
        if (file.channels > _NAMED_CHANNELS or file.subtype.startswith(_LEFT_TO_OTHERS)) and not is_last_resort:
            raise LeftToOthers
        rate, decoded = file.samplerate, 0
        facts.is_lossy = file.format in _CODED
        # Not a file's round number of samples: streams of unknown length state 2 ** 63 - 1.
        step = max(1, _BLOCK_SAMPLES // file.channels)
        while len(samples := file.read(step, dtype="float32", always_2d=True)):
            decoded += len(samples)
            yield Block(samples.T, rate)
    if data is not None and rate:
        facts.is_cut = data.cut_share > 1
        facts.declared_s = decoded / rate * data.cut_share
