"""Calibrate a classifier on labelled recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.classification.base import Classifier
from clara_search.classification.calibration import Calibration, calibrate
from clara_search.datasets.labelled import Clip, check_column, count_labels
from clara_search.datasets.recordings import load_recording
from clara_search.errors import AudioError, QueryError, SourceError
from clara_search.models.base import Encoder
from clara_search.models.windows import embed_windows, mean_embedding


def calibrate_classifier(classifier: Classifier, encoder: Encoder, clips: Sequence[Clip], column: str) -> Calibration:
    """Fit a temperature to the scores that a classifier gives to labelled recordings.

    The clips of the split "valid" are used, or without any those of all splits but "test". Clips with other labels and
    recordings that cannot be read are left out: `num_examples` counts the rest.

    Args:
        classifier: The classifier, without a temperature.
        encoder: The encoder that it takes vectors of.
        clips: The recordings.
        column: The column that holds their labels.

    Returns:
        The calibration.

    Raises:
        ConfigError: No clip has such a column.
        QueryError: No clip is left, or any number of labels may be right: a temperature is for one.
    """
    if classifier.is_multi_label:
        raise QueryError("a temperature is for classifiers that choose one label, and this one gives several")
    check_column(clips, column, "the recordings to calibrate on")
    candidates = [clip for clip in clips if clip.split == "valid"] or [clip for clip in clips if clip.split != "test"]
    numbers = {label: number for number, label in enumerate(classifier.labels)}
    rows, targets = [], []
    for clip in candidates:
        label = clip.value(column)
        if label not in numbers or (classifier.needs_text and not clip.text):
            continue
        try:
            waveform = load_recording(clip, encoder.sample_rate)
        except (AudioError, SourceError, OSError):
            continue
        vector = mean_embedding(embed_windows(encoder, waveform, DEFAULT_WINDOW_S, DEFAULT_HOP_S)[1])
        rows.append(classifier.score(vector[None], [clip.text])[0])
        targets.append(numbers[str(label)])
    if not rows:
        counts = ", ".join(count_labels(clip.value(column) or "" for clip in candidates)) or "nothing"
        raise QueryError(f"none of {', '.join(classifier.labels)} can be calibrated: {column!r} holds {counts}")
    scores = np.stack(rows).astype(np.float64)
    logits = np.log(np.maximum(scores, 1e-12)) if classifier.has_probabilities else scores
    return calibrate(logits, np.array(targets))
