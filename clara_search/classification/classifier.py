"""Name recordings, window by window: by their nearest prompt, or by a head that learned the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clara_search.audio.decode import load_audio
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, Window
from clara_search.classification.calibration import Calibration, calibrate, softmax
from clara_search.datasets.labelled import Clip, check_column, format_counts
from clara_search.datasets.readers import read_audio_bytes
from clara_search.errors import AudioError, EncoderMismatch, QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import mean_embedding

if TYPE_CHECKING:
    from clara_search.classification.head import Head

from clara_search.models.windows import embed_windows


@dataclass(frozen=True)
class Classification:
    """A stretch of a recording and its label, None where no label is sure enough.

    `scores` holds what each label has, `score` the most: cosines with prompts, probabilities where they are calibrated
    or a head gives them.
    """

    uri: str
    start_s: float
    end_s: float
    label: str | None
    score: float
    scores: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return what `classify --json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class Namer:
    """What gives each of `labels` a score.

    Attributes:
        labels: to choose from.
        score: vectors (n, dim) and, where the namer `needs_text`, the n texts -> scores (n, labels).
        needs_text: whether it has to know what is said.
        probable: whether the scores are probabilities.
        least: the probability below which no label is given; 0 always gives one.
    """

    labels: Sequence[str]
    score: Callable[[Embeddings, Sequence[str] | None], Embeddings]
    needs_text: bool = False
    probable: bool = False
    least: float = 0.0

    def name(self, uri: str, stretch: Window, vector: Embeddings, text: str | None = None) -> Classification:
        """Return which label `vector` (dim,) has. Of equal scores the first label's wins.

        Raises QueryError where it has to know what is said, and nothing says so.
        """
        if self.needs_text and not (text or "").strip():
            raise QueryError(f"{uri}: the head has to know what is said in it, and no text is given")
        scores = [round(float(score), 6) for score in self.score(vector[None], [text or ""])[0]]
        best = max(range(len(self.labels)), key=scores.__getitem__)
        label = self.labels[best] if scores[best] >= self.least else None
        return Classification(uri, *stretch, label, scores[best], dict(zip(self.labels, scores, strict=True)))

    def abstaining(self, below: float) -> Namer:
        """Return a namer that gives no label below that probability. Raises QueryError where it has none."""
        if not self.probable:
            raise QueryError("cosines are no probabilities: calibrate them on labelled recordings to abstain")
        return replace(self, least=below)


def prompt_namer(labels: Sequence[str], classes: Embeddings, temperature: float | None = None) -> Namer:
    """Return what names by the nearest of `classes` (labels, dim), which `class_embeddings` gives.

    The scores are cosines; with a `temperature` the probabilities that follow from them.
    """

    def score(vectors: Embeddings, _texts: Sequence[str] | None) -> Embeddings:
        cosines = vectors @ classes.T
        return cosines if temperature is None else softmax(cosines / temperature).astype(np.float32)

    return Namer(labels, score, probable=temperature is not None)


def head_namer(head: Head, encoder: Encoder, task: str | None = None, temperature: float = 1.0) -> Namer:
    """Return what names by `head`, over `encoder`'s vectors, the labels of `task`, by default its first.

    Raises EncoderMismatch for a head over another encoder, ConfigError for a task it has not.
    """
    name, labels = head.task(task)
    if head.config.fingerprint and head.config.fingerprint != encoder.fingerprint:
        raise EncoderMismatch(
            f"the head is over {head.config.model} ({head.config.fingerprint[:12]}); "
            f"{encoder.name} ({encoder.fingerprint[:12]}) gives other vectors"
        )

    if head.config.dim != encoder.dim:
        raise EncoderMismatch(
            f"the head takes vectors of {head.config.dim} numbers; those of {encoder.name} have {encoder.dim}"
        )

    def score(vectors: Embeddings, texts: Sequence[str] | None) -> Embeddings:
        said = encoder.encode_text(list(texts or [])) if head.config.needs_text else None
        probabilities = head.probabilities(vectors, said)[name]
        if head.config.multi_label or temperature == 1.0:
            return probabilities
        return softmax(np.log(np.maximum(probabilities, 1e-12)) / temperature).astype(np.float32)

    return Namer(labels, score, needs_text=head.config.needs_text, probable=True)


def calibration_of(namer: Namer, encoder: Encoder, clips: Sequence[Clip], column: str) -> Calibration:
    """Fit a temperature to the scores that `namer` gives to `clips`, whose labels stand in `column`.

    The clips of the split "valid" count where there are any, else those of any split but "test"; clips with another
    label and recordings that cannot be read are passed over. Raises ConfigError where there is no such column,
    QueryError where no clip is left.
    """
    check_column(clips, column, "the recordings to calibrate on")
    tuned = [clip for clip in clips if clip.split == "valid"] or [clip for clip in clips if clip.split != "test"]
    number = {label: place for place, label in enumerate(namer.labels)}
    rows, expected = [], []
    for clip in tuned:
        label = clip.value(column)
        if label not in number or (namer.needs_text and not clip.text):
            continue
        try:
            waveform = load_audio(read_audio_bytes(clip.audio), encoder.sample_rate)
        except (AudioError, OSError):
            continue
        vector = mean_embedding(embed_windows(encoder, waveform, DEFAULT_WINDOW_S, DEFAULT_HOP_S)[1])
        rows.append(namer.score(vector[None], [clip.text])[0])
        expected.append(number[str(label)])
    if not rows:
        there = ", ".join(format_counts(clip.value(column) or "" for clip in tuned)) or "nothing"
        raise QueryError(f"none of {', '.join(namer.labels)} can be calibrated: {column!r} holds {there}")
    scores = np.stack(rows).astype(np.float64)
    return calibrate(np.log(np.maximum(scores, 1e-12)) if namer.probable else scores, np.array(expected))


def classify_file(
    path: str | Path,
    encoder: Encoder,
    namer: Namer,
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
    text: str | None = None,
) -> Iterator[Classification]:
    """Yield a classification for each window of the recording at `path`, in which `text` is said.

    Raises AudioError where the file cannot be used.
    """
    uri = str(Path(path).resolve())
    waveform = load_audio(path, encoder.sample_rate)
    for stretch, vector in zip(*embed_windows(encoder, waveform, window_s, hop_s), strict=True):
        yield namer.name(uri, stretch, vector, text)
