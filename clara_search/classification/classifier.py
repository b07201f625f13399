"""Classify windows of recordings: by their nearest prompt, or by a head that was trained on labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clara_search.audio.decode import decode_audio
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, Window
from clara_search.classification.base import Classification, Classifier, Recorded
from clara_search.classification.calibration import Floats, softmax
from clara_search.errors import EncoderMismatch, QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import embed_windows

if TYPE_CHECKING:
    from clara_search.classification.head import Head


@dataclass(frozen=True)
class ZeroShotClassifier(Classifier):
    """Scores labels by the cosine of their prompts, or with a temperature by probabilities.

    Attributes:
        labels: The labels to choose from.
        classes: A unit vector for each label, shape (labels, dim), from `class_embeddings`.
        temperature: Divisor of the cosines in the softmax; None for cosines.
        min_probability: Probability below which no label is given.
        match: Returns for cosines, shape (n, labels), the probability that each label matches, independent of the
            others.
        is_multi_label: Whether any number of labels may be right at once: scores are then those of `match`.

    Raises:
        QueryError: Several labels may be right, and `match` is missing or there is a temperature.
    """

    labels: Sequence[str]
    classes: Embeddings = field(repr=False)
    temperature: float | None = None
    min_probability: float | None = None
    match: Callable[[Floats], Floats] | None = field(default=None, repr=False)
    is_multi_label: bool = False

    def __post_init__(self) -> None:
        if self.is_multi_label and (self.match is None or self.temperature is not None):
            raise QueryError("several labels need probabilities that are independent: a softmax chooses one label")

    @property
    def has_probabilities(self) -> bool:
        """Whether there is a temperature, or several labels may be right."""
        return self.temperature is not None or self.is_multi_label

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Return cosines or probabilities, shape (n, labels)."""
        cosines = vectors @ self.classes.T
        if self.is_multi_label and self.match is not None:
            return self.match(cosines.astype(np.float64)).astype(np.float32)
        return cosines if self.temperature is None else softmax(cosines / self.temperature).astype(np.float32)

    def probabilities(self, scores: Floats) -> Floats | None:
        """Return the probabilities of scores: these themselves, or for cosines those of a match where it is known."""
        return scores if self.has_probabilities else None if self.match is None else self.match(scores)


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
    min_probability: float | None = None
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

    @property
    def is_multi_label(self) -> bool:
        """Whether the head was trained on recordings with any number of labels."""
        return self.head.config.multi_label

    def score(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        """Return probabilities, shape (n, labels)."""
        text_vectors = self.encoder.encode_text(list(texts)) if self.needs_text else None
        assert self.task is not None
        probabilities = self.head.probabilities(vectors, text_vectors)[self.task]
        if self.head.config.multi_label or self.temperature == 1.0:
            return probabilities
        return softmax(np.log(np.maximum(probabilities, 1e-12)) / self.temperature).astype(np.float32)


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
    spans, vectors = embed_windows(encoder, decoded.waveform, window_s, hop_s)
    shown = [Window(decoded.start_s + span.start_s, decoded.start_s + span.end_s) for span in spans]
    yield from classifier.predict_all([Recorded(uri, window, text) for window in shown], vectors)
