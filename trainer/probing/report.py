"""What a probe found: scores beside guessing, and what has to be known to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clara_search.datasets.declarations import same_source
from clara_search.datasets.labelled import Clip
from clara_search.errors import SourceError
from clara_search.metrics.classification import (
    BOOTSTRAP_SAMPLES,
    ClassScores,
    confusion_matrix,
    score_multi_label,
    score_single_label,
)
from trainer.probing.experiment import LabelledSet, Outcome, TestedFold
from trainer.probing.folds import shared_speakers
from trainer.probing.sgd import UNKNOWN

_MOST_CONFUSED = 500
"""Classes up to which a report holds a confusion matrix: nobody looks at more, and it grows with their square."""


def scores_of(
    labelled: LabelledSet, tested: Sequence[TestedFold], column: str, resamplings: int = BOOTSTRAP_SAMPLES
) -> tuple[ClassScores, dict[str, Any]]:
    """Return the scores of a column over all folds' test sides together, and further facts about them."""
    place = list(labelled.tasks.classes).index(column)
    classes, target = labelled.tasks.classes[column], labelled.tasks.targets[place]
    positions = [index for one in tested for index in one.fold.test]
    probabilities = np.concatenate([one.probabilities[column] for one in tested])
    expected = target[positions]
    trained = target[[index for one in tested for index in one.fold.train]]
    if target.ndim == 2:
        scores = score_multi_label(expected.numpy() > 0.5, probabilities.astype(np.float64), resamplings)
        counts = dict(zip(classes, expected.sum(dim=0).int().tolist(), strict=True))
        return scores, {"classes": list(classes), "tested": counts, "never_trained": []}
    known = (expected != UNKNOWN).numpy()
    truth, named = expected.numpy()[known], probabilities.argmax(axis=1)[known]
    if not len(truth):
        raise SourceError(f"no clip of the test side has a label in column {column!r}")
    seen = np.bincount(trained[trained != UNKNOWN].numpy(), minlength=len(classes))
    scores = score_single_label(truth, named, len(classes), int(seen.argmax()), resamplings)
    support = np.bincount(truth, minlength=len(classes))
    hits = np.bincount(truth[truth == named], minlength=len(classes))
    facts = {
        "classes": list(classes),
        "tested": dict(zip(classes, support.tolist(), strict=True)),
        "recall": {label: float(hits[i] / support[i]) for i, label in enumerate(classes) if support[i]},
        "majority_class": classes[int(seen.argmax())],
        "never_trained": _never_trained(target, tested, classes),
    }
    if len(classes) <= _MOST_CONFUSED:
        facts["confusion"] = confusion_matrix(truth, named, len(classes)).tolist()
    return scores, facts


def _never_trained(target: Tensor, tested: Sequence[TestedFold], classes: Sequence[str]) -> list[str]:
    """Return the labels that some fold tests and has not trained on."""
    found: set[int] = set()
    for one in tested:
        found |= set(target[one.fold.test].tolist()) - set(target[one.fold.train].tolist())
    return [classes[number] for number in sorted(found - {UNKNOWN})]


def contamination(
    clips: Sequence[Clip], tested: Sequence[TestedFold], declared: Sequence[str] | None
) -> dict[str, Any]:
    """Return which sources of the tested clips the model's card lists as trained on, and the share of those clips.

    `declared` is what the card lists; None where it lists nothing, or a clip names no source: then nobody can tell.
    """
    sources = [clips[index].source for one in tested for index in one.fold.test]
    known = {same_source(name) for name in declared or ()}
    trained = [source for source in sources if source and same_source(source) in known]
    return {
        "declared": None if declared is None else list(declared),
        "tested": {source: sources.count(source) for source in sorted(set(sources))},
        "trained_on": sorted(set(trained)),
        "share": len(trained) / len(sources) if declared is not None and all(sources) else None,
    }


def build_report(labelled: LabelledSet, outcome: Outcome, declared: Sequence[str] | None) -> dict[str, Any]:
    """Return everything of a report that follows from the clips and the answers."""
    folds = labelled.division.folds
    by_column: dict[str, Any] = {}
    for column in labelled.tasks.classes:
        scores, facts = scores_of(labelled, outcome.tested, column)
        by_column[column] = {**scores.as_dict(), **facts, "left_out": labelled.tasks.rare[column]}
        if len(folds) > 1:
            by_column[column]["folds"] = {
                one.fold.name: {
                    name: score.value for name, score in scores_of(labelled, [one], column, 0)[0].scores.items()
                }
                for one in outcome.tested
                if one.fold.test
            }
    return {
        "division": labelled.division.kind,
        "clips": {
            "used": len(labelled.clips),
            "folds": {fold.name: [len(fold.train), len(fold.valid), len(fold.test)] for fold in folds},
        },
        "speakers_trained_and_tested": {fold.name: shared_speakers(fold, labelled.clips) for fold in folds},
        "notes": labelled.division.notes,
        "labels": by_column,
        "contamination": contamination(labelled.clips, outcome.tested, declared),
        "left_out": labelled.vectors.problems,
    }


def summarize(facts: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the scores has to know, a line each."""
    lines = [str(note) for note in facts["notes"]]
    shared = {name: count for name, count in facts["speakers_trained_and_tested"].items() if count}
    if shared:
        lines.append(
            f"speakers on both sides: {', '.join(f'{n} where {name} is tested' for name, n in shared.items())}"
        )
    for column, one in facts["labels"].items():
        if one["left_out"]:
            rare = ", ".join(f"{label} ({count})" for label, count in one["left_out"].items())
            lines.append(f"{column}: too few clips, left out: {rare}")
        if one["never_trained"]:
            lines.append(f"{column}: tested where they were not trained on: {', '.join(one['never_trained'])}")
    found = facts["contamination"]
    if found["trained_on"]:
        lines.append(
            "CONTAMINATED: the model's card lists among its training sources "
            f"{', '.join(found['trained_on'])}: not a score on unseen recordings"
        )
    elif found["share"] is None:
        missing = "the model's card lists no training sources" if found["declared"] is None else "no source is declared"
        lines.append(f"contamination unknown: {missing}")
    return lines
