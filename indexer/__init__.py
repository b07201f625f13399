"""Corpora to tables: recordings and texts are decoded, cut, embedded and written, once each."""

from typing import TYPE_CHECKING

from clara_search._lazy import lazy_attributes

if TYPE_CHECKING:
    from indexer.import_export import export_embeddings, import_embeddings
    from indexer.pipeline import IndexResult, index
    from indexer.ray_executor import Ray
    from indexer.sources.memory import Recording

__all__ = ["IndexResult", "Ray", "Recording", "export_embeddings", "import_embeddings", "index"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    __all__,
    {
        "Ray": "indexer.ray_executor",
        "Recording": "indexer.sources.memory",
        "IndexResult": "indexer.pipeline",
        "export_embeddings": "indexer.import_export",
        "import_embeddings": "indexer.import_export",
        "index": "indexer.pipeline",
    },
)
