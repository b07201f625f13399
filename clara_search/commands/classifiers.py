"""The classifier that the options of `clara-search classify` ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clara_search.classification.labels import read_labels

if TYPE_CHECKING:
    from clara_search.classification.base import Classifier
    from clara_search.classification.classifier import HeadClassifier, ZeroShotClassifier
    from clara_search.classification.head import Head
    from clara_search.models.base import Encoder
    from clara_search.models.recorded import RecordedModel
    from clara_search.retrieval.index import Index


@dataclass(frozen=True)
class ClassifierOptions:
    """What a classifier is made of: labels, a head, or the labelled rows of a table.

    Attributes:
        labels: As --labels.
        label_column: As --label-column.
        templates: As --template.
        language: As --language.
        head_folder: As --head.
        task: As --task.
        knn: As --knn.
        neighbours: As -k.
        knn_db: As --knn-db.
        knn_table: As --knn-table.
        multi_label: As --multi-label.
        calibrate: As --calibrate.
        min_probability: As --min-probability.
    """

    labels: str | None
    label_column: str | None
    templates: tuple[str, ...]
    language: str | None
    head_folder: str | None
    task: str | None
    knn: str | None
    neighbours: int | None
    knn_db: str | None
    knn_table: str | None
    multi_label: bool
    calibrate: str | None
    min_probability: float | None


class ClassifierMaker:
    """Loads what a classifier is made of, and makes it.

    Args:
        options: The options.
        model: As --model.
        open_index: Opens a table: takes the database, the name of the table and the model.
        load: Loads a model that no table names.
        db: As --db.
        table: As --table.

    Attributes:
        head: The head, if there is one.
        index: The table whose rows are classified, if any.
        examples: The table of the labelled rows, where it is another one.
    """

    def __init__(
        self,
        options: ClassifierOptions,
        model: str | None,
        open_index: Callable[[str, str, str | RecordedModel | None], Index],
        load: Callable[[str | RecordedModel | None], Encoder],
        db: str | None,
        table: str,
    ) -> None:
        from clara_search.classification.head_files import load_head, load_head_encoder

        self._options = options
        # First what is cheap to read, and may be mistyped.
        self._labels = None if options.labels is None else read_labels(options.labels, options.label_column)
        self.head: Head | None = None
        source: str | RecordedModel | None = model
        if options.head_folder is not None:
            self.head = load_head(Path(options.head_folder))
            source = model or load_head_encoder(Path(options.head_folder), self.head)
            if options.multi_label and not self.head.config.multi_label:
                raise click.UsageError("--multi-label: this head was trained to choose one label.")
        self.index = None if db is None else open_index(db, table, source)
        self.examples: Index | None = None
        examples_db = options.knn_db or db
        if examples_db is not None and (options.knn_db or options.knn_table):
            self.examples = open_index(examples_db, options.knn_table or table, source)
        self._load = partial(load, source)

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, loaded at first use: labelled rows that classify other rows need none."""
        opened = self.index or self.examples
        return self._load() if opened is None else opened.encoder

    def make(self, needs_match: bool) -> Classifier:
        """Return the classifier; with `needs_match` prompts know the probability of a match, where there is one."""
        options = self._options
        if options.knn is not None:
            classifier: Classifier = self._make_neighbours(options.knn)
        elif options.calibrate is not None:
            make: Callable[[float | None], Any] = self._make_head if self.head is not None else self._make_prompts
            classifier = make(fit_on_manifest(make(None), self.encoder, options.calibrate, options.label_column))
        elif self.head is not None:
            classifier = self._make_head(None)
        else:
            needs_match |= options.min_probability is not None
            classifier = self._make_prompts(None, needs_match)
        return classifier if options.min_probability is None else classifier.with_threshold(options.min_probability)

    def choose_windows(self, window_s: float | None, hop_s: float | None) -> tuple[float, float]:
        """Return length and hop of the windows of files in seconds: as given, those of head or examples, or usual."""
        from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S

        default_window_s, default_hop_s = DEFAULT_WINDOW_S, DEFAULT_HOP_S
        if self.head is not None:
            default_window_s, default_hop_s = self.head.config.window_s, self.head.config.hop_s
        elif self.examples is not None:
            info = self.examples.table.info
            default_window_s, default_hop_s = info.window_s, info.hop_s
        window_s = default_window_s if window_s is None else window_s
        hop_s = min(default_hop_s, window_s) if hop_s is None else hop_s
        if not 0 < hop_s <= window_s:
            raise click.UsageError("--hop must be above 0 and no longer than --window.")
        return window_s, hop_s

    def _make_neighbours(self, column: str) -> Classifier:
        from clara_search.classification.neighbours import DEFAULT_NEIGHBOURS

        index = self.index or self.examples
        assert index is not None  # --knn needs one of the two
        make = partial(index.neighbour_classifier, column, self._options.neighbours or DEFAULT_NEIGHBOURS)
        return make(multi_label=self._options.multi_label, examples=self.examples)

    def _make_prompts(self, temperature: float | None, needs_match: bool = False) -> ZeroShotClassifier:
        from clara_search.classification.classifier import ZeroShotClassifier
        from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings

        labels, options = self._labels, self._options
        assert labels is not None  # it is one or the other
        templates = options.templates or DEFAULT_TEMPLATES
        if self.index is not None and (needs_match or options.multi_label):
            return self.index.prompt_classifier(
                labels, templates, options.language, multi_label=options.multi_label, match=needs_match
            )
        classes = class_embeddings(self.encoder, labels, templates, options.language)
        return ZeroShotClassifier(labels, classes, temperature)

    def _make_head(self, temperature: float | None) -> HeadClassifier:
        from clara_search.classification.classifier import HeadClassifier

        assert self.head is not None
        return HeadClassifier(self.head, self.encoder, self._options.task, temperature or 1.0)


def fit_on_manifest(
    classifier: ZeroShotClassifier | HeadClassifier, encoder: Encoder, manifest: str, column: str | None
) -> float:
    """Return the temperature fitted on the labelled recordings of `manifest`, and print its effect on stderr."""
    from clara_search.classification.calibrate_classifier import calibrate_classifier
    from clara_search.datasets.labelled import read_clips

    fitted = calibrate_classifier(classifier, encoder, read_clips(manifest), column or "label")
    click.echo(
        f"Calibrated on {fitted.num_examples} recordings: temperature {fitted.temperature:.4g}, log loss "
        f"{fitted.log_loss:.3f} (uniform guessing: {fitted.uniform_log_loss:.3f}), accuracy {fitted.accuracy:.3f}, "
        f"calibration error {fitted.calibration_error:.3f}",
        err=True,
    )
    return fitted.temperature
