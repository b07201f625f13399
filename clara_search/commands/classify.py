"""`clara-search classify`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import (
    device_option,
    json_option,
    precision_option,
    print_json,
    print_table,
    search_options,
)
from clara_search.commands.options import limit_option, name_options, network_options
from clara_search.commands.output import echo_line
from clara_search.errors import AudioError, FormatError, SourceError
from clara_search.files.redact import redact
from clara_search.retrieval.output.text import format_span, short_name

if TYPE_CHECKING:
    from clara_search.classification.classifier import Classification, HeadClassifier, ZeroShotClassifier
    from clara_search.classification.head import Head
    from clara_search.models.base import Encoder
    from clara_search.models.recorded import RecordedModel

UNSURE = "(unsure)"
"""Shown in tables for a window without a probable label; JSON has null."""


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--db", metavar="DIR", help="Classify the recordings of a database, instead of files.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--labels", metavar="A,B,...|FILE", help="The labels, or a file with one a line.")
@click.option(
    "--template", "templates", multiple=True, help='Sentence with {} for the label; can be repeated.  [default: "{}"]'
)
@click.option("--language", help='Language of the labels, such as "en", for models that know languages.')
@click.option("--head", "head_folder", metavar="DIR", help="A head of `python -m trainer probe`, instead of labels.")
@click.option("--task", help="Which of the head's label sets to use.  [default: the first]")
@click.option(
    "--text", "texts", multiple=True, help="Transcript of a FILE, for heads that need one; one for each FILE."
)
@click.option("--calibrate", metavar="MANIFEST", help="Fit probabilities to its labelled recordings, split valid.")
@click.option("--label-column", default="label", show_default=True, help="Column of that manifest with the labels.")
@click.option("--min-probability", type=click.FloatRange(0, 1), metavar="P", help="Give no label below it.")
@click.option("--model", help="Name, folder or hub id of the model.")
@precision_option
@device_option
@search_options("where")
@click.option("--window", "window_s", type=float, help="Seconds a window, for files.  [default: 10]")
@click.option("--hop", "hop_s", type=float, help="Seconds between windows, for files.  [default: 5]")
@json_option
@limit_option
@network_options
def classify(
    files: tuple[str, ...],
    db: str | None,
    table: str,
    labels: str | None,
    templates: tuple[str, ...],
    language: str | None,
    head_folder: str | None,
    task: str | None,
    texts: tuple[str, ...],
    calibrate: str | None,
    label_column: str,
    min_probability: float | None,
    model: str | None,
    precision: str,
    device: str | None,
    where: str | None,
    window_s: float | None,
    hop_s: float | None,
    as_json: bool,
) -> None:
    """Classify each window of recordings by the nearest of some labels, or with a head that was trained on them.

    A score is a cosine; with --calibrate, and with --head, a probability. Several templates are averaged as vectors.

    \b
    clara-search classify *.wav --labels dog,rain,engine --template "the sound of a {}"
    clara-search classify --db DIR --head runs/probe-emotion/head --min-probability 0.5
    """  # noqa: D301 - click wants the \b itself
    check_usage(
        {
            "Give either FILE... or --db DIR.": bool(files) == (db is not None),
            "--where needs --db.": where is not None and db is None,
            "Give either --labels or --head.": (labels is None) == (head_folder is None),
            "--template and --language are for --labels.": head_folder is not None and bool(templates or language),
            "--task is for --head.": task is not None and head_folder is None,
            f"Give one --text for each FILE: there are {len(texts)} for {len(files)}.": 0 < len(texts) != len(files),
            "--min-probability takes a probability.": min_probability is not None and math.isnan(min_probability),
            "--min-probability needs probabilities: --calibrate or --head.": (
                min_probability is not None and calibrate is None and head_folder is None
            ),
        }
    )
    from clara_search.classification.classifier import classify_file
    from clara_search.classification.head_files import load_head, load_head_encoder
    from clara_search.models.registry import DEFAULT_MODEL, load_encoder
    from clara_search.retrieval.index import open as open_index

    head = None if head_folder is None else load_head(Path(head_folder))
    source: str | RecordedModel | None = model
    if head is not None and head_folder is not None:
        source = model or load_head_encoder(Path(head_folder), head)
    window_s, hop_s = choose_windows(head, window_s, hop_s)
    names = None if labels is None else read_labels(labels)
    index = None if db is None else open_index(db, table=table, model=source, precision=precision, device=device)
    if index is None:
        encoder = load_encoder(source or DEFAULT_MODEL, precision=precision, device=device)
    else:
        encoder = index.encoder
    make_classifier: Callable[[float | None], ZeroShotClassifier | HeadClassifier]
    if head is not None:
        make_classifier = partial(make_head_classifier, head, encoder, task)
    else:
        assert names is not None  # it is one or the other
        make_classifier = partial(make_zero_shot, encoder, names, templates, language)
    classifier = make_classifier(None)
    if calibrate is not None:
        classifier = make_classifier(fit_on_manifest(classifier, encoder, calibrate, label_column))
    if min_probability is not None:
        classifier = classifier.with_threshold(min_probability)
    if index is not None:
        print_classifications(index.classify_with(classifier, where=where), as_json)
        return
    failed = []

    def classify_files() -> Iterator[Classification]:
        for number, file in enumerate(files):
            text = texts[number] if texts else None
            try:
                yield from classify_file(file, encoder, classifier, window_s, hop_s, text)
            except AudioError as error:
                failed.append(file)
                echo_line(f"Error: {name_options(redact(str(error)))}", err=True)

    print_classifications(classify_files(), as_json)
    if failed:
        raise click.exceptions.Exit(1)


def check_usage(rules: Mapping[str, bool]) -> None:
    """Raise UsageError with the first message whose rule is broken."""
    for message, is_broken in rules.items():
        if is_broken:
            raise click.UsageError(message)


def choose_windows(head: Head | None, window_s: float | None, hop_s: float | None) -> tuple[float, float]:
    """Return the length and the hop of windows in seconds: as given, or the head's, or the defaults."""
    from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S

    default_window_s, default_hop_s = DEFAULT_WINDOW_S, DEFAULT_HOP_S
    if head is not None:
        default_window_s, default_hop_s = head.config.window_s, head.config.hop_s
    window_s = default_window_s if window_s is None else window_s
    hop_s = min(default_hop_s, window_s) if hop_s is None else hop_s
    if not 0 < hop_s <= window_s:
        raise click.UsageError("--hop must be above 0 and no longer than --window.")
    return window_s, hop_s


def make_zero_shot(
    encoder: Encoder, labels: list[str], templates: tuple[str, ...], language: str | None, temperature: float | None
) -> ZeroShotClassifier:
    """Return the classifier of --labels."""
    from clara_search.classification.classifier import ZeroShotClassifier
    from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings

    classes = class_embeddings(encoder, labels, templates or DEFAULT_TEMPLATES, language)
    return ZeroShotClassifier(labels, classes, temperature)


def make_head_classifier(head: Head, encoder: Encoder, task: str | None, temperature: float | None) -> HeadClassifier:
    """Return the classifier of --head."""
    from clara_search.classification.classifier import HeadClassifier

    return HeadClassifier(head, encoder, task, temperature or 1.0)


def fit_on_manifest(
    classifier: ZeroShotClassifier | HeadClassifier, encoder: Encoder, manifest: str, column: str
) -> float:
    """Return the temperature fitted on the labelled recordings of `manifest`, and print its effect on stderr."""
    from clara_search.classification.calibrate_classifier import calibrate_classifier
    from clara_search.datasets.labelled import read_clips

    fitted = calibrate_classifier(classifier, encoder, read_clips(manifest), column)
    click.echo(
        f"Calibrated on {fitted.num_examples} recordings: temperature {fitted.temperature:.4g}, log loss "
        f"{fitted.log_loss:.3f} (uniform guessing: {fitted.uniform_log_loss:.3f}), accuracy {fitted.accuracy:.3f}, "
        f"calibration error {fitted.calibration_error:.3f}",
        err=True,
    )
    return fitted.temperature


def read_labels(labels: str) -> list[str]:
    """Return the labels of a comma-separated list, or the lines of the file that `labels` names."""
    path = Path(labels)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 ({error.reason})") from error
    except OSError:  # too long for a name, or not ours to read
        text = None
    if text is not None:
        return [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix == ".txt":
        raise SourceError(f"{path}: no such file that can be read")
    return [label.strip() for label in labels.split(",")]


def print_classifications(classifications: Iterator[Classification], as_json: bool) -> None:
    """Print JSON lines or a table."""
    if as_json:
        print_json(classification.as_dict() for classification in classifications)
        return
    print_table(
        {"file": "left", "time": "left", "label": "fill", "score": "right"},
        (
            (short_name(item.uri), format_span(item.start_s, item.end_s), item.label or UNSURE, f"{item.score:.3f}")
            for item in classifications
        ),
    )
