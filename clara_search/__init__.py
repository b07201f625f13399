"""Find moments in a pile of sound by text, by sound and by prompt."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clara_search.errors import (
    AudioError,
    ClaraError,
    DatabaseError,
    EncoderMismatch,
    FormatError,
    QueryError,
    UnknownModel,
)

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

_HOMES = {
    "Encoder": "clara_search.encoder",
    "Hit": "clara_search.search",
    "Index": "clara_search.search",
    "load_encoder": "clara_search.encoder",
    "open": "clara_search.search",
}


def __getattr__(name: str) -> Any:
    """Load what needs numpy, torch or LanceDB only when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'clara_search' has no attribute {name!r}")
