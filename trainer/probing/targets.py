"""Label columns as numbers: what is to be told from what, and which clips say nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clara_search.datasets.labelled import Clip
from clara_search.errors import ConfigError
from trainer.probing.sgd import UNKNOWN


@dataclass(frozen=True)
class TargetColumns:
    """Classes and targets of each label column.

    Attributes:
        classes: labels to choose from, in order of name, by column.
        targets: for each column class numbers (n,), UNKNOWN where there is none, or (n, labels) of 0 and 1.
        rare: labels that are left out since too few clips have them, with their counts, by column.
    """

    classes: dict[str, tuple[str, ...]]
    targets: list[Tensor]
    rare: dict[str, dict[str, int]]

    def known(self) -> list[bool]:
        """Return for each clip whether it has a target in any column."""
        has = [target.any(dim=1) if target.ndim == 2 else target != UNKNOWN for target in self.targets]
        found: list[bool] = torch.stack(has).any(dim=0).tolist()
        return found


def build_targets(
    clips: Sequence[Clip], columns: Sequence[str], multi_label: bool, least: int, where: object
) -> TargetColumns:
    """Return the labels in `columns` of `clips`; one that fewer than `least` clips have is left out.

    Raises ConfigError for a column of which fewer than two labels remain.
    """
    classes: dict[str, tuple[str, ...]] = {}
    targets: list[Tensor] = []
    rare: dict[str, dict[str, int]] = {}
    for column in columns:
        labels = [labels_of(clip, column, multi_label) for clip in clips]
        counts = Counter(label for one in labels for label in one)
        rare[column] = {label: count for label, count in sorted(counts.items()) if count < least}
        kept = tuple(sorted(set(counts) - set(rare[column])))
        if len(kept) < (1 if multi_label else 2):
            raise ConfigError(
                f"{where}: column {column!r} leaves nothing to tell apart: {_listed(counts)} "
                f"(a label needs {least} clips)"
            )
        classes[column] = kept
        number = {label: place for place, label in enumerate(kept)}
        if multi_label:
            target = torch.zeros(len(clips), len(kept))
            for row, one in enumerate(labels):
                target[row, [number[label] for label in one if label in number]] = 1.0
        else:
            target = torch.tensor([number.get(one[0], UNKNOWN) if one else UNKNOWN for one in labels])
        targets.append(target)
    return TargetColumns(classes, targets, rare)


def labels_of(clip: Clip, column: str, multi_label: bool) -> tuple[str, ...]:
    """Return the labels of `clip` in `column`: at most one, or as many as there are."""
    if multi_label:
        return clip.values(column)
    value = clip.value(column)
    return () if value is None else (value,)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts.most_common(5)) or "nothing"
