"""Hits: the results of a search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from clara_search.audio.waveform import Waveform
from clara_search.errors import MissingDependency, QueryError
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_HYBRID = ("relevance", "vector_rank", "text_rank", "words", "said_s")
_HIT_COLUMNS = ("id", "kind", "uri", "start_s", "end_s", "text", "language")


@dataclass(frozen=True, repr=False)
class Hit:
    """A row of the table that a search returned.

    Attributes:
        rank: 1 for the best.
        id: Id of the row, 32 hex digits.
        score: Cosine of the row and the query, rounded to six decimals.
        kind: "audio" for a window of a recording, "text" for a text.
        uri: Path or URL of the source.
        start_s: Start in seconds of the window, or of the moment that it is the best window of; None for a text.
        end_s: End in seconds; None for a text.
        text: The text of the row, or of the recording where one is known.
        language: Language of the text, such as "en".
        extra: The table's further columns.
        probability: Probability that the row is what was asked for; None where it is not known.
        is_significant: Whether some nine of ten queries for what is not there find nothing as probable; None where it
            is not known.
        best_s: Where in the moment the query is, in seconds; None for a text.
        relevance: What hits of a hybrid search are ordered by, 1 for the first of both rankings; else None.
        vector_rank: Its rank by cosine; None where that is not among the first 1,000, and in other searches.
        text_rank: Its rank by the words of its text; None where it has none of them, and in other searches.
        words: The words of the query that its text has; None in other searches.
        said_s: Second at which most of these words are said, one after the other; None where no transcript tells.
        copies: Number of rows that the hit stands for, itself included; None unless copies were folded.
        db: Database of the row; None where one table was searched.
        table: Table of the row; None where one table was searched.
    """

    rank: int
    id: str
    score: float
    kind: str
    uri: str
    start_s: float | None
    end_s: float | None
    text: str | None
    language: str | None
    extra: dict[str, Any] = field(default_factory=dict)
    probability: float | None = None
    is_significant: bool | None = None
    best_s: float | None = None
    relevance: float | None = None
    vector_rank: int | None = None
    text_rank: int | None = None
    words: list[str] | None = None
    said_s: float | None = None
    copies: int | None = None
    db: str | None = None
    table: str | None = None

    def __repr__(self) -> str:
        names = (
            "rank",
            "score",
            "probability",
            "uri",
            "start_s",
            "end_s",
            "best_s",
            *_HYBRID,
            "copies",
            "text",
            "language",
            "extra",
            "db",
            "table",
        )
        values = {name: getattr(self, name) for name in names}
        shown = (f"{name}={value!r}" for name, value in values.items() if value is not None and value != {})
        return f"Hit({', '.join(shown)})"

    def __str__(self) -> str:
        span = "" if self.start_s is None or self.end_s is None else f"  {self.start_s:.1f}-{self.end_s:.1f} s"
        return f"{self.score:.3f}  {self.uri}{span}" + (f"  {self.text}" if self.text else "")

    def audio(self, sample_rate: int = 48_000) -> tuple[Waveform, int]:
        """Return the sound of the hit, read from its recording.

        Args:
            sample_rate: Rate of the waveform in Hz.

        Returns:
            A mono waveform, shape (samples,), and its rate.

        Raises:
            QueryError: The hit is a text.
            AudioError: The recording is not there any more, or cannot be decoded.
        """
        from clara_search.retrieval.output.playback import cut

        if self.kind != "audio":
            raise QueryError(f"{self.uri}: the hit is a text, it has no sound")
        return cut(self.uri, self.start_s, self.end_s, sample_rate), sample_rate

    def save(self, path: str | Path, sample_rate: int = 48_000) -> Path:
        """Write the sound of the hit to a file.

        Args:
            path: A .wav, .flac or .ogg file.
            sample_rate: Its rate in Hz.

        Returns:
            The file.

        Raises:
            QueryError: The hit is a text.
            AudioError: The recording is not there any more, or cannot be decoded.
            OutputError: The file cannot be written.
        """
        from clara_search.retrieval.output.playback import save_waveform

        return save_waveform(path, *self.audio(sample_rate))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as `search --json` prints them.

        Returns:
            The columns of every table, then the further ones; one with the name of another field has "_" after it.
        """
        names = ["rank", "id", "score", "probability", "is_significant", *_HIT_COLUMNS[1:]]
        names.insert(names.index("end_s") + 1, "best_s")
        core = {name: getattr(self, name) for name in names}
        if self.relevance is not None:
            core |= {name: getattr(self, name) for name in _HYBRID}
        for name in ("copies", "db", "table"):
            if (value := getattr(self, name)) is not None:
                core[name] = value
        return {**core, **{f"{name}_" if name in core else name: value for name, value in self.extra.items()}}


_ATTRIBUTES = {attribute.name for attribute in fields(Hit)} - {"rank", "score", "extra"}


class Hits(list[Hit]):
    """The hits of one query, best first: a list.

    Args:
        hits: The hits.
        query: The query.
        notes: Remarks about the query and its answer, a line each, such as that nothing matches.

    Attributes:
        query: The query; None where it is not known.
        notes: The remarks.
    """

    def __init__(self, hits: Iterable[Hit] = (), query: Query | None = None, notes: Iterable[str] = ()):
        super().__init__(hits)
        self.query = query
        self.notes = list(notes)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> Hits: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Hit | Hits:
        chosen = super().__getitem__(index)
        return Hits(chosen, self.query, self.notes) if isinstance(chosen, list) else chosen

    def __repr__(self) -> str:
        from clara_search.retrieval.output.display import format_hits

        return format_hits(self.to_dicts(), self.notes)

    def _repr_html_(self) -> str:
        from clara_search.retrieval.output.display import hits_html

        return hits_html(self.to_dicts(), self.notes)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each hit, as `search --json` prints it."""
        return [hit.as_dict() for hit in self]

    def to_arrow(self) -> pa.Table:
        """Return the hits as an Arrow table, a row for each."""
        from clara_search.retrieval.output.display import hits_table

        return hits_table(self.to_dicts())

    def to_pandas(self) -> pd.DataFrame:
        """Return the hits as a pandas data frame, a row for each.

        Raises:
            MissingDependency: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependency("to_pandas needs pandas: pip install 'clara-search[pandas]'") from error
        dicts = self.to_dicts()
        return pd.DataFrame(dicts, columns=list(dict.fromkeys(name for row in dicts for name in row)) or None)


def build_hits(snapshot: Snapshot, rows: RankedRows) -> list[Hit]:
    """Build the hits of one query.

    Args:
        snapshot: The table.
        rows: The rows, best first.

    Returns:
        The hits, in this order, ranked from 1.
    """
    hits = []
    for number, (row, score) in enumerate(zip(snapshot.rows(rows.positions), rows.scores, strict=True)):
        del row["content_hash"]
        known = {name: row.pop(name) for name in _HIT_COLUMNS}
        for name, values in rows.fields.items():
            (known if name in _ATTRIBUTES else row)[name] = values[number]
        hits.append(Hit(rank=number + 1, score=float(score), **known, extra=row))
    return hits
