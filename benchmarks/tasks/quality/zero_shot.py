"""Accuracy of zero-shot classification of labelled recordings, with its interval and chance."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click
import numpy as np

from benchmarks.examples import (
    data_option,
    embed_examples,
    missing_option,
    model_option,
    require_complete,
    select,
    split_option,
    where_option,
)
from benchmarks.report import markdown, out_option, publish
from benchmarks.report.query_results import QueryResult, write_queries
from benchmarks.report.run_facts import contamination_remark, run_facts
from clara_search.classification.labels import read_labels
from clara_search.classification.prompts import class_embeddings
from clara_search.errors import QueryError
from clara_search.metrics.accuracy import accuracy
from clara_search.metrics.classification import confusion_matrix
from clara_search.models.registry import load_encoder


@click.command("zero-shot")
@data_option
@model_option
@click.option(
    "--labels", metavar="A,B,...|FILE", help="Labels, each as label or label=words.  [default: all labels of the data]"
)
@click.option(
    "--template", "templates", multiple=True, default=("{}",), help="Sentence with {} for the words; repeatable."
)
@click.option("--language", help="Language of the prompts, where the model knows languages.")
@split_option("all")
@where_option
@missing_option
@out_option
def zero_shot(
    data: str,
    model: str,
    labels: str | None,
    templates: tuple[str, ...],
    language: str | None,
    split: str,
    where: tuple[str, ...],
    allow_missing: bool,
    out: Path | None,
) -> None:
    """Classify labelled recordings by their nearest prompt.

    Recordings with other labels are left out.
    """
    started = time.perf_counter()
    encoder = load_encoder(model)
    problems: list[str] = []
    labelled = [example for example in select(data, split, where, problems) if example.label]
    words = prompts(labels, {str(example.label) for example in labelled})
    classes = class_embeddings(encoder, list(words.values()), templates, language)
    embedded = embed_examples(encoder, (e for e in labelled if e.label in words))
    failures = [*problems, *embedded.failures]
    require_complete(failures, allow_missing)
    names = list(words)
    predicted = [names[position] for position in (embedded.vectors @ classes.T).argmax(axis=1)]
    expected = [str(example.label) for example in embedded.examples]
    score = accuracy(predicted, expected, len(names))
    low, high = score.interval
    rows = [["all", str(score.n), f"{score.accuracy:.1%} [{low:.1%}, {high:.1%}]", f"{score.chance:.1%}"]]
    counts = Counter(expected)
    hits = Counter(truth for truth, guess in zip(expected, predicted, strict=True) if truth == guess)
    rows += [[f"{name} ({words[name]})", str(n), f"{hits[name] / n:.1%}", ""] for name, n in sorted(counts.items())]
    majority = counts.most_common(1)[0][1] / len(expected)
    numbers = {name: number for number, name in enumerate(names)}
    matrix = confusion_matrix(
        np.array([numbers[name] for name in expected]), np.array([numbers[name] for name in predicted]), len(names)
    )
    result = {
        **run_facts("zero-shot", encoder, model, data, embedded),
        "split": split,
        "where": list(where),
        "prompts": words,
        "templates": list(templates),
        "complete": not failures,
        "failures": failures,
        "scores": score.as_dict(),
        "majority": majority,
        "confusion": {"labels": names, "counts": matrix.tolist()},
        "seconds": {"all": time.perf_counter() - started},
        "per_label": {name: hits[name] / n for name, n in counts.items()},
    }
    note = f"Majority: {majority:.1%}; {contamination_remark(result['contamination'])}."
    headings = ["label", "clips", "accuracy [95 % interval]", "chance"]
    publish(result, f"{markdown(headings, rows)}\n\n{note}", out)
    if out is not None:
        answers = zip(embedded.examples, embedded.hashes, expected, predicted, strict=True)
        write_queries(
            out,
            (
                QueryResult("zero-shot", f"{x.key} {content[:8]}", {"accuracy": float(truth == guess)}, 0, truth, guess)
                for x, content, truth, guess in answers
            ),
        )


def prompts(labels: str | None, present: set[str]) -> dict[str, str]:
    """Return the words of each label in `labels` ("a,b=words"); without it, those `present` are their own words."""
    entries = sorted(present) if labels is None else read_labels(labels)
    words = {
        name.strip(): text.strip() or name.strip() for name, _, text in (entry.partition("=") for entry in entries)
    }
    if len(words) < len(entries):
        raise QueryError("a label is given twice")
    return words
