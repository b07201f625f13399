"""Pictures of a probe: the confusion matrix and the training curves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_MAX_NUMBERED_CLASSES = 25
"""Number of classes up to which the cells of a confusion matrix show their counts."""


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix, coloured by the share of its row, as a PNG.

    Args:
        matrix: counts, true classes (rows) by predicted classes (columns).
        classes: their labels.
        title: of the picture.
        path: the file to write.
    """
    plt = _pyplot()
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.35 * len(classes), 24)
    figure, axis = plt.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    # Labels come from users: `$` begins no formula, and letters that the font lacks are drawn as boxes.
    axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize="small", parse_math=False)
    axis.set_yticks(range(len(classes)), classes, fontsize="small", parse_math=False)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(title, parse_math=False)
    if len(classes) <= _MAX_NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="x-small")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw the losses and the validation measures by epoch, as a PNG.

    Args:
        history: a row for each epoch.
        path: the file to write.
    """
    plt = _pyplot()
    losses = [name for name in ("train_loss", "valid_loss") if any(name in row for row in history)]
    measures = sorted({name for row in history for name in row if name.startswith("valid_")} - {"valid_loss"})
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, title, names in zip(axes, ("loss", "validation"), (losses, measures), strict=True):
        for name in names:
            points = [(epoch + 1, row[name]) for epoch, row in enumerate(history) if name in row]
            axis.plot(*zip(*points, strict=True), marker=".", label=name.replace("_", " "))
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        if names:
            axis.legend(fontsize="small")
    axes[1].set_ylim(0, 1)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
