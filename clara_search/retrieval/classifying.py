"""Classify the windows of a recording, or the audio rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clara_search.audio.windows import Window
from clara_search.classification.classifier import Classification, Classifier, ZeroShotClassifier
from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings
from clara_search.retrieval.opened import OpenTables
from clara_search.retrieval.options.registry import make_filters
from clara_search.retrieval.queries.arrays import Audio
from clara_search.retrieval.queries.embedding import embed_parts

_ROWS_PER_BATCH = 1024


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
            parts = embed_parts(self.encoder, self.table.info, audio)
            for window, vector in zip(*parts, strict=True):
                yield classifier.predict(uri, window, vector)
            return
        filters = make_filters({"modality": "audio", "where": where})
        for searcher in self._searchers:
            snapshot = searcher.snapshot()
            positions = searcher.filter_rows(snapshot, filters.rows)
            assert positions is not None  # one filter at least
            for start in range(0, len(positions), _ROWS_PER_BATCH):
                batch = positions[start : start + _ROWS_PER_BATCH]
                for row, vector in zip(snapshot.rows(batch), snapshot.vectors_at(batch), strict=True):
                    yield classifier.predict(row["uri"], Window(row["start_s"], row["end_s"]), vector, row["text"])
