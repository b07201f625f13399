"""Search a table by text, by sound or by vector, and name its recordings by prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode import load_audio
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window
from clara_search.classification.classifier import Classification, Namer, prompt_namer
from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings
from clara_search.errors import QueryError, UnknownModel
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.registry import load_encoder
from clara_search.models.windows import embed_windows, mean_embedding
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.exact import RowPositions, top_k
from clara_search.retrieval.hits import Hit, build_hits
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.table import Table

Kind = Literal["audio", "text"]
Ranked = tuple[RowPositions, npt.NDArray[np.float64]]


def open(  # noqa: A001 - reads as `clara_search.open(db)`
    db: str | Path,
    table: str = DEFAULT_TABLE,
    model: str | None = None,
    encoder: Encoder | None = None,
    precision: str = "auto",
) -> Index:
    """Open a table of the database in folder `db` for searching.

    Queries are embedded by `encoder`, or else by the model of name, folder or hub id `model`, or else by the model that
    built the table; a model is loaded, in `precision`, when something first has to be embedded. Raises DatabaseError
    where there is no such database or table, EncoderMismatch for another encoder than the one that built it.
    """
    return Index(Database(db).table(table), model, encoder, precision)


class Index:
    """A table that answers queries. It sees what others commit, at the next query."""

    def __init__(self, table: Table, model: str | None = None, encoder: Encoder | None = None, precision: str = "auto"):
        if encoder is not None:
            table.check_encoder(encoder)
        self.table = table
        self._model = model
        self._precision = precision
        self._encoder = encoder
        self._snapshot: Snapshot | None = None
        self._ann: tuple[bytes | None, ann.AnnIndex | None] = (None, None)
        self._coverage: tuple[ann.AnnIndex, Snapshot, ann.Coverage] | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder that built the table, loaded at first use."""
        if self._encoder is None:
            try:
                encoder = load_encoder(self._model or self.table.info.encoder, precision=self._precision)
            except UnknownModel as error:
                if self._model is not None:
                    raise
                message = f"{error} (table '{self.table.name}' was built by it: say where it is with --model FOLDER)"
                raise UnknownModel(message) from error
            self.table.check_encoder(encoder)
            self._encoder = encoder
        return self._encoder

    def search(
        self,
        query: str | None = None,
        *,
        audio: str | Path | bytes | Waveform | None = None,
        k: int = 10,
        to: Kind | None = None,
        where: str | None = None,
        language: str | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Return the `k` rows nearest to a text or to a recording, best first; of equal ones the smaller id first.

        `audio` is a path, the bytes of a file, or a mono waveform at the encoder's sample rate; one longer than the
        table's window is cut as the table was, and its windows' embeddings are averaged and renormalised. `to` keeps
        rows of one kind, `where` those that pass an SQL filter. `language` is that of `query`. An ANN index answers
        where there is one, unless rows are filtered or `exact` is true: those queries compare with every row. Raises
        QueryError for an empty query, a bad filter, or k < 1; AudioError for a recording that cannot be used.
        """
        if (query is None) == (audio is None):
            raise QueryError("a query is either a text or a recording")
        _check_k(k)
        if audio is not None:
            vector = self.embed_audio(audio)
        else:
            assert query is not None
            vector = self.embed_text(query, language)
        return self.search_vectors(vector[np.newaxis], k, to=to, where=where, exact=exact)[0]

    def search_vectors(
        self,
        vectors: npt.NDArray[np.float32],
        k: int = 10,
        *,
        to: Kind | None = None,
        where: str | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """Return the hits of each of `vectors`, unit vectors of shape (q, dim), as `search` does for one query."""
        _check_k(k)
        queries = np.asarray(vectors, dtype=np.float32)
        dim = self.table.info.dim
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise QueryError(
                f"the table holds vectors of {dim} numbers; expected (queries, {dim}), got {queries.shape}"
            )
        if not np.isfinite(queries).all():
            raise QueryError("a query vector holds numbers that are not finite")
        filtered = to is not None or where is not None
        index = None if exact or filtered else self._ann_index()
        snapshot, ranked = self._exact(queries, k, to, where) if index is None else self._approximate(index, queries, k)
        return [build_hits(snapshot, *one) for one in ranked]

    def classify(
        self,
        labels: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        *,
        audio: str | Path | bytes | Waveform | None = None,
        where: str | None = None,
        language: str | None = None,
    ) -> Iterator[Classification]:
        """Yield the nearest of `labels` for each window of a recording, or else for each audio row of the table.

        `where` keeps the rows that pass an SQL filter; `language` is that of the labels. Raises QueryError as
        `class_embeddings` does and for a bad filter, AudioError for a recording that cannot be used.
        """
        classes = class_embeddings(self.encoder, labels, templates, language)
        yield from self.name(prompt_namer(labels, classes), audio=audio, where=where)

    def name(
        self, namer: Namer, *, audio: str | Path | bytes | Waveform | None = None, where: str | None = None
    ) -> Iterator[Classification]:
        """Yield what `namer` calls each window of a recording, or else each audio row of the table.

        Raises as `classify` does.
        """
        if audio is not None:
            name = str(Path(audio).resolve()) if isinstance(audio, (str, Path)) else ""
            stretches, vectors = self._embed_windows(audio)
            for stretch, vector in zip(stretches, vectors, strict=True):
                yield namer.name(name, stretch, vector)
            return
        snapshot = self._newest(vectors=True)
        assert snapshot.vectors is not None
        allowed = self._allowed(snapshot, "audio", where)
        assert allowed is not None
        for position in allowed:
            row = snapshot.rows(position[np.newaxis])[0]
            stretch = Window(row["start_s"], row["end_s"])
            yield namer.name(row["uri"], stretch, snapshot.vectors[position], row["text"])

    def embed_text(self, query: str, language: str | None = None) -> Embeddings:
        """Return the unit vector of a text, shape (dim,). Raises QueryError for an empty one."""
        if not query.strip():
            raise QueryError("the query is empty")
        embedding: Embeddings = self.encoder.encode_text([query], language)[0]
        return embedding

    def embed_audio(self, audio: str | Path | bytes | Waveform) -> Embeddings:
        """Return the unit vector of a recording, shape (dim,): the mean over its windows, renormalised."""
        return mean_embedding(self._embed_windows(audio)[1])

    def _embed_windows(self, audio: str | Path | bytes | Waveform) -> tuple[list[Window], Embeddings]:
        waveform = audio if isinstance(audio, np.ndarray) else load_audio(audio, self.encoder.sample_rate)
        if waveform.ndim != 1 or not len(waveform):
            raise QueryError(f"a waveform has the shape (samples,), and some samples; got {waveform.shape}")
        return embed_windows(self.encoder, waveform, self.table.info.window_s, self.table.info.hop_s)

    def _newest(self, vectors: bool) -> Snapshot:
        """Return the table as it is now, read again only where somebody committed since."""
        known = self._snapshot
        if known is None or known.version != self.table.version or (vectors and known.vectors is None):
            known = self._snapshot = Snapshot.read(self.table, vectors)
        return known

    def _ann_index(self) -> ann.AnnIndex | None:
        """Return the table's ANN index as it is now, read again only where it was built or dropped since."""
        stamp = ann.version_token(self.table)
        if stamp != self._ann[0]:
            self._ann = (stamp, ann.load(self.table))
        return self._ann[1]

    def _exact(self, queries: Embeddings, k: int, to: Kind | None, where: str | None) -> tuple[Snapshot, list[Ranked]]:
        snapshot = self._newest(vectors=True)
        assert snapshot.vectors is not None
        allowed = self._allowed(snapshot, to, where)
        return snapshot, top_k(queries, snapshot.vectors, k, snapshot.order, allowed)

    def _allowed(self, snapshot: Snapshot, to: Kind | None, where: str | None) -> RowPositions | None:
        if to is None and where is None:
            return None
        passes = np.ones(len(snapshot), dtype=bool) if to is None else snapshot.kind_is(to)
        if where is not None:
            found = snapshot.positions(self.table.row_ids(where))
            filtered = np.zeros(len(snapshot), dtype=bool)
            filtered[found[found >= 0]] = True
            passes &= filtered
        return np.flatnonzero(passes)

    def _approximate(self, index: ann.AnnIndex, queries: Embeddings, k: int) -> tuple[Snapshot, list[Ranked]]:
        snapshot = self._newest(vectors=False)
        if self._coverage_of(index, snapshot).unindexed.size:
            snapshot = self._newest(vectors=True)
        return snapshot, index.search(queries, k, snapshot, self._coverage_of(index, snapshot))

    def _coverage_of(self, index: ann.AnnIndex, snapshot: Snapshot) -> ann.Coverage:
        if self._coverage is None or self._coverage[0] is not index or self._coverage[1] is not snapshot:
            self._coverage = (index, snapshot, index.coverage(snapshot))
        return self._coverage[2]


def _check_k(k: int) -> None:
    """Raise QueryError unless `k` hits can be asked for."""
    if k < 1:
        raise QueryError(f"the number of hits must be at least 1, got {k}")
