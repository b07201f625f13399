"""Heads: probabilities of labels from an encoder's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.errors import ConfigError
from clara_search.files.limits import EMBEDDING_DIM, LABELS
from clara_search.models.recorded import NOT_RECORDED, RecordedModel

Inputs = Literal["audio", "text", "both", "late"]
Kind = Literal["linear", "mlp", "knn"]

MIN_HOP_S = 1e-3
"""Seconds; a shorter hop makes too many windows."""

NEIGHBOUR_SCALE = 1 / 0.07
"""Votes of neighbours are weighted by exp(cosine / 0.07)."""
_MIN_PROBABILITY = 1e-6
_MOST_TASKS, _MOST_LAYERS = 100, 32


@dataclass(frozen=True)
class HeadConfig:
    """The configuration of a head, as `head.json` holds it.

    Attributes:
        kind: A linear layer, a perceptron, or the votes of the nearest neighbours.
        inputs: The vector of the recording, that of its transcript, both concatenated, or "late": a head for each,
            whose probabilities are averaged.
        tasks: The label sets by name: {"emotion": ("angry", "sad")}.
        dim: Length of a vector.
        model: The encoder, as the head records it; its name is "" for an encoder in the head's folder.
        multi_label: Whether any number of labels may be right at once.
        hidden: Widths of a perceptron's hidden layers.
        dropout: Dropout of a perceptron in training.
        num_examples: Number of examples to choose neighbours from.
        window_s: Seconds of a window; the vector of a longer recording is the mean over its windows.
        hop_s: Seconds between the starts of windows.
    """

    kind: Kind
    inputs: Inputs
    tasks: dict[str, tuple[str, ...]]
    dim: int
    model: RecordedModel = NOT_RECORDED
    multi_label: bool = False
    hidden: tuple[int, ...] = (512, 128)
    dropout: float = 0.3
    num_examples: int = 0
    window_s: float = 10.0
    hop_s: float = 5.0

    def __post_init__(self) -> None:
        sizes = (self.dim, *self.hidden, *map(len, self.tasks.values()))
        if not self.tasks or not all(1 <= size <= 1_000_000 for size in sizes):
            raise ValueError("a head needs a task, labels for each task, and widths from 1 to 1,000,000")
        if len(self.tasks) > _MOST_TASKS or len(self.hidden) > _MOST_LAYERS:
            raise ValueError(f"a head has at most {_MOST_TASKS} tasks and {_MOST_LAYERS} hidden layers")
        LABELS.check(sum(map(len, self.tasks.values())), "a head", ValueError)
        EMBEDDING_DIM.check(self.dim, "a head", ValueError)
        if not (0 <= self.dropout < 1 and MIN_HOP_S <= self.hop_s <= self.window_s and self.num_examples >= 0):
            raise ValueError("a head needs dropout below 1, a hop no longer than its window, and no negative count")

    @property
    def streams(self) -> tuple[str, ...]:
        """The input of each part: "audio", "text" or "both"."""
        return ("audio", "text") if self.inputs == "late" else (self.inputs,)

    @property
    def needs_text(self) -> bool:
        """Whether the head takes vectors of transcripts."""
        return self.inputs != "audio"


class Dense(nn.Module):
    """Linear layers over standardised vectors: one for each task, after the hidden layers that the tasks share."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: HeadConfig, stream: str) -> None:
        super().__init__()
        width = config.dim * (2 if stream == "both" else 1)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        layers: list[nn.Module] = []
        for hidden in config.hidden if config.kind == "mlp" else ():
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = hidden
        self.trunk = nn.Sequential(*layers)
        self.outputs = nn.ModuleList(nn.Linear(width, len(labels)) for labels in config.tasks.values())

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """Map vectors, shape (n, width), to the logits of each task, shape (n, labels)."""
        features = self.trunk((vectors - self.mean) * self.scale)
        return [output(features) for output in self.outputs]

    def standardise(self, vectors: Tensor) -> None:
        """Set mean and scale from `vectors`, shape (n, width)."""
        self.mean = vectors.mean(dim=0)
        self.scale = 1.0 / vectors.std(dim=0, correction=0).clamp_min(1e-4)


class Neighbours(nn.Module):
    """The labels of the nearest examples by cosine, nearer ones with more weight."""

    vectors: Tensor
    count: Tensor

    def __init__(self, config: HeadConfig, stream: str) -> None:
        super().__init__()
        width = config.dim * (2 if stream == "both" else 1)
        self.multi_label = config.multi_label
        self.register_buffer("count", torch.ones((), dtype=torch.long))
        self.register_buffer("vectors", torch.zeros(config.num_examples, width))
        for task, labels in enumerate(config.tasks.values()):
            self.register_buffer(f"targets_{task}", torch.zeros(config.num_examples, len(labels)))
        self.tasks = len(config.tasks)

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """Map vectors, shape (n, width), to the logits of each task, shape (n, labels): those of the votes."""
        cosines = F.normalize(vectors, dim=-1) @ F.normalize(self.vectors, dim=-1).T
        nearest = cosines.topk(max(1, min(int(self.count), len(self.vectors))), dim=-1)
        weights = (nearest.values * NEIGHBOUR_SCALE).softmax(dim=-1)
        logits = []
        for task in range(self.tasks):
            targets: Tensor = getattr(self, f"targets_{task}")
            votes = (weights[..., None] * targets[nearest.indices]).sum(dim=1)
            logits.append(_to_logits(votes, self.multi_label))
        return logits


class Head(nn.Module):
    """The parts of a head, the weights of their mean, and a temperature for each task."""

    mix: Tensor
    temperatures: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        part = Neighbours if config.kind == "knn" else Dense
        self.parts = nn.ModuleList(part(config, stream) for stream in config.streams)
        self.register_buffer("mix", torch.full((len(self.parts),), 1.0 / len(self.parts)))
        self.register_buffer("temperatures", torch.ones(len(config.tasks)))

    def forward(self, audio: Tensor | None, text: Tensor | None) -> list[Tensor]:
        """Map vectors of recordings and of transcripts, shape (n, dim) each, to the logits of each task."""
        logits_of_parts = [
            part(head_input(stream, audio, text)) for part, stream in zip(self.parts, self.config.streams, strict=True)
        ]
        if len(logits_of_parts) == 1:
            return list(logits_of_parts[0])
        return [self._mix(list(logits)) for logits in zip(*logits_of_parts, strict=True)]

    def _mix(self, logits: list[Tensor]) -> Tensor:
        """Return the logits of the weighted mean of probabilities."""
        probabilities = [_to_probabilities(x, self.config.multi_label) for x in logits]
        mean = sum(weight * x for weight, x in zip(self.mix, probabilities, strict=True))
        assert isinstance(mean, Tensor)
        return _to_logits(mean, self.config.multi_label)

    def task(self, name: str | None = None) -> tuple[str, Sequence[str]]:
        """Return a label set.

        Args:
            name: Name of the task; None for the first.

        Returns:
            The name and the labels.

        Raises:
            ConfigError: The head has no such task.
        """
        tasks = self.config.tasks
        name = next(iter(tasks)) if name is None else name
        if name not in tasks:
            raise ConfigError(f"the head has no task {name!r}; it has {', '.join(tasks)}")
        return name, tasks[name]

    @torch.inference_mode()
    def probabilities(
        self, audio: npt.NDArray[np.float32] | None, text: npt.NDArray[np.float32] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the probabilities of the labels of each task.

        Args:
            audio: Vectors of recordings, shape (n, dim), for heads that take them.
            text: Vectors of transcripts, shape (n, dim), for heads that take them.

        Returns:
            Probabilities by task, shape (n, labels).
        """
        inputs = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)) for x in (audio, text)]
        logits = self(*inputs)
        return {
            task: _to_probabilities(x / temperature, self.config.multi_label).numpy()
            for task, x, temperature in zip(self.config.tasks, logits, self.temperatures, strict=True)
        }


def head_input(stream: str, audio: Tensor | None, text: Tensor | None) -> Tensor:
    """Return the input of a part of a head.

    Args:
        stream: "audio", "text" or "both".
        audio: Vectors of recordings, shape (n, dim).
        text: Vectors of transcripts, shape (n, dim).

    Returns:
        Shape (n, dim), or (n, 2 dim) for "both".

    Raises:
        ValueError: Vectors that the part needs are None.
    """
    needed = {"audio": [audio], "text": [text], "both": [audio, text]}[stream]
    given = [x for x in needed if x is not None]
    if len(given) < len(needed):
        raise ValueError(
            f"a head over {stream} needs {' and '.join(('audio', 'text') if stream == 'both' else (stream,))}"
        )
    return torch.cat(given, dim=-1)


def _to_probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    return logits.sigmoid() if multi_label else logits.softmax(dim=-1)


def _to_logits(probabilities: Tensor, multi_label: bool) -> Tensor:
    clamped = probabilities.clamp(_MIN_PROBABILITY, 1.0 - _MIN_PROBABILITY)
    return clamped.logit() if multi_label else clamped.log()
