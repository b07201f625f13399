"""Open tables, search them by text, by sound, by vector or by example, and classify their recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Unpack, overload

from clara_search.errors import QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.recorded import RecordedModel
from clara_search.retrieval.classifying import Classifying
from clara_search.retrieval.hits import Hits
from clara_search.retrieval.locate import locate
from clara_search.retrieval.options.registry import SearchOptions, make_filters
from clara_search.retrieval.pipeline import answer
from clara_search.retrieval.queries.arrays import Audio, to_unit_vectors
from clara_search.retrieval.queries.combine import QueryMaker, SearchArguments, Weighted
from clara_search.retrieval.queries.embedding import audio_query, embed_text
from clara_search.retrieval.query import Query
from clara_search.store.database import DEFAULT_TABLE, Database


def open(  # noqa: A001 - reads as `clara_search.open(db)`
    db: str | Path | Sequence[str | Path],
    table: str | Sequence[str] = DEFAULT_TABLE,
    model: str | RecordedModel | None = None,
    encoder: Encoder | None = None,
    precision: str = "auto",
    device: str | None = None,
) -> Index:
    """Open a table of a database for searching, or several tables of one model.

    Args:
        db: Folder or URL of the database, or several.
        table: Name of the table, or of several; of each database all of them are opened.
        model: Name, folder or hub id of the model that embeds queries; by default the model that built the table, if it
            is bundled or on this machine. It is loaded when the first query is embedded.
        encoder: A loaded model, in place of `model`, `precision` and `device`.
        precision: Precision to load the model in, as in `load_encoder`.
        device: Device to load the model on, such as "cpu" or "cuda:1"; by default the first GPU, or else the CPU.

    Returns:
        The index.

    Raises:
        QueryError: No database or no table is named.
        DatabaseError: There is no such database or table.
        EncoderMismatch: `encoder` is not the encoder that built the table, or the tables are of several.
    """
    paths = [db] if isinstance(db, (str, Path)) else list(db)
    names = [table] if isinstance(table, str) else list(table)
    if not paths or not names:
        raise QueryError("name at least one database and one table")
    databases = {database.location: database for database in map(Database, paths)}
    tables = [database.table(name) for database, name in product(databases.values(), dict.fromkeys(names))]
    return Index(tables, model, encoder, precision, device)


class Index(Classifying):
    """Tables that answer queries, made by `open`. Each query sees all commits, also those of other processes.

    Threads may share it, a forked process may use its parent's, and it can be pickled: it is then opened anew.

    Args:
        table: The table, or several that one encoder built.
        model: As in `open`.
        encoder: As in `open`.
        precision: As in `open`.
        device: As in `open`.
    """

    @overload
    def search(
        self,
        query: str | None = None,
        *,
        audio: Audio | None = None,
        id: str | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: str | Iterable[str] | None = None,
        *,
        audio: Audio | list[Audio] | None = None,
        id: str | Iterable[str] | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> Hits | list[Hits]: ...

    def search(
        self,
        query: str | Iterable[str] | None = None,
        *,
        audio: Audio | list[Audio] | None = None,
        id: str | Iterable[str] | None = None,  # noqa: A002 - the name of the column
        vector: object = None,
        plus: Weighted | Sequence[Weighted] = (),
        minus: Weighted | Sequence[Weighted] = (),
        k: int = 10,
        offset: int = 0,
        sample_rate: int | None = None,
        language: str | None = None,
        exact: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Hits | list[Hits]:
        """Search by a text, a recording, a row of the table, a vector, or several of these together.

        An ANN index of the table answers, except for queries with `modality`, `where` or `exact`: these compare with
        every row. Equal scores are ordered by id.

        Args:
            query: A text; or several, each with an answer of its own.
            audio: A recording: a path, the bytes of a file, a mono waveform as an array or tensor, shape (samples,), or
                a pair of waveform and rate; or a list of several. A long one is cut into windows as the table was;
                their embeddings are averaged. Beside `query` the two are added.
            id: Id of a row, to find what is like it, itself left out; or several.
            vector: An embedding, shape (dim,).
            plus: Texts to add, as "TEXT", "TEXT:WEIGHT" or (TEXT, WEIGHT).
            minus: Texts to lead away from.
            k: Maximum number of hits.
            offset: Number of best hits to leave out.
            sample_rate: Rate in Hz of waveforms that come without one; by default the encoder's.
            language: Language of the texts, such as "en", for models that know languages.
            exact: Whether to compare with every row.
            **options: `modality`: only rows of this modality, "audio" or "text". `where`: only rows that pass this SQL
                filter, such as "language = 'de'". `per_recording`: how many moments of a recording, of neighbouring
                windows, 1 by default; 0: every window. `distinct`: whether copies are one hit.
                `hybrid`: rank also by the words of texts. `text_weight`: their weight in it, 0 to 1, 0.5 by default;
                1: by words alone. `diversity`: weight of
                differing from the hits above, 0 to 1. `min_probability`: only hits that match with this probability.

        Returns:
            The hits, best first; a list of such where `query`, `audio` or `id` are several.

        Raises:
            QueryError: The query is empty, the filter cannot be used, or k < 1.
            AudioError: The recording cannot be used.
        """
        _check_counts(k, offset)
        maker = QueryMaker(lambda: self.encoder, self.table.info, self._query_of)
        queries, is_several = maker.make(query, audio, id, vector, plus, minus, sample_rate, language)
        results = self._answer(queries, k, offset, exact, options)
        return results if is_several else results[0]

    def search_vectors(
        self, vectors: object, k: int = 10, *, offset: int = 0, exact: bool = False, **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Search by embeddings, as `search` does.

        Args:
            vectors: Vectors of any length above 0, shape (q, dim): an array, a tensor or a list.
            k: Maximum number of hits for each.
            offset: Number of best hits to leave out.
            exact: Whether to compare with every row.
            **options: As in `search`.

        Returns:
            The hits of each vector, best first.

        Raises:
            QueryError: The vectors have another shape, are zero or not finite, the filter cannot be used, or k < 1.
        """
        _check_counts(k, offset)
        queries = [Query(vector) for vector in to_unit_vectors(vectors, self.table.info.dim)]
        return self._answer(queries, k, offset, exact, options)

    def locate(self, hits: Hits) -> Hits:
        """Look for the query within each hit, through windows of two seconds of the recording itself.

        Args:
            hits: The answer of a search.

        Returns:
            The hits with `best_s` to about half a second; a recording that cannot be read leaves a note.
        """
        return locate(self.encoder, hits)

    def embed_text(self, query: str, language: str | None = None) -> Embeddings:
        """Embed a text.

        Args:
            query: The text.
            language: Its language, such as "en", for models that know languages.

        Returns:
            A unit vector, shape (dim,).

        Raises:
            QueryError: The text is empty.
        """
        return embed_text(self.encoder, query, language)

    def embed_audio(self, audio: Audio, sample_rate: int | None = None) -> Embeddings:
        """Embed a recording: the mean over its windows, renormalised.

        Args:
            audio: A recording, as in `search`.
            sample_rate: Rate in Hz of a waveform that comes without one; by default the encoder's.

        Returns:
            A unit vector, shape (dim,).

        Raises:
            AudioError: The recording cannot be used.
            QueryError: The waveform is empty or not mono.
        """
        return audio_query(self.encoder, self.table.info, audio, sample_rate).vector

    def _answer(self, queries: Sequence[Query], k: int, offset: int, exact: bool, options: SearchOptions) -> list[Hits]:
        self._check_process()
        return answer(self._searchers, queries, int(k), int(offset), exact, make_filters(options))


def _check_counts(k: int, offset: int) -> None:
    """Raise QueryError unless `k` and `offset` are whole numbers, at least 1 and 0."""
    for count, least, what in ((k, 1, "number of hits"), (offset, 0, "offset")):
        if isinstance(count, bool) or not hasattr(count, "__index__") or count < least:
            raise QueryError(f"the {what} must be a whole number, at least {least}, got {count!r}")
