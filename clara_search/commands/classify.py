"""`clara-search classify`."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import (
    Align,
    device_option,
    json_option,
    precision_option,
    print_json,
    print_table,
    search_options,
)
from clara_search.commands.options import name_options, network_options
from clara_search.commands.output import echo_line
from clara_search.errors import AudioError
from clara_search.files.redact import redact
from clara_search.retrieval.output.text import format_probability, format_span, short_name

if TYPE_CHECKING:
    from clara_search.classification.base import Classification, Classifier
    from clara_search.models.base import Encoder
    from clara_search.models.recorded import RecordedModel
    from clara_search.retrieval.index import Index

UNSURE = "(unsure)"
"""Shown in tables for a window without a probable label; JSON has null."""

_MOST_COUNTS = 10


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--db", metavar="DIR", help="Classify the recordings of a database, instead of files.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--labels", metavar="A,B,...|FILE", help="The labels, or a file with one a line, or a CSV file of them.")
@click.option(
    "--template", "templates", multiple=True, help='Sentence with {} for the label; can be repeated.  [default: "{}"]'
)
@click.option("--language", help='Language of the labels, such as "en", for models that know languages.')
@click.option("--head", "head_folder", metavar="DIR", help="A head of `python -m trainer probe`, instead of labels.")
@click.option("--task", help="Which of the head's label sets to use.  [default: the first]")
@click.option("--knn", metavar="COLUMN", help="Labels of the nearest rows that have one in this column.")
@click.option("-k", "neighbours", type=click.IntRange(1), metavar="N", help="Number of such rows.  [default: 10]")
@click.option("--knn-db", metavar="DIR", help="Their database.  [default: that of --db]")
@click.option("--knn-table", metavar="NAME", help="Their table.  [default: that of --table]")
@click.option("--multi-label", is_flag=True, help="Let any number of labels be right, each of probability 0.5 or more.")
@click.option(
    "--text", "texts", multiple=True, help="Transcript of a FILE, for heads that need one; one for each FILE."
)
@click.option("--calibrate", metavar="MANIFEST", help="Fit probabilities to its labelled recordings, split valid.")
@click.option(
    "--label-column", metavar="NAME", help="Column with the labels, of that manifest or of the file.  [default: label]"
)
@click.option("--min-probability", type=click.FloatRange(0, 1), metavar="P", help="Give no label below it.")
@click.option("--write", "column", metavar="COLUMN", help="Write labels into the table, and their probabilities.")
@click.option("--dry-run", is_flag=True, help="With --write: only count.")
@click.option("--model", help="Name, folder or hub id of the model.")
@precision_option
@device_option
@search_options("where")
@click.option("--window", "window_s", type=float, help="Seconds a window, for files.  [default: 10]")
@click.option("--hop", "hop_s", type=float, help="Seconds between windows, for files.  [default: 5]")
@json_option
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
    knn: str | None,
    neighbours: int | None,
    knn_db: str | None,
    knn_table: str | None,
    multi_label: bool,
    texts: tuple[str, ...],
    calibrate: str | None,
    label_column: str | None,
    min_probability: float | None,
    column: str | None,
    dry_run: bool,
    model: str | None,
    precision: str,
    device: str | None,
    where: str | None,
    window_s: float | None,
    hop_s: float | None,
    as_json: bool,
) -> None:
    """Classify each window of recordings by the nearest of some labels, with a head that was trained on them, or by the
    nearest rows of a table that have labels.

    A score is a cosine; with --calibrate, --head, --knn and --multi-label, a probability. Several templates are
    averaged as vectors.

    \b
    clara-search classify *.wav --labels dog,rain,engine --template "the sound of a {}"
    clara-search classify --db DIR --head runs/probe-emotion/head --min-probability 0.5
    clara-search classify --db DIR --knn species --write guess
    """  # noqa: D205, D301 - click wants the \b itself
    is_prompted = head_folder is None and knn is None
    check_usage(
        {
            "Give either FILE... or --db DIR.": bool(files) == (db is not None),
            "--where needs --db.": where is not None and db is None,
            "Give either --labels or --head or --knn.": sum(x is not None for x in (labels, head_folder, knn)) != 1,
            "--template and --language are for --labels.": not is_prompted and bool(templates or language),
            "--task is for --head.": task is not None and head_folder is None,
            "-k, --knn-db and --knn-table are for --knn.": knn is None and bool(neighbours or knn_db or knn_table),
            "--knn needs the labelled rows: --db or --knn-db.": knn is not None and not (db or knn_db),
            "--calibrate is for --labels and --head.": calibrate is not None and knn is not None,
            f"Give one --text for each FILE: there are {len(texts)} for {len(files)}.": 0 < len(texts) != len(files),
            "--min-probability takes a probability.": min_probability is not None and math.isnan(min_probability),
            "--min-probability needs probabilities: --calibrate, --head, --knn or --db.": (
                min_probability is not None and calibrate is None and is_prompted and db is None
            ),
            "--multi-label needs probabilities that are independent: --db without --calibrate, --head or --knn.": (
                multi_label and (calibrate is not None or (is_prompted and db is None))
            ),
            "--write needs --db.": column is not None and db is None,
            "--dry-run is for --write.": dry_run and column is None,
        }
    )
    from clara_search.commands.classifiers import ClassifierMaker, ClassifierOptions
    from clara_search.models.registry import DEFAULT_MODEL, load_encoder
    from clara_search.retrieval.index import open as open_index

    def open_table(db: str, table: str, model: str | RecordedModel | None) -> Index:
        return open_index(db, table=table, model=model, precision=precision, device=device)

    def load(model: str | RecordedModel | None) -> Encoder:
        return load_encoder(model or DEFAULT_MODEL, precision=precision, device=device)

    options = ClassifierOptions(
        labels=labels,
        label_column=label_column,
        templates=templates,
        language=language,
        head_folder=head_folder,
        task=task,
        knn=knn,
        neighbours=neighbours,
        knn_db=knn_db,
        knn_table=knn_table,
        multi_label=multi_label,
        calibrate=calibrate,
        min_probability=min_probability,
    )
    maker = ClassifierMaker(options, model, open_table, load, db, table)
    windows = maker.choose_windows(window_s, hop_s)
    classifier = maker.make(needs_match=column is not None)
    index = maker.index
    if index is not None and column is not None:
        write_labels(index, classifier, column, where, dry_run, as_json)
        return
    if index is not None:
        table_rows = partial(index.classify_with, classifier, where=where)
        print_classifications(lambda update: counted(table_rows(), update), index.count_recorded(where), "row", as_json)
        return
    failed = list[str]()
    arguments = (files, texts, maker.encoder, classifier, windows, failed)
    print_classifications(partial(classify_files, *arguments), len(files), "file", as_json)
    if failed:
        raise click.exceptions.Exit(1)


def classify_files(
    files: tuple[str, ...],
    texts: tuple[str, ...],
    encoder: Encoder,
    classifier: Classifier,
    windows: tuple[float, float],
    failed: list[str],
    update: Callable[[int], object],
) -> Iterator[Classification]:
    """Yield the classifications of files; one that cannot be used is named on stderr and added to `failed`."""
    from clara_search.classification.classifier import classify_file

    for number, file in enumerate(files):
        text = texts[number] if texts else None
        try:
            yield from classify_file(file, encoder, classifier, *windows, text)
        except AudioError as error:
            failed.append(file)
            echo_line(f"Error: {name_options(redact(str(error)))}", err=True)
        update(1)


def write_labels(
    index: Index, classifier: Classifier, column: str, where: str | None, dry_run: bool, as_json: bool
) -> None:
    """Write labels into a table, and print how many rows have which."""
    from clara_search.retrieval.ann import index as ann

    with progress_bar(index.count_recorded(where), "row", as_json) as update:
        written = index.write_labels(classifier, column, where=where, dry_run=dry_run, progress=update)
    if as_json:
        print_json([asdict(written)])
    else:
        counts = [f"{label} {count:,}" for label, count in written.labels.items()]
        if len(counts) > _MOST_COUNTS:
            counts[_MOST_COUNTS:] = [f"{len(counts) - _MOST_COUNTS:,} further labels"]
        done = "would be labelled" if dry_run else "labelled"
        rows, table = written.rows - written.changed, index.table.name
        echo_line(f"{rows:,} rows of table '{table}' {done} in '{column}': {', '.join(counts) or 'no label'}")
    if written.unlabelled:
        echo_line(f"{written.unlabelled:,} rows have no label, as none is probable enough.", err=True)
    if written.changed:
        echo_line(f"{written.changed:,} rows were indexed again or deleted meanwhile: run this again.", err=True)
    if not dry_run and written.rows and ann.version_token(index.table) is not None:
        command = f"clara-search ann build --db {shlex.quote(index.table.connection.location)}"
        echo_line(f"The ANN index covers the rows as they were: {command} --table {index.table.name}", err=True)


@contextmanager
def progress_bar(total: int, unit: str, as_json: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function that counts what is done, with a bar where a terminal shows it and nothing else."""
    if not sys.stderr.isatty() or (as_json and sys.stdout.isatty()):
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, file=sys.stderr, leave=False) as bar:
        yield bar.update


def counted(items: Iterable[Classification], update: Callable[[int], object]) -> Iterator[Classification]:
    """Yield classifications, and count each."""
    for item in items:
        yield item
        update(1)


def check_usage(rules: Mapping[str, bool]) -> None:
    """Raise UsageError with the first message whose rule is broken."""
    for message, is_broken in rules.items():
        if is_broken:
            raise click.UsageError(message)


def print_classifications(
    find: Callable[[Callable[[int], object]], Iterable[Classification]], total: int, unit: str, as_json: bool
) -> None:
    """Print JSON lines or a table of what `find` yields, which takes the function that counts; with a bar meanwhile."""
    unknown, rows = 0, list[tuple[str, ...]]()
    with progress_bar(total, unit, as_json) as update:
        for item in find(update):
            unknown += math.isnan(item.score)
            if as_json:
                print_json([item.as_dict()])
            else:
                rows.append(table_row(item))
    if not as_json:  # below the bar, which is gone by now
        columns: dict[str, Align] = {"file": "left", "time": "left", "label": "fill", "score": "right"}
        if any(row[-1] for row in rows):
            columns["match"] = "right"
        print_table(columns, (row[: len(columns)] for row in rows))
    if unknown:
        why = "their vectors are not finite, or no labelled row is of another recording"
        echo_line(f"{unknown:,} windows have no label: {why}.", err=True)


def table_row(item: Classification) -> tuple[str, ...]:
    """Return the cells of a classification; the last one is the probability of a match, where scores are cosines."""
    label = item.label if item.labels is None else ", ".join(item.labels)
    span, score = format_span(item.start_s, item.end_s), f"{item.score:.3f}"
    match = "" if item.probability == item.score else format_probability(item.probability)
    return short_name(item.uri), span, label or UNSURE, score, match
