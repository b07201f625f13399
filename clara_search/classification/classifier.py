"""Classify windows of recordings: by their nearest prompt, or by a head that was trained on labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from clara_search.audio.decode import decode_audio
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, Window
from clara_search.classification.calibration import softmax
from clara_search.errors import EncoderMismatch, QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import embed_windows

if TYPE_CHECKING:
    from clara_search.classification.head import Head

SCORE_DECIMALS = 6


@dataclass(frozen=True)
class Classification:
    """A window of a recording and its label.

    Attributes:
        uri: Path or URL of the recording.
        start_s: Start of the window in seconds.
        end_s: End of the window in seconds.
        label: The label of the highest score; None where its probability is below the classifier's threshold.
        score: The highest score.
        scores: The score of each label: cosines with prompts, or probabilities.
    """

    uri: str
    start_s: float
    end_s: float
    label: str | None
    score: float
    scores: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as `classify --json` prints them."""
        return asdict(self)


class Classifier(Protocol):
    """A classifier of embeddings. An implementation has the attributes and `score`; it inherits the rest.

    Attributes:
        labels: The labels to choose from.
        min_probability: Probability below which no label is given; 0 always gives one.
    """

    labels: Sequence[str]
    min_probability: float

    @property
    def needs_text(self) -> bool:
        """Whether `score` needs the transcript of each recording."""
        return False

    @property
    def has_probabilities(self) -> bool:
        """Whether scores are probabilities."""
        return True

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Score the labels.

        Args:
            vectors: Unit vectors, shape (n, dim).
            texts: The transcripts, n of them; "" where none is known.

        Returns:
            Scores, shape (n, labels).
        """

    def predict(self, uri: str, window: Window, vector: Embeddings, text: str | None = None) -> Classification:
        """Classify a window. Of equal scores the first label's wins.

        Args:
            uri: Path or URL of the recording.
            window: The window.
            vector: Its embedding, shape (dim,).
            text: The transcript, where one is known.

        Returns:
            The classification.

        Raises:
            QueryError: The classifier needs a transcript, and `text` is missing.
        """
        if self.needs_text and not (text or "").strip():
            raise QueryError(f"{uri}: the head needs the transcript of a recording, and this one has no text")
        scores = [round(float(score), SCORE_DECIMALS) for score in self.score(vector[None], [text or ""])[0]]
        best = max(range(len(self.labels)), key=scores.__getitem__)
        label = self.labels[best] if scores[best] >= self.min_probability else None
        return Classification(uri, *window, label, scores[best], dict(zip(self.labels, scores, strict=True)))


@dataclass(frozen=True)
class ZeroShotClassifier(Classifier):
    """Scores labels by the cosine of their prompts, or with a temperature by probabilities.

    Attributes:
        labels: The labels to choose from.
        classes: A unit vector for each label, shape (labels, dim), from `class_embeddings`.
        temperature: Divisor of the cosines in the softmax; None for cosines.
        min_probability: Probability below which no label is given.
    """

    labels: Sequence[str]
    classes: Embeddings = field(repr=False)
    temperature: float | None = None
    min_probability: float = 0.0

    @property
    def has_probabilities(self) -> bool:
        """Whether there is a temperature."""
        return self.temperature is not None

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Return cosines or probabilities, shape (n, labels)."""
        cosines = vectors @ self.classes.T
        return cosines if self.temperature is None else softmax(cosines / self.temperature).astype(np.float32)

    def with_threshold(self, min_probability: float) -> Self:
        """Return a classifier that gives no label below a probability.

        Args:
            min_probability: The threshold.

        Returns:
            A classifier with the same scores.

        Raises:
            QueryError: The scores are cosines.
        """
        if not self.has_probabilities:
            raise QueryError("cosines are no probabilities: calibrate them on labelled recordings to use a threshold")
        return replace(self, min_probability=min_probability)


@dataclass(frozen=True)
class HeadClassifier(Classifier):
    """Scores labels by the probabilities of a trained head.

    Attributes:
        head: The head.
        encoder: The encoder of the vectors that the head takes.
        task: Which of the head's label sets to use; None for the first.
        temperature: Divisor of the logits, on top of the head's own temperature.
        min_probability: Probability below which no label is given.

    Raises:
        EncoderMismatch: The head was trained over another encoder.
        ConfigError: The head has no such task.
    """

    head: Head
    encoder: Encoder
    task: str | None = None
    temperature: float = 1.0
    min_probability: float = 0.0
    labels: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        config = self.head.config
        task, labels = self.head.task(self.task)
        object.__setattr__(self, "task", task)
        object.__setattr__(self, "labels", labels)
        fingerprint = config.model.fingerprint
        if fingerprint and fingerprint != self.encoder.fingerprint:
            raise EncoderMismatch(
                f"the head is over {config.model} ({fingerprint[:12]}); "
                f"{self.encoder.name} ({self.encoder.fingerprint[:12]}) gives other vectors"
            )
        if config.dim != self.encoder.dim:
            raise EncoderMismatch(
                f"the head takes vectors of {config.dim} numbers; those of {self.encoder.name} have {self.encoder.dim}"
            )

    @property
    def needs_text(self) -> bool:
        """Whether the head takes vectors of transcripts."""
        return self.head.config.needs_text

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Return probabilities, shape (n, labels)."""
        text_vectors = self.encoder.encode_text(list(texts)) if self.needs_text else None
        assert self.task is not None
        probabilities = self.head.probabilities(vectors, text_vectors)[self.task]
        if self.head.config.multi_label or self.temperature == 1.0:
            return probabilities
        return softmax(np.log(np.maximum(probabilities, 1e-12)) / self.temperature).astype(np.float32)

    def with_threshold(self, min_probability: float) -> Self:
        """Return a classifier that gives no label below a probability.

        Args:
            min_probability: The threshold.

        Returns:
            A classifier with the same scores.
        """
        return replace(self, min_probability=min_probability)


def classify_file(
    path: str | Path,
    encoder: Encoder,
    classifier: Classifier,
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
    text: str | None = None,
) -> Iterator[Classification]:
    """Classify each window of a recording.

    Args:
        path: The file.
        encoder: The encoder that the classifier takes vectors of.
        classifier: The classifier.
        window_s: Seconds of a window.
        hop_s: Seconds between the starts of windows.
        text: The transcript, for classifiers that need one.

    Yields:
        A classification for each window.

    Raises:
        AudioError: The file cannot be used.
        QueryError: The classifier needs a transcript, and `text` is missing.
    """
    uri = str(Path(path).resolve())
    decoded = decode_audio(path, encoder.sample_rate)
    for window, vector in zip(*embed_windows(encoder, decoded.waveform, window_s, hop_s), strict=True):
        shown = Window(decoded.start_s + window.start_s, decoded.start_s + window.end_s)
        yield classifier.predict(uri, shown, vector, text)
