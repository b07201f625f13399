"""Find moments in a pile of sound by text, by sound and by prompt."""

from typing import TYPE_CHECKING

from clara_search._lazy import lazy_attributes
from clara_search.errors import (
    AudioError,
    ClaraError,
    ConfigError,
    DatabaseError,
    EncoderMismatch,
    FormatError,
    MissingDependency,
    OutputError,
    QueryError,
    SourceError,
    UnknownModel,
)

if TYPE_CHECKING:
    from clara_search.models.base import Encoder
    from clara_search.models.registry import load_encoder
    from clara_search.retrieval.hits import Hit
    from clara_search.retrieval.index import Index, open  # noqa: A004 - `clara_search.open(db)` reads as what it does

__all__ = [
    "AudioError",
    "ClaraError",
    "ConfigError",
    "DatabaseError",
    "Encoder",
    "EncoderMismatch",
    "FormatError",
    "Hit",
    "Index",
    "MissingDependency",
    "OutputError",
    "QueryError",
    "SourceError",
    "UnknownModel",
    "load_encoder",
    "open",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Encoder": "clara_search.models.base",
        "Hit": "clara_search.retrieval.hits",
        "Index": "clara_search.retrieval.index",
        "load_encoder": "clara_search.models.registry",
        "open": "clara_search.retrieval.index",
    },
)
