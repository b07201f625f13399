"""Plain 16-bit WAV files, without a library: libsndfile reads memory through Python, a few kilobytes a call."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from clara_search.audio.decode.blocks import Block, Facts, to_float
from clara_search.audio.decode.headers import DataChunk, find_data
from clara_search.audio.decode.source import AudioSource
from clara_search.audio.waveform import LOWEST_RATE
from clara_search.files.limits import AUDIO_RATE

_BLOCK_BYTES = 1 << 18
"""Larger blocks leave the processor's cache before they are mixed."""

_PCM, _EXTENSIBLE = 1, 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_MOST_CHANNELS = 8
_MASK = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC")
"""Channels by the bits of a WAV file's channel mask."""


class NotPlain(Exception):
    """A file that is no WAV file of 16-bit samples."""


def read_pcm(source: AudioSource, facts: Facts) -> Iterator[Block]:
    """Yield the blocks of a plain WAV file, the samples that libsndfile gives. Raises NotPlain for all others."""
    data = find_data(source)
    layout = _plain_layout(data) if data is not None else None
    if data is None or layout is None:
        raise NotPlain
    _, channels, rate = struct.unpack("<HHI", data.fmt[:8])
    frame = 2 * channels
    facts.is_cut = data.cut_share > 1
    if data.declared:
        facts.declared_s = data.declared // frame / rate
    end = data.start + data.size - data.size % frame
    step = _BLOCK_BYTES - _BLOCK_BYTES % frame
    with source.open() as file:
        file.seek(data.start)
        for start in range(data.start, end, step):
            samples = np.frombuffer(
                content := file.read(min(step, end - start)), "<i2", len(content) // frame * channels
            )
            yield Block(to_float(samples.reshape(-1, channels).T if channels > 1 else samples[None]), rate, layout)


def _plain_layout(data: DataChunk) -> tuple[str, ...] | None:
    """Return the names of the channels, () if they have none; None for a file that is not plain."""
    if len(data.fmt) < 16 or not data.size:
        return None
    tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", data.fmt[:16])
    is_plain = (bits, block) == (16, 2 * channels) and 1 <= channels <= _MOST_CHANNELS
    if not is_plain or not LOWEST_RATE <= rate <= AUDIO_RATE.value:
        return None
    if tag == _PCM:
        return ()
    if tag != _EXTENSIBLE or len(data.fmt) < 40 or data.fmt[24:40] != _PCM_GUID:
        return None
    valid_bits, mask = struct.unpack("<HI", data.fmt[18:24])
    names = tuple(name for bit, name in enumerate(_MASK) if mask >> bit & 1)
    if valid_bits not in (0, 16):
        return None
    return names if len(names) == channels else ()
