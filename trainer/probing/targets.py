"""Label columns as class numbers."""

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
        classes: labels to choose from, sorted, by column.
        targets: for each column class numbers (n,), UNKNOWN for a missing label, or (n, labels) of 0 and 1.
        rare: labels that are left out because too few clips have them, with their counts, by column.
    """

    classes: dict[str, tuple[str, ...]]
    targets: list[Tensor]
    rare: dict[str, dict[str, int]]

    def is_labelled(self) -> list[bool]:
        """Return for each clip whether it has a target in any column."""
        by_column = [target.any(dim=1) if target.ndim == 2 else target != UNKNOWN for target in self.targets]
        labelled: list[bool] = torch.stack(by_column).any(dim=0).tolist()
        return labelled


def build_targets(
    clips: Sequence[Clip], columns: Sequence[str], multi_label: bool, min_clips: int, data: object
) -> TargetColumns:
    """Number the labels of clips.

    Args:
        clips: n clips.
        columns: their label columns.
        multi_label: whether a clip may have several labels of a column.
        min_clips: labels of fewer clips are left out.
        data: name of the data, for errors.

    Returns:
        Classes and targets.

    Raises:
        ConfigError: fewer than two labels of a column remain.
    """
    classes: dict[str, tuple[str, ...]] = {}
    targets: list[Tensor] = []
    rare: dict[str, dict[str, int]] = {}
    for column in columns:
        labels = [labels_of(clip, column, multi_label) for clip in clips]
        counts = Counter(label for clip_labels in labels for label in clip_labels)
        rare[column] = {label: count for label, count in sorted(counts.items()) if count < min_clips}
        common = tuple(sorted(set(counts) - set(rare[column])))
        if len(common) < (1 if multi_label else 2):
            raise ConfigError(
                f"{data}: column {column!r} needs at least {1 if multi_label else 2} labels of {min_clips} clips; it "
                f"has {_format_counts(counts)}"
            )
        classes[column] = common
        number_of = {label: number for number, label in enumerate(common)}
        if multi_label:
            target = torch.zeros(len(clips), len(common))
            for row, clip_labels in enumerate(labels):
                target[row, [number_of[label] for label in clip_labels if label in number_of]] = 1.0
        else:
            numbers = [number_of.get(clip_labels[0], UNKNOWN) if clip_labels else UNKNOWN for clip_labels in labels]
            target = torch.tensor(numbers)
        targets.append(target)
    return TargetColumns(classes, targets, rare)


def labels_of(clip: Clip, column: str, multi_label: bool) -> tuple[str, ...]:
    """Return the labels of `clip` in `column`: at most one, or any number where it is `multi_label`."""
    if multi_label:
        return clip.values(column)
    value = clip.value(column)
    return () if value is None else (value,)


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts.most_common(5)) or "nothing"
