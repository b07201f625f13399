"""Embed what people search by: texts, recordings, and combinations of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clara_search.audio.decode import load_audio
from clara_search.audio.resample import resample
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings, Encoder, takes_language
from clara_search.models.windows import embed_windows, mean_embedding
from clara_search.retrieval.queries.arrays import Audio, with_rate
from clara_search.retrieval.query import Query
from clara_search.store.schema import TableInfo
from clara_search.text.languages import is_specified

SILENCE = 10 ** (-80 / 20)
"""The peak of a recording below which it is called silent: -80 dB of full scale."""

SHORTEST_S = 0.1
"""Seconds below which a recording is called short."""

_MANY_WORDS = 200


def embed_text(encoder: Encoder, text: str, language: str | None = None) -> Embeddings:
    """Embed a text.

    Args:
        encoder: The encoder.
        text: The text.
        language: Its language, such as "en".

    Returns:
        A unit vector, shape (dim,).

    Raises:
        QueryError: The text is empty or no Unicode, or a language is given to a model that does not know languages.
    """
    if not isinstance(text, str):
        raise QueryError(f"a text is expected, got {type(text).__name__}")
    if not text.replace("\0", "").strip():
        raise QueryError("the query is empty")
    if is_specified(language) and not takes_language(encoder):
        raise QueryError(f"model {encoder.name} does not distinguish languages: leave `language` out")
    embedding: Embeddings = encoder.encode_text([text], language)[0]
    return embedding


def text_query(encoder: Encoder, text: str, language: str | None = None) -> Query:
    """Return the query for a text. Raises QueryError as `embed_text` does."""
    vector = embed_text(encoder, text, language)
    words = len(text.split())
    long = (f"the query has {words} words: models read the first hundred or so",) if words > _MANY_WORDS else ()
    return Query(vector, "text", text, long, words=text)


def audio_query(encoder: Encoder, info: TableInfo, audio: Audio, sample_rate: int | None = None) -> Query:
    """Return the query for a recording: the mean of the embeddings of its windows.

    Args:
        encoder: The encoder.
        info: The windows of the table.
        audio: The recording.
        sample_rate: Rate in Hz of a waveform that comes without one; None: the encoder's, and the query says so.

    Returns:
        The query.

    Raises:
        AudioError: The recording cannot be used.
        QueryError: The waveform cannot be used.
    """
    waveform, warnings = read_waveform(encoder, audio, sample_rate)
    _, vectors = embed_windows(encoder, waveform, info.window_s, info.hop_s)
    label = Path(audio).name if isinstance(audio, (str, Path)) else "recording"
    return Query(mean_embedding(vectors), "audio", label, warnings)


def read_waveform(encoder: Encoder, audio: Audio, sample_rate: int | None = None) -> tuple[Waveform, tuple[str, ...]]:
    """Return a recording at the encoder's rate, and what is wrong with it as a query.

    Raises:
        AudioError: The recording cannot be used.
        QueryError: The waveform cannot be used.
    """
    content, rate = with_rate(audio, sample_rate)
    warnings = []
    if not isinstance(content, np.ndarray):
        waveform = load_audio(content, encoder.sample_rate)
    else:
        waveform = content if rate is None else resample(content, rate, encoder.sample_rate)
        if rate is None:
            warnings.append(
                f"the waveform is taken for one of {encoder.sample_rate} Hz; give `sample_rate` if it is not"
            )
    seconds = len(waveform) / encoder.sample_rate
    if float(np.abs(waveform).max()) < SILENCE:
        warnings.append("the recording is silent: what it finds means little")
    elif seconds < SHORTEST_S:
        warnings.append(f"the recording lasts {seconds:.3f} s: what it finds means little")
    return waveform, tuple(warnings)


def embed_parts(
    encoder: Encoder, info: TableInfo, audio: Audio, sample_rate: int | None = None
) -> tuple[list[Window], Embeddings]:
    """Return the windows of a recording and their embeddings, shape (windows, dim). Raises as `read_waveform` does."""
    waveform, _ = read_waveform(encoder, audio, sample_rate)
    return embed_windows(encoder, waveform, info.window_s, info.hop_s)
