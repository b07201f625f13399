"""Corpora to tables: recordings and texts are decoded, cut, embedded and written, once each."""

from typing import TYPE_CHECKING

from clara_search.lazy import imported_when_asked

if TYPE_CHECKING:
    from indexer.exchange import export_embeddings, import_embeddings
    from indexer.pipeline import Summary, index
    from indexer.ray_engine import Ray
    from indexer.sources import Recording

__all__ = ["Ray", "Recording", "Summary", "export_embeddings", "import_embeddings", "index"]

__getattr__ = imported_when_asked(
    __name__,
    {
        "Ray": "indexer.ray_engine",
        "Recording": "indexer.sources",
        "Summary": "indexer.pipeline",
        "export_embeddings": "indexer.exchange",
        "import_embeddings": "indexer.exchange",
        "index": "indexer.pipeline",
    },
)
