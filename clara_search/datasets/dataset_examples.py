"""Examples of a copy of a published dataset, read as its declaration says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara_search.datasets.dataset import Dataset
from clara_search.datasets.example import Example
from clara_search.datasets.layouts import DatasetRow, read_dataset
from clara_search.errors import SourceError
from clara_search.files.tables import OnError, raise_error


def read_dataset_examples(dataset: Dataset, root: Path, report: OnError = raise_error) -> Iterator[Example]:
    """Yield the recordings of a copy of a dataset, each with all of its captions.

    The label is that of the first column of labels, unless a recording may have several. Recordings without a text have
    their label as text.

    Args:
        dataset: Its declaration.
        root: The folder that it was downloaded to.
        report: Called with the error of each recording that is missing, once; raises by default.

    Raises:
        SourceError: The folder is missing, or has another layout.
        FormatError: A table is broken, or lacks a column.
    """
    rows: dict[str, list[DatasetRow]] = {}
    for row in read_dataset(dataset, root):
        rows.setdefault(row.name, []).append(row)
    for name, of_recording in rows.items():
        audio, columns = of_recording[0].audio, of_recording[0].columns
        if audio is None:
            report(SourceError(f"{name}: there is no such file in {root}"))
            continue
        label = columns.get(dataset.labels[0]) if dataset.labels and not dataset.multi_label else None
        texts = list(dict.fromkeys(row.columns["text"] for row in of_recording if "text" in row.columns))
        if not texts and label is None:
            report(SourceError(f"{name}: has neither a text nor a label"))
            continue
        texts = texts or [str(label).replace("_", " ")]
        is_sound = dataset.language == "zxx"
        language = columns["language"]
        yield Example(
            key=name,
            audio=audio,
            text=texts[0],
            language=language,
            text_language="en" if is_sound else language,
            kind="sound" if is_sound else "speech",
            label=label,
            source=dataset.name,
            speaker=columns.get("speaker"),
            licence=dataset.licence,
            split=columns.get("split"),
            alternatives=tuple(texts[1:]),
        )
