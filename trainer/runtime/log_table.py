"""The log of a run as one table."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, float]


def read_log(folder: Path) -> list[Row]:
    """Return a row for each epoch from all `version_N/metrics.csv` in `folder`; a later version wins."""
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
    """Write `rows` as CSV: the epoch, then the other columns by name."""
    names = ["epoch", *sorted({name for row in rows for name in row} - {"epoch"})]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
