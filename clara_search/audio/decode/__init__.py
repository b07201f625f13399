"""One decoder for all recordings: every format, to the real end of the data, in memory that does not grow.

    bytes -> backend (FFmpeg, libsndfile, plain PCM) -> blocks -> one mix -> soxr -> blocks of mono at the wanted rate

`stream_audio` yields the blocks, with their position in the recording; `load_audio` and `decode_audio` join them.
"""

from clara_search.audio.decode.formats import AUDIO_SUFFIXES, looks_like_audio
from clara_search.audio.decode.load import DecodedAudio, decode_audio, load_audio
from clara_search.audio.decode.source import AudioSource
from clara_search.audio.decode.stream import AudioStream, stream_audio

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioSource",
    "AudioStream",
    "DecodedAudio",
    "decode_audio",
    "load_audio",
    "looks_like_audio",
    "stream_audio",
]
