"""A picture of the curves of a training run."""

from __future__ import annotations

from pathlib import Path

from trainer.runtime.log_table import Row


def draw_training_curves(rows: list[Row], path: Path) -> None:
    """Draw the loss, the recall of held-out texts beside chance, and the logit scales by epoch, as a PNG.

    Args:
        rows: a row for each epoch, as in the run's log.
        path: the file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {
        "loss (training)": ["train_loss"],
        "recall, held-out texts, full gallery": [
            *(f"{direction}_recall_at_{k}" for direction in ("text_to_audio", "audio_to_text") for k in (1, 10)),
            "chance_recall_at_10",
        ],
        "logit scale": ["audio_scale", "text_scale"],
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
