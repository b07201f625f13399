"""Find moments in a pile of sound by text, by sound and by prompt."""

from typing import TYPE_CHECKING

from clara_search.errors import (
    AudioError,
    ClaraError,
    DatabaseError,
    EncoderMismatch,
    FormatError,
    QueryError,
    UnknownModel,
)
from clara_search.lazy import imported_when_asked

if TYPE_CHECKING:
    from clara_search.encoder import Encoder, load_encoder
    from clara_search.search import Hit, Index, open  # noqa: A004 - `clara_search.open(db)` reads as what it does

__all__ = [
    "AudioError",
    "ClaraError",
    "DatabaseError",
    "Encoder",
    "EncoderMismatch",
    "FormatError",
    "Hit",
    "Index",
    "QueryError",
    "UnknownModel",
    "load_encoder",
    "open",
]

__getattr__ = imported_when_asked(
    __name__,
    {
        "Encoder": "clara_search.encoder",
        "Hit": "clara_search.search",
        "Index": "clara_search.search",
        "load_encoder": "clara_search.encoder",
        "open": "clara_search.search",
    },
)
