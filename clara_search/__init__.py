"""Find moments in a pile of sound by text, by sound and by prompt."""

from typing import TYPE_CHECKING

from clara_search._lazy import lazy_attributes
from clara_search.errors import (
    AudioError,
    ClaraError,
    ConfigError,
    DatabaseError,
    DeviceError,
    EncoderMismatch,
    FormatError,
    MissingDependency,
    OutputError,
    QueryError,
    SourceError,
    UnknownModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from clara_search.classification.base import Classification, Classifier
    from clara_search.classification.classifier import HeadClassifier, ZeroShotClassifier
    from clara_search.classification.labels import read_labels
    from clara_search.classification.neighbours import NeighbourClassifier
    from clara_search.files.limits import limits
    from clara_search.models.base import Encoder
    from clara_search.models.registry import load_encoder
    from clara_search.retrieval.hits import Hit, Hits
    from clara_search.retrieval.index import Index, open  # noqa: A004 - `clara_search.open(db)` reads as what it does
    from clara_search.store.database import Database
    from clara_search.store.table import Table

    index: Callable[..., Any]  # `indexer.index`, which the library names as a string: it imports no sibling package

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "ClaraError",
    "Classification",
    "Classifier",
    "ConfigError",
    "Database",
    "DatabaseError",
    "DeviceError",
    "Encoder",
    "EncoderMismatch",
    "FormatError",
    "HeadClassifier",
    "Hit",
    "Hits",
    "Index",
    "MissingDependency",
    "NeighbourClassifier",
    "OutputError",
    "QueryError",
    "SourceError",
    "Table",
    "UnknownModel",
    "ZeroShotClassifier",
    "__version__",
    "index",
    "limits",
    "load_encoder",
    "open",
    "read_labels",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    __all__,
    {
        "Classification": "clara_search.classification.base",
        "Classifier": "clara_search.classification.base",
        "Database": "clara_search.store.database",
        "Encoder": "clara_search.models.base",
        "HeadClassifier": "clara_search.classification.classifier",
        "Hit": "clara_search.retrieval.hits",
        "Hits": "clara_search.retrieval.hits",
        "Index": "clara_search.retrieval.index",
        "NeighbourClassifier": "clara_search.classification.neighbours",
        "Table": "clara_search.store.table",
        "ZeroShotClassifier": "clara_search.classification.classifier",
        "index": "indexer.pipeline",
        "limits": "clara_search.files.limits",
        "load_encoder": "clara_search.models.registry",
        "open": "clara_search.retrieval.index",
        "read_labels": "clara_search.classification.labels",
    },
)
