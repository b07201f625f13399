"""The windows of each recording of a table, in order of time, and an average of what its recordings sound like."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clara_search.models.base import Embeddings
from clara_search.retrieval.exact.scan import RowPositions

_SAMPLE = 256


class Recordings:
    """The rows of recordings in a table.

    Args:
        columns: The columns of the table, with `kind`, `uri`, `start_s` and `end_s`, each in one chunk.
    """

    def __init__(self, columns: pa.Table):
        self._columns = columns

    @cached_property
    def starts(self) -> npt.NDArray[np.float64]:
        """The start of each row in seconds; NaN for a text."""
        return _floats(self._columns["start_s"])

    @cached_property
    def ends(self) -> npt.NDArray[np.float64]:
        """The end of each row in seconds; NaN for a text."""
        return _floats(self._columns["end_s"])

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """The number of each row's recording; a text has -1."""
        uris = self._columns["uri"].combine_chunks().dictionary_encode()
        codes = uris.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        is_window = ~np.isnan(self.starts) & ~np.isnan(self.ends) & self._is_audio
        return np.where(is_window, codes, -1)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """The number of windows of each recording, by its number."""
        return np.bincount(self.codes[self.codes >= 0])

    @property
    def has_parts(self) -> bool:
        """Whether a recording has several windows."""
        return bool(len(self.counts) and self.counts.max() > 1)

    def windows(self, position: int) -> tuple[RowPositions, int]:
        """Return the windows of a row's recording.

        Args:
            position: Position of the row of a recording.

        Returns:
            The positions of all windows of its recording in order of time, and the number of the row among them.
        """
        code = self.codes[position]
        first, last = np.searchsorted(self._sorted_codes, [code, code + 1])
        windows = self._by_time[first:last]
        return windows, int(np.flatnonzero(windows == position)[0])

    def sample(self, order: RowPositions) -> RowPositions:
        """Return a row each of up to 256 recordings, evenly spaced in `order`, which ranks all rows."""
        audio = np.flatnonzero(self.codes >= 0)
        audio = audio[np.argsort(order[audio], kind="stable")]
        _, first = np.unique(self.codes[audio], return_index=True)
        ones = audio[np.sort(first)]
        return ones[np.unique(np.linspace(0, len(ones) - 1, _SAMPLE).astype(np.int64))] if len(ones) else ones

    @cached_property
    def _is_audio(self) -> npt.NDArray[np.bool_]:
        return pc.equal(self._columns["kind"], "audio").to_numpy().astype(bool)  # type: ignore[no-any-return]

    @cached_property
    def _by_time(self) -> RowPositions:
        return np.lexsort((self.ends, self.starts, self.codes))

    @cached_property
    def _sorted_codes(self) -> npt.NDArray[np.int64]:
        return self.codes[self._by_time]


def mean_vector(vectors: Embeddings) -> Embeddings:
    """Return the mean of vectors (n, dim), shape (dim,), which has no unit length; zeros for none."""
    return vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    filled = pc.fill_null(column.cast(pa.float64()), float("nan"))
    return filled.to_numpy()  # type: ignore[no-any-return]
