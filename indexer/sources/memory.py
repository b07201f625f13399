"""Recordings in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.sources.item import InMemoryWaveform, Item


@dataclass(frozen=True)
class Recording:
    """A waveform in memory.

    Attributes:
        uri: name of the recording; indexing it again under the same name replaces its rows.
        waveform: floating point samples, shape (samples,) or (samples, channels).
        sample_rate: Hz.
        text: what is said or heard, if known.
        language: code of the text's language.
        columns: values of further columns.
    """

    uri: str
    waveform: npt.NDArray[np.floating[Any]]
    sample_rate: int
    text: str | None = None
    language: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def to_item(self) -> Item:
        """Return the recording as an item."""
        content = InMemoryWaveform(self.waveform, self.sample_rate)
        columns = {name: value for name, value in self.columns.items() if value is not None}
        return Item("", "audio", self.uri, None, self.text, self.language, columns=columns, content=content)
