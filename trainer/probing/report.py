"""The report of a probe: scores beside chance and majority, and warnings for their reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clara_search.errors import SourceError
from clara_search.metrics.classification import (
    NUM_RESAMPLES,
    ClassScores,
    confusion_matrix,
    score_multi_label,
    score_single_label,
)
from trainer.evaluation.contamination import contamination
from trainer.probing.experiment import FoldPredictions, LabelledSet, ProbeResult
from trainer.probing.folds import count_shared_speakers
from trainer.probing.sgd import UNKNOWN

_MAX_CONFUSION_CLASSES = 500
"""Number of classes up to which a report holds a confusion matrix, whose size grows with their square."""


def score_column(
    labelled: LabelledSet, tests: Sequence[FoldPredictions], column: str, resamplings: int = NUM_RESAMPLES
) -> tuple[ClassScores, dict[str, Any]]:
    """Score a label column over the test splits of all folds together.

    Args:
        labelled: the clips.
        tests: the predictions of each fold's head.
        column: the label column.
        resamplings: of the bootstrap.

    Returns:
        The scores, and further facts: the classes, counts, recall of each class and the confusion matrix.

    Raises:
        SourceError: no tested clip has a label in the column.
    """
    number = list(labelled.columns.classes).index(column)
    classes, target = labelled.columns.classes[column], labelled.columns.targets[number]
    indices = [index for test in tests for index in test.fold.test]
    probabilities = np.concatenate([test.probabilities[column] for test in tests])
    expected = target[indices]
    trained = target[[index for test in tests for index in test.fold.train]]
    if target.ndim == 2:
        scores = score_multi_label(expected.numpy() > 0.5, probabilities.astype(np.float64), resamplings)
        counts = dict(zip(classes, expected.sum(dim=0).int().tolist(), strict=True))
        return scores, {"classes": list(classes), "tested": counts, "never_trained": []}
    known = (expected != UNKNOWN).numpy()
    truth, predicted = expected.numpy()[known], probabilities.argmax(axis=1)[known]
    if not len(truth):
        raise SourceError(f"no clip of the test split has a label in column {column!r}")
    train_counts = np.bincount(trained[trained != UNKNOWN].numpy(), minlength=len(classes))
    majority = int(train_counts.argmax())
    scores = score_single_label(truth, predicted, len(classes), majority, resamplings)
    support = np.bincount(truth, minlength=len(classes))
    hits = np.bincount(truth[truth == predicted], minlength=len(classes))
    facts = {
        "classes": list(classes),
        "tested": dict(zip(classes, support.tolist(), strict=True)),
        "recall": {label: float(hits[i] / support[i]) for i, label in enumerate(classes) if support[i]},
        "majority_class": classes[majority],
        "never_trained": _never_trained(target, tests, classes),
    }
    if len(classes) <= _MAX_CONFUSION_CLASSES:
        facts["confusion"] = confusion_matrix(truth, predicted, len(classes)).tolist()
    return scores, facts


def _never_trained(target: Tensor, tests: Sequence[FoldPredictions], classes: Sequence[str]) -> list[str]:
    """Return the labels that are in the test split of a fold, but not in its training split."""
    numbers: set[int] = set()
    for test in tests:
        numbers |= set(target[test.fold.test].tolist()) - set(target[test.fold.train].tolist())
    return [classes[number] for number in sorted(numbers - {UNKNOWN})]


def build_report(labelled: LabelledSet, result: ProbeResult, training_sources: Sequence[str] | None) -> dict[str, Any]:
    """Return the part of a report that follows from the clips and the predictions.

    Args:
        labelled: the clips.
        result: the predictions of each fold's head.
        training_sources: those on the model's card; None if it lists none.

    Returns:
        The report as JSON takes it.
    """
    folds = labelled.plan.folds
    tested = [labelled.clips[index].source for test in result.tests for index in test.fold.test]
    by_column: dict[str, Any] = {}
    for column in labelled.columns.classes:
        scores, facts = score_column(labelled, result.tests, column)
        by_column[column] = {**scores.as_dict(), **facts, "left_out": labelled.columns.rare[column]}
        if len(folds) > 1:
            by_column[column]["folds"] = {
                test.fold.name: {
                    name: score.value for name, score in score_column(labelled, [test], column, 0)[0].scores.items()
                }
                for test in result.tests
                if test.fold.test
            }
    return {
        "fold_kind": labelled.plan.kind,
        "clips": {
            "used": len(labelled.clips),
            "folds": {fold.name: [len(fold.train), len(fold.valid), len(fold.test)] for fold in folds},
        },
        "shared_speakers": {fold.name: count_shared_speakers(fold, labelled.clips) for fold in folds},
        "notes": labelled.plan.notes,
        "labels": by_column,
        "contamination": contamination(tested, training_sources),
        "left_out": labelled.embeddings.problems,
    }


def summarize(report: Mapping[str, Any]) -> list[str]:
    """Return the warnings of a report, a line each."""
    lines = [str(note) for note in report["notes"]]
    shared = {name: count for name, count in report["shared_speakers"].items() if count}
    if shared:
        counts = ", ".join(f"{count} in fold {name}" for name, count in shared.items())
        lines.append(f"speakers in both training and test: {counts}")
    for column, facts in report["labels"].items():
        if facts["left_out"]:
            rare = ", ".join(f"{label} ({count})" for label, count in facts["left_out"].items())
            lines.append(f"{column}: too few clips, left out: {rare}")
        if facts["never_trained"]:
            lines.append(f"{column}: tested but never trained on: {', '.join(facts['never_trained'])}")
    sources = report["contamination"]
    if sources["trained_on"]:
        lines.append(
            "CONTAMINATED: the model's card lists among its training sources "
            f"{', '.join(sources['trained_on'])}: not a score on unseen recordings"
        )
    elif sources["share"] is None:
        undeclared = sources["declared"] is None
        missing = "the model's card lists no training sources" if undeclared else "some clips name no source"
        lines.append(f"contamination unknown: {missing}")
    return lines
