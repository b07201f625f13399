"""The log of a run as one table, and as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, float]


def read_log(folder: Path) -> list[Row]:
    """Return one row an epoch, in order, from every `version_N/metrics.csv` in `folder`; a later version wins."""
    epochs: dict[int, Row] = {}
    versions = sorted(folder.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    for path in versions:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("epoch"):
                    values = {name: float(value) for name, value in row.items() if value}
                    epochs.setdefault(int(row["epoch"]), {}).update(values)
    return [epochs[epoch] for epoch in sorted(epochs)]


def write_table(rows: list[Row], path: Path) -> None:
    """Write `rows` as CSV, columns in order of name after the epoch."""
    names = ["epoch", *sorted({name for row in rows for name in row} - {"epoch"})]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)


def draw(rows: list[Row], path: Path) -> None:
    """Draw the loss, the recall of held-out texts beside chance, and the temperatures, over epochs, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {
        "loss (training)": ["train_loss"],
        "recall, held-out texts, full gallery": [
            *(f"{way}_recall_at_{k}" for way in ("text_to_audio", "audio_to_text") for k in (1, 10)),
            "chance_recall_at_10",
        ],
        "scale of the cosine": ["audio_scale", "text_scale"],
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(15, 4), layout="constrained")
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            points = [(row["epoch"] + 1, row[name]) for row in rows if name in row]
            axis.plot(*zip(*points, strict=True) if points else ([], []), marker=".", label=name.replace("_", " "))
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=90)
    plt.close(figure)
