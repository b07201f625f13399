"""ANN backends by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from clara_search.errors import QueryError

if TYPE_CHECKING:
    from clara_search.retrieval.ann.base import AnnBackend

BACKENDS = {
    "flat": ("clara_search.retrieval.ann.flat:FlatBackend", "compares with every row"),
    "ivf": ("clara_search.retrieval.ann.ivf:IvfBackend", "visits the nearest lists of rows"),
}
"""For each backend "module:class", imported when the backend is used, and its summary for `--help`."""

AUTO = "auto"
"""The name under which `build` chooses a backend by the size of the table."""

IVF_MIN_ROWS = 20_000  # below, comparing with every row takes a few milliseconds


def default_backend(num_rows: int) -> str:
    """Return the name of the backend for a table of `num_rows` rows."""
    return "ivf" if num_rows >= IVF_MIN_ROWS else "flat"


def load_backend(name: str) -> type[AnnBackend]:
    """Import the backend of that name.

    Args:
        name: A key of `BACKENDS`.

    Returns:
        The class.

    Raises:
        QueryError: There is no backend of that name.
    """
    if name not in BACKENDS:
        raise QueryError(f"no ANN backend {name!r}: choose from {', '.join(BACKENDS)}")
    module, attribute = BACKENDS[name][0].split(":")
    backend: type[AnnBackend] = getattr(import_module(module), attribute)
    return backend
