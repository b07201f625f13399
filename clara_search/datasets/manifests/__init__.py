"""Manifests: tables whose rows are recordings and texts, whatever their columns are called."""

from clara_search.datasets.manifests.columns import DEFAULT_COLUMNS, ManifestColumns
from clara_search.datasets.manifests.manifest import Manifest
from clara_search.datasets.manifests.rows import ManifestRow

__all__ = ["DEFAULT_COLUMNS", "Manifest", "ManifestColumns", "ManifestRow"]
