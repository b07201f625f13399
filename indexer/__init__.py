"""Corpora to tables: recordings and texts are decoded, cut, embedded and written, once each."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.exchange import export_embeddings, import_embeddings
    from indexer.pipeline import Summary, index
    from indexer.sources import Recording

__all__ = ["Recording", "Summary", "export_embeddings", "import_embeddings", "index"]

_HOMES = {
    "Recording": "indexer.sources",
    "Summary": "indexer.pipeline",
    "export_embeddings": "indexer.exchange",
    "import_embeddings": "indexer.exchange",
    "index": "indexer.pipeline",
}


def __getattr__(name: str) -> Any:
    """Load what needs numpy, torch or LanceDB only when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'indexer' has no attribute {name!r}")
