"""`clara-search classify`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import (
    format_span,
    json_option,
    precision_option,
    print_json,
    print_table,
    short_name,
    where_option,
)
from clara_search.errors import AudioError, FormatError, SourceError

if TYPE_CHECKING:
    from clara_search.classification.classifier import Classification, Namer
    from clara_search.models.base import Encoder

UNSURE = "(unsure)"
"""What a table shows where no label is probable enough; JSON has null."""


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--db", metavar="DIR", help="Classify the recordings of a database, instead of files.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--labels", metavar="A,B,...|FILE", help="The labels, or a file with one a line.")
@click.option(
    "--template", "templates", multiple=True, help='Sentence with {} for the label; can be repeated.  [default: "{}"]'
)
@click.option("--language", help='Language of the labels, such as "en", where the model knows languages.')
@click.option("--head", "head_folder", metavar="DIR", help="A head of `python -m trainer probe`, instead of labels.")
@click.option("--task", help="What the head is asked, where it answers several.  [default: its first]")
@click.option("--text", "texts", multiple=True, help="What is said in a FILE, for a head that reads too; one for each.")
@click.option("--calibrate", metavar="MANIFEST", help="Fit probabilities to its labelled recordings, split valid.")
@click.option("--label-column", default="label", show_default=True, help="Where that manifest has the labels.")
@click.option(
    "--abstain-below", type=click.FloatRange(0, 1), metavar="P", help="Give no label less probable than that."
)
@click.option("--model", help="Name, folder or hub id of the model.")
@precision_option
@where_option
@click.option("--window", "window_s", type=float, help="Seconds a window, for files.  [default: 10]")
@click.option("--hop", "hop_s", type=float, help="Seconds between windows, for files.  [default: 5]")
@json_option
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
    abstain_below: float | None,
    model: str | None,
    precision: str,
    where: str | None,
    window_s: float | None,
    hop_s: float | None,
    as_json: bool,
) -> None:
    """Name each stretch of recordings by the nearest of some labels, or by a head that learned them.

    A score is a cosine; with --calibrate, and with --head, a probability. Several templates are averaged as vectors.

    \b
    clara-search classify *.wav --labels dog,rain,engine --template "the sound of a {}"
    clara-search classify --db DIR --head runs/probe-emotion/head --abstain-below 0.5
    """  # noqa: D301 - click wants the \b itself
    if bool(files) == (db is not None):
        raise click.UsageError("Give either FILE... or --db DIR.")
    if where is not None and db is None:
        raise click.UsageError("--where needs --db.")
    if (labels is None) == (head_folder is None):
        raise click.UsageError("Give either --labels or --head.")
    if head_folder is not None and (templates or language):
        raise click.UsageError("--template and --language are for --labels.")
    if task is not None and head_folder is None:
        raise click.UsageError("--task is for --head.")
    if texts and len(texts) != len(files):
        raise click.UsageError(f"Give one --text for each FILE: there are {len(texts)} for {len(files)}.")
    if abstain_below is not None and math.isnan(abstain_below):
        raise click.UsageError("--abstain-below takes a probability.")
    if abstain_below is not None and calibrate is None and head_folder is None:
        raise click.UsageError("--abstain-below needs probabilities: --calibrate or --head.")
    from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
    from clara_search.classification.classifier import classify_file
    from clara_search.classification.head import load_head, load_head_encoder
    from clara_search.models.registry import DEFAULT_MODEL, load_encoder
    from clara_search.retrieval.index import open as open_index

    head = None if head_folder is None else load_head(Path(head_folder))
    if head is not None and head_folder is not None:
        model = model or load_head_encoder(Path(head_folder), head)
        window_s = head.config.window_s if window_s is None else window_s
        hop_s = min(head.config.hop_s, window_s) if hop_s is None else hop_s
    window_s = DEFAULT_WINDOW_S if window_s is None else window_s
    hop_s = min(DEFAULT_HOP_S, window_s) if hop_s is None else hop_s
    if not 0 < hop_s <= window_s:
        raise click.UsageError("--hop must be above 0 and no longer than --window.")
    names = None if labels is None else read_labels(labels)
    index = None if db is None else open_index(db, table=table, model=model, precision=precision)
    encoder = load_encoder(model or DEFAULT_MODEL, precision=precision) if index is None else index.encoder

    def namer(temperature: float | None) -> Namer:
        from clara_search.classification.classifier import head_namer, prompt_namer
        from clara_search.classification.prompts import DEFAULT_TEMPLATES, class_embeddings

        if head is not None:
            return head_namer(head, encoder, task, temperature or 1.0)
        assert names is not None  # it is one or the other
        classes = class_embeddings(encoder, names, templates or DEFAULT_TEMPLATES, language)
        return prompt_namer(names, classes, temperature)

    chosen = namer(None if calibrate is None else fitted_temperature(namer(None), encoder, calibrate, label_column))
    if abstain_below is not None:
        chosen = chosen.abstaining(abstain_below)
    if index is not None:
        print_classifications(index.name(chosen, where=where), as_json)
        return
    failed = []

    def usable() -> Iterator[Classification]:
        for place, file in enumerate(files):
            try:
                yield from classify_file(file, encoder, chosen, window_s, hop_s, texts[place] if texts else None)
            except AudioError as error:
                failed.append(file)
                click.echo(f"Error: {error}", err=True)

    print_classifications(usable(), as_json)
    if failed:
        raise click.exceptions.Exit(1)


def fitted_temperature(namer: Namer, encoder: Encoder, manifest: str, column: str) -> float:
    """Return the temperature that the labelled recordings of `manifest` ask for, and say on stderr what it does."""
    from clara_search.classification.classifier import calibration_of
    from clara_search.datasets.labelled import read_clips

    found = calibration_of(namer, encoder, read_clips(manifest), column)
    click.echo(
        f"Calibrated on {found.n} recordings: temperature {found.temperature:.4g}, log loss {found.log_loss:.3f} "
        f"(of even guessing {found.even_log_loss:.3f}), accuracy {found.accuracy:.3f}, "
        f"calibration error {found.error:.3f}",
        err=True,
    )
    return found.temperature


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
        print_json(one.as_dict() for one in classifications)
        return
    print_table(
        {"file": "left", "time": "left", "label": "fill", "score": "right"},
        (
            (short_name(one.uri), format_span(one.start_s, one.end_s), one.label or UNSURE, f"{one.score:.3f}")
            for one in classifications
        ),
    )
