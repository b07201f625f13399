"""Open a table, search it by text, by sound or by vector, and classify its recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode import load_audio
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window
from clara_search.classification.classifier import Classification, Classifier, ZeroShotClassifier
from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import load_encoder
from clara_search.models.windows import embed_windows, mean_embedding
from clara_search.retrieval.hits import Hits
from clara_search.retrieval.options.registry import SearchOptions, make_filters
from clara_search.retrieval.pipeline import answer
from clara_search.retrieval.query import Query
from clara_search.retrieval.searcher import Searcher
from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.table import Table

_ROWS_PER_BATCH = 1024


def open(  # noqa: A001 - reads as `clara_search.open(db)`
    db: str | Path,
    table: str = DEFAULT_TABLE,
    model: str | RecordedModel | None = None,
    encoder: Encoder | None = None,
    precision: str = "auto",
    device: str | None = None,
) -> Index:
    """Open a table of a database for searching.

    Args:
        db: Folder or URL of the database.
        table: Name of the table.
        model: Name, folder or hub id of the model that embeds queries; by default the model that built the table, if it
            is bundled or on this machine. It is loaded when the first query is embedded.
        encoder: A loaded model, in place of `model`, `precision` and `device`.
        precision: Precision to load the model in, as in `load_encoder`.
        device: Device to load the model on, such as "cpu" or "cuda:1"; by default the first GPU, or else the CPU.

    Returns:
        The index.

    Raises:
        DatabaseError: There is no such database or table.
        EncoderMismatch: `encoder` is not the encoder that built the table.
    """
    return Index(Database(db).table(table), model, encoder, precision, device)


class Index:
    """A table that answers queries, made by `open`. Each query sees all commits, also those of other processes.

    Args:
        table: The table.
        model: As in `open`.
        encoder: As in `open`.
        precision: As in `open`.
        device: As in `open`.
    """

    def __init__(
        self,
        table: Table,
        model: str | RecordedModel | None = None,
        encoder: Encoder | None = None,
        precision: str = "auto",
        device: str | None = None,
    ):
        if encoder is not None:
            table.check_encoder(encoder)
        self.table = table
        self._model = model
        self._precision = precision
        self._device = device
        self._encoder = encoder
        self._searcher = Searcher(table)

    def __len__(self) -> int:
        return self.table.count()

    def __bool__(self) -> bool:
        return True  # an empty index is one

    def __repr__(self) -> str:
        return f"Index({self.table!r})"

    @property
    def encoder(self) -> Encoder:
        """The encoder of queries, loaded at first use.

        Raises:
            UnknownModel: The model cannot be found.
            EncoderMismatch: It is not the encoder that built the table.
        """
        if self._encoder is None:
            model = self._model or self.table.info.model
            encoder = load_encoder(model, precision=self._precision, device=self._device)
            self.table.check_encoder(encoder)
            self._encoder = encoder
        return self._encoder

    def search(
        self,
        query: str | None = None,
        *,
        audio: str | Path | bytes | Waveform | None = None,
        k: int = 10,
        language: str | None = None,
        exact: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Hits:
        """Search by a text or by a recording.

        An ANN index of the table answers, except for queries with `modality`, `where` or `exact`: these compare with
        every row. Equal scores are ordered by id.

        Args:
            query: A text.
            audio: A recording, in place of `query`: a path, the bytes of a file, or a mono waveform (samples,) at the
                encoder's sample rate. A long one is cut into windows as the table was; their embeddings are averaged.
            k: Maximum number of hits.
            language: Language of `query`, such as "en", for models that know languages.
            exact: Whether to compare with every row.
            **options: `modality`: only rows of this modality, "audio" or "text". `where`: only rows that pass this SQL
                filter, such as "language = 'de'".

        Returns:
            The nearest rows, best first.

        Raises:
            QueryError: The query is empty, the filter cannot be used, or k < 1.
            AudioError: The recording cannot be used.
        """
        if (query is None) == (audio is None):
            raise QueryError("a query is either a text or a recording")
        _check_k(k)
        vector = self.embed_text(query or "", language) if audio is None else self.embed_audio(audio)
        return self.search_vectors(vector[np.newaxis], k, exact=exact, **options)[0]

    def search_vectors(
        self,
        vectors: npt.NDArray[np.float32],
        k: int = 10,
        *,
        exact: bool = False,
        **options: Unpack[SearchOptions],
    ) -> list[Hits]:
        """Search by embeddings, as `search` does.

        Args:
            vectors: Unit vectors, shape (q, dim).
            k: Maximum number of hits for each.
            exact: Whether to compare with every row.
            **options: As in `search`.

        Returns:
            The hits of each vector, best first.

        Raises:
            QueryError: The vectors have another shape or are not finite, the filter cannot be used, or k < 1.
        """
        _check_k(k)
        queries = np.asarray(vectors, dtype=np.float32)
        dim = self.table.info.dim
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise QueryError(
                f"the table holds vectors of {dim} numbers; expected (queries, {dim}), got {queries.shape}"
            )
        if not np.isfinite(queries).all():
            raise QueryError("a query vector holds numbers that are not finite")
        return answer(self._searcher, [Query(query) for query in queries], k, 0, exact, make_filters(options))

    def classify(
        self,
        labels: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        *,
        audio: str | Path | bytes | Waveform | None = None,
        where: str | None = None,
        language: str | None = None,
    ) -> Iterator[Classification]:
        """Classify each window of a recording, or each audio row of the table, by its nearest label.

        Args:
            labels: The labels to choose from.
            templates: Sentences with "{}" for the label; their embeddings are averaged.
            audio: A recording, as in `search`; by default the table's audio rows are classified.
            where: Only rows of the table that pass this SQL filter.
            language: Language of the labels.

        Yields:
            A classification for each window or row; the scores are cosines.

        Raises:
            QueryError: No labels, an empty or a repeated one, a template without {}, or a bad filter.
            AudioError: The recording cannot be used.
        """
        classes = class_embeddings(self.encoder, labels, templates, language)
        yield from self.classify_with(ZeroShotClassifier(labels, classes), audio=audio, where=where)

    def classify_with(
        self, classifier: Classifier, *, audio: str | Path | bytes | Waveform | None = None, where: str | None = None
    ) -> Iterator[Classification]:
        """Classify each window of a recording, or each audio row of the table, with a classifier.

        Args:
            classifier: The classifier, over the embeddings of this table's encoder.
            audio: A recording, as in `search`; by default the table's audio rows are classified.
            where: Only rows of the table that pass this SQL filter.

        Yields:
            A classification for each window or row.

        Raises:
            QueryError: A bad filter, or a row without the text that the classifier needs.
            AudioError: The recording cannot be used.
        """
        if audio is not None:
            uri = str(Path(audio).resolve()) if isinstance(audio, (str, Path)) else ""
            for window, vector in zip(*self._embed_windows(audio), strict=True):
                yield classifier.predict(uri, window, vector)
            return
        filters = make_filters({"modality": "audio", "where": where})
        snapshot = self._searcher.snapshot()
        positions = self._searcher.filter_rows(snapshot, filters.rows)
        assert positions is not None  # one filter at least
        for start in range(0, len(positions), _ROWS_PER_BATCH):
            batch = positions[start : start + _ROWS_PER_BATCH]
            for row, vector in zip(snapshot.rows(batch), snapshot.vectors_at(batch), strict=True):
                yield classifier.predict(row["uri"], Window(row["start_s"], row["end_s"]), vector, row["text"])

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
        if not query.strip():
            raise QueryError("the query is empty")
        embedding: Embeddings = self.encoder.encode_text([query], language)[0]
        return embedding

    def embed_audio(self, audio: str | Path | bytes | Waveform) -> Embeddings:
        """Embed a recording: the mean over its windows, renormalised.

        Args:
            audio: A path, the bytes of a file, or a mono waveform at the encoder's sample rate, shape (samples,).

        Returns:
            A unit vector, shape (dim,).

        Raises:
            AudioError: The recording cannot be used.
            QueryError: The waveform is empty or not mono.
        """
        return mean_embedding(self._embed_windows(audio)[1])

    def _embed_windows(self, audio: str | Path | bytes | Waveform) -> tuple[list[Window], Embeddings]:
        waveform = audio if isinstance(audio, np.ndarray) else load_audio(audio, self.encoder.sample_rate)
        if waveform.ndim != 1 or not len(waveform):
            raise QueryError(f"a waveform must have the shape (samples,) and not be empty, got {waveform.shape}")
        return embed_windows(self.encoder, waveform, self.table.info.window_s, self.table.info.hop_s)


def _check_k(k: int) -> None:
    """Raise QueryError unless k is at least 1."""
    if k < 1:
        raise QueryError(f"the number of hits must be at least 1, got {k}")
