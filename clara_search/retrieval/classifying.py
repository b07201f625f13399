"""Classify the windows of a recording, or the audio rows of tables, and write labels into these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from clara_search.audio.windows import Window
from clara_search.classification.base import Classification, Classifier, Recorded
from clara_search.classification.classifier import ZeroShotClassifier
from clara_search.classification.neighbours import DEFAULT_NEIGHBOURS, NeighbourClassifier
from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings
from clara_search.errors import EncoderMismatch, QueryError
from clara_search.retrieval.exact.scan import RowPositions
from clara_search.retrieval.labels.examples import read_examples
from clara_search.retrieval.labels.match import match_probabilities
from clara_search.retrieval.labels.writing import LabelColumns, RowLabels, WrittenLabels
from clara_search.retrieval.opened import OpenTables
from clara_search.retrieval.options.registry import make_filters
from clara_search.retrieval.queries.arrays import Audio
from clara_search.retrieval.queries.embedding import embed_parts
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot

_ROWS_PER_BATCH = 1024
_SCORES_PER_BATCH = 1 << 18
_ROWS_PER_COMMIT = 8192


class Classifying(OpenTables):
    """Open tables whose recordings can be classified."""

    def classify(
        self,
        labels: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        *,
        audio: Audio | None = None,
        where: str | None = None,
        language: str | None = None,
        multi_label: bool = False,
        min_probability: float | None = None,
    ) -> Iterator[Classification]:
        """Classify each window of a recording, or each audio row of the table, by its nearest label.

        Args:
            labels: The labels to choose from.
            templates: Sentences with "{}" for the label; their embeddings are averaged.
            audio: A recording, as in `search`; by default the table's audio rows are classified.
            where: Only rows of the table that pass this SQL filter.
            language: Language of the labels.
            multi_label: Whether any number of labels may be right: then scores are probabilities of a match, each
                independent of the other labels.
            min_probability: Give no label whose probability of a match is lower.

        Yields:
            A classification for each window or row; the scores are cosines unless `multi_label`.

        Raises:
            QueryError: No labels, an empty or a repeated one, a template without {}, a bad filter, or probabilities of
                a table that is too small for them.
            AudioError: The recording cannot be used.
        """
        needs_match = multi_label or min_probability is not None
        classifier = self.prompt_classifier(labels, templates, language, multi_label=multi_label, match=needs_match)
        if min_probability is not None:
            classifier = classifier.with_threshold(min_probability)
        yield from self.classify_with(classifier, audio=audio, where=where)

    def prompt_classifier(
        self,
        labels: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        language: str | None = None,
        *,
        multi_label: bool = False,
        match: bool = False,
    ) -> ZeroShotClassifier:
        """Return the classifier of labels as prompts.

        Args:
            labels: The labels to choose from.
            templates: Sentences with "{}" for the label; their embeddings are averaged.
            language: Language of the labels.
            multi_label: Whether any number of labels may be right.
            match: Whether it shall know the probability that a label matches, from the table's own background; a table
                of fewer than 32 recordings has none.

        Returns:
            The classifier.

        Raises:
            QueryError: No labels, an empty or a repeated one, a template without {}, or `multi_label` for a table
                that is too small for probabilities.
        """
        classes = class_embeddings(self.encoder, labels, templates, language)
        if not (match or multi_label):
            return ZeroShotClassifier(labels, classes)
        probabilities = match_probabilities(self._searchers, lambda: self.encoder, classes)
        if multi_label and probabilities is None:
            raise QueryError(
                f"table '{self.table.name}' has too few recordings for probabilities, and `multi_label` needs them"
            )
        return ZeroShotClassifier(labels, classes, match=probabilities, is_multi_label=multi_label)

    def neighbour_classifier(
        self,
        column: str,
        k: int = DEFAULT_NEIGHBOURS,
        *,
        multi_label: bool = False,
        examples: OpenTables | None = None,
    ) -> NeighbourClassifier:
        """Return the classifier of the nearest labelled rows.

        Args:
            column: The column with the labels.
            k: Number of neighbours.
            multi_label: Whether any number of labels may be right.
            examples: Where the labelled rows are, of the same encoder; by default in this table.

        Returns:
            The classifier.

        Raises:
            QueryError: There is no such column, it holds no labels, or k < 1.
            EncoderMismatch: The examples were built by another model.
        """
        tables = self.tables if examples is None else examples.tables
        for table in tables:
            if table.info.fingerprint != self.table.info.fingerprint:
                raise EncoderMismatch(
                    f"{table!r} and {self.table!r} were built by different models: their vectors cannot be compared"
                )
        return NeighbourClassifier(read_examples(tables, column, multi_label), k, multi_label)

    def classify_with(
        self, classifier: Classifier, *, audio: Audio | None = None, where: str | None = None
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
            windows, vectors = embed_parts(self.encoder, self.table.info, audio)
            yield from classifier.predict_all([Recorded(uri, window) for window in windows], vectors)
            return
        for _, snapshot, positions in self._audio_rows(where):
            for _, items in _classified(classifier, snapshot, positions):
                yield from items

    def count_recorded(self, where: str | None = None) -> int:
        """Count the audio rows, which `classify_with` classifies.

        Args:
            where: Only rows that pass this SQL filter.

        Returns:
            The number of rows.

        Raises:
            QueryError: The filter cannot be used.
        """
        return sum(len(positions) for _, _, positions in self._audio_rows(where))

    def write_labels(
        self,
        classifier: Classifier,
        column: str,
        *,
        where: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> WrittenLabels:
        """Classify the audio rows, and write their labels and probabilities into the table.

        The table gets the columns `column` and `COLUMN_probability`, lists where any number of labels may be right. A
        probability is null where none is known. Each batch is one commit; rows that `where` leaves out keep what they
        have.

        Args:
            classifier: The classifier, over the embeddings of this table's encoder.
            column: Name of the column: a new one, or one that this method wrote before.
            where: Only rows that pass this SQL filter.
            dry_run: Classify and count only.
            progress: Called with the number of rows of each batch that is done.

        Returns:
            The counts.

        Raises:
            QueryError: The column cannot have that name or holds something else, a bad filter, or a row without the
                text that the classifier needs.
            DatabaseError: The table cannot be written.
        """
        columns = {table: LabelColumns(table, column, classifier.is_multi_label) for table in self.tables}
        written = WrittenLabels(column)
        for searcher, snapshot, positions in self._audio_rows(where):
            for start in range(0, len(positions), _ROWS_PER_COMMIT):
                batch = positions[start : start + _ROWS_PER_COMMIT]
                labels = dict[str, RowLabels]()
                for ids, items in _classified(classifier, snapshot, batch):
                    labels.update(zip(ids, map(RowLabels.of, items), strict=True))
                count = len(labels)
                if not dry_run:
                    contents = snapshot.columns["content_hash"].take(batch).to_pylist()
                    count = columns[searcher.table].write(dict(zip(labels, contents, strict=True)), labels)
                written.add(labels.values(), count)
                if progress is not None:
                    progress(len(batch))
        return written

    def _audio_rows(self, where: str | None) -> Iterator[tuple[Searcher, Snapshot, RowPositions]]:
        """Yield each table with its newest version and the positions of the audio rows that pass a filter."""
        self._check_process()
        filters = make_filters({"modality": "audio", "where": where})
        for searcher in self._searchers:
            snapshot = searcher.snapshot()
            positions = searcher.filter_rows(snapshot, filters.rows)
            yield searcher, snapshot, np.empty(0, np.int64) if positions is None else positions


def _classified(
    classifier: Classifier, snapshot: Snapshot, positions: RowPositions
) -> Iterator[tuple[list[str], list[Classification]]]:
    """Yield the ids and the classifications of rows, of as many at once as the memory of their scores allows."""
    step = max(1, min(_ROWS_PER_BATCH, _SCORES_PER_BATCH // max(1, len(classifier.labels))))
    for start in range(0, len(positions), step):
        batch = positions[start : start + step]
        rows = snapshot.rows(batch)
        windows = [Recorded(row["uri"], Window(row["start_s"], row["end_s"]), row["text"], row["id"]) for row in rows]
        yield [row["id"] for row in rows], classifier.predict_all(windows, snapshot.vectors_at(batch))
