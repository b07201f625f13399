"""The option `modality`: rows of recordings, or rows of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from clara_search.errors import QueryError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from clara_search.retrieval.snapshot import Snapshot
    from clara_search.store.table import Table

Modality = Literal["audio", "text"]


class ModalityFilter:
    """Keeps rows of one modality."""

    help: ClassVar[str] = "Only rows of this modality."
    metavar: ClassVar[str | None] = None

    def __init__(self, value: Modality) -> None:
        if value not in ("audio", "text"):
            raise QueryError(f"modality must be 'audio' or 'text', got {value!r}")
        self.modality = value

    def mask(self, table: Table, snapshot: Snapshot) -> npt.NDArray[np.bool_]:
        """Return a flag for each row: whether its kind is the modality."""
        return snapshot.kind_is(self.modality)
