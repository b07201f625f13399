"""A head over an encoder's vectors: what turns them into probabilities of labels, and its folder.

The folder holds `head.json` and `head.safetensors`, and where the encoder was trained with it that encoder, as a model
folder `encoder`. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from clara_search.config import from_file
from clara_search.errors import ConfigError, FormatError, OutputError, first_line

FORMAT_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, ENCODER_FOLDER = "head.json", "head.safetensors", "encoder"

Inputs = Literal["audio", "text", "both", "late"]
Kind = Literal["linear", "mlp", "knn"]

MIN_HOP_S = 1e-3
"""Seconds; with a shorter one a recording would have more windows than anybody waits for."""

_NEIGHBOUR_SCALE = 1 / 0.07
"""How much nearer neighbours count for more: votes are weighed by exp(cosine / 0.07)."""
_LEAST = 1e-6


@dataclass(frozen=True)
class HeadConfig:
    """What a head takes and gives.

    Attributes:
        kind: a linear layer, a perceptron, or the votes of the nearest neighbours.
        inputs: the vector of the recording, of what is said in it, both in one, or a head for each whose probabilities
            are mixed.
        tasks: the labels to choose from, by what they answer: {"emotion": ("angry", "sad")}.
        dim: length of a vector.
        model: name of the encoder, where it is not in the head's own folder.
        fingerprint: of that encoder.
        multi_label: whether any number of labels may be right at once.
        hidden: widths of a perceptron's inner layers.
        dropout: of a perceptron, in training.
        examples: how many there are to choose neighbours from.
        window_s: seconds of a window; a longer recording has the mean of its windows' vectors.
        hop_s: seconds from window to window.
    """

    kind: Kind
    inputs: Inputs
    tasks: dict[str, tuple[str, ...]]
    dim: int
    model: str = ""
    fingerprint: str = ""
    multi_label: bool = False
    hidden: tuple[int, ...] = (512, 128)
    dropout: float = 0.3
    examples: int = 0
    window_s: float = 10.0
    hop_s: float = 5.0

    def __post_init__(self) -> None:
        sizes = (self.dim, *self.hidden, *map(len, self.tasks.values()))
        if not self.tasks or not all(1 <= size <= 1_000_000 for size in sizes):
            raise ValueError("a head needs a task, some labels for each, and widths from 1 to 1,000,000")
        if not (0 <= self.dropout < 1 and MIN_HOP_S <= self.hop_s <= self.window_s and self.examples >= 0):
            raise ValueError("a head needs dropout below 1, a hop no longer than its window, and no negative count")

    @property
    def streams(self) -> tuple[str, ...]:
        """What each of its parts takes."""
        return ("audio", "text") if self.inputs == "late" else (self.inputs,)

    @property
    def needs_text(self) -> bool:
        """Whether it cannot answer without knowing what is said."""
        return self.inputs != "audio"


class Dense(nn.Module):
    """Linear layers over standardised vectors: one a task, behind a trunk that all share, where there is one."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: HeadConfig, stream: str) -> None:
        super().__init__()
        width = config.dim * (2 if stream == "both" else 1)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        layers: list[nn.Module] = []
        for inner in config.hidden if config.kind == "mlp" else ():
            layers += [nn.Linear(width, inner), nn.ReLU(), nn.Dropout(config.dropout)]
            width = inner
        self.trunk = nn.Sequential(*layers)
        self.outputs = nn.ModuleList(nn.Linear(width, len(labels)) for labels in config.tasks.values())

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """(n, width) -> for each task logits, (n, labels)."""
        inner = self.trunk((vectors - self.mean) * self.scale)
        return [output(inner) for output in self.outputs]

    def standardise(self, vectors: Tensor) -> None:
        """Learn mean and scale from `vectors`, (n, width)."""
        self.mean = vectors.mean(dim=0)
        self.scale = 1.0 / vectors.std(dim=0, correction=0).clamp_min(1e-4)


class Neighbours(nn.Module):
    """The labels of the nearest examples, by cosine, nearer ones counting for more."""

    vectors: Tensor
    count: Tensor

    def __init__(self, config: HeadConfig, stream: str) -> None:
        super().__init__()
        width = config.dim * (2 if stream == "both" else 1)
        self.multi_label = config.multi_label
        self.register_buffer("count", torch.ones((), dtype=torch.long))
        self.register_buffer("vectors", torch.zeros(config.examples, width))
        for task, labels in enumerate(config.tasks.values()):
            self.register_buffer(f"targets_{task}", torch.zeros(config.examples, len(labels)))
        self.tasks = len(config.tasks)

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """(n, width) -> for each task logits, (n, labels): what the votes are the probabilities of."""
        cosines = F.normalize(vectors, dim=-1) @ F.normalize(self.vectors, dim=-1).T
        nearest = cosines.topk(max(1, min(int(self.count), len(self.vectors))), dim=-1)
        weights = (nearest.values * _NEIGHBOUR_SCALE).softmax(dim=-1)
        found = []
        for task in range(self.tasks):
            targets: Tensor = getattr(self, f"targets_{task}")
            votes = (weights[..., None] * targets[nearest.indices]).sum(dim=1)
            votes = votes.clamp(_LEAST, 1.0 - _LEAST)
            found.append(votes.logit() if self.multi_label else votes.log())
        return found


class Head(nn.Module):
    """All parts of a head, how they are mixed, and a temperature for each task."""

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
        """Vectors of recordings and of texts, (n, dim) each, where they are needed -> logits of each task."""
        found = []
        for part, stream in zip(self.parts, self.config.streams, strict=True):
            found.append(part(head_input(stream, audio, text)))
        if len(found) == 1:
            return list(found[0])
        return [self._mixed(list(logits)) for logits in zip(*found, strict=True)]

    def _mixed(self, logits: list[Tensor]) -> Tensor:
        probable = [_probable(one, self.config.multi_label) for one in logits]
        mixed = sum(weight * one for weight, one in zip(self.mix, probable, strict=True))
        assert isinstance(mixed, Tensor)
        mixed = mixed.clamp(_LEAST, 1.0 - _LEAST)
        return mixed.logit() if self.config.multi_label else mixed.log()

    def task(self, name: str | None = None) -> tuple[str, Sequence[str]]:
        """Return a task, by default the first, and its labels. Raises ConfigError with those there are."""
        tasks = self.config.tasks
        chosen = next(iter(tasks)) if name is None else name
        if chosen not in tasks:
            raise ConfigError(f"the head has no task {chosen!r}; it has {', '.join(tasks)}")
        return chosen, tasks[chosen]

    @torch.inference_mode()
    def probabilities(
        self, audio: npt.NDArray[np.float32] | None, text: npt.NDArray[np.float32] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the probabilities of each task's labels, shape (n, labels), for vectors of shape (n, dim)."""
        vectors = [None if one is None else torch.from_numpy(np.ascontiguousarray(one)) for one in (audio, text)]
        logits = self(*vectors)
        return {
            task: _probable(one / temperature, self.config.multi_label).numpy()
            for task, one, temperature in zip(self.config.tasks, logits, self.temperatures, strict=True)
        }


def head_input(stream: str, audio: Tensor | None, text: Tensor | None) -> Tensor:
    """Return what a part of a head takes: (n, dim), or (n, 2 dim) for "both"."""
    wanted = {"audio": [audio], "text": [text], "both": [audio, text]}[stream]
    there = [one for one in wanted if one is not None]
    if len(there) < len(wanted):
        raise ValueError(
            f"a head over {stream} needs {' and '.join(('audio', 'text') if stream == 'both' else (stream,))}"
        )
    return torch.cat(there, dim=-1)


def _probable(logits: Tensor, multi_label: bool) -> Tensor:
    return logits.sigmoid() if multi_label else logits.softmax(dim=-1)


def save_head(folder: Path, head: Head) -> None:
    """Write `head` to `folder`. Raises OutputError where it cannot be written."""
    config = {"format_version": FORMAT_VERSION, **dataclasses.asdict(head.config)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as place:
            partial = Path(place)
            safetensors.torch.save_file(weights, partial / WEIGHTS_FILE)
            text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
            (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
            for name in (WEIGHTS_FILE, CONFIG_FILE):  # the configuration last: a folder that has one is whole
                (partial / name).replace(folder / name)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder}: the head cannot be written there ({first_line(error)})") from error


def load_head(folder: Path) -> Head:
    """Read a head folder, in evaluation mode. Raises FormatError, naming the file, for what is missing or broken."""
    path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{folder}: not a head folder, it has no readable {CONFIG_FILE}") from error
    except ValueError as error:
        raise FormatError(f"{path}: broken JSON ({first_line(error)})") from error
    if not isinstance(values, dict) or values.pop("format_version", None) != FORMAT_VERSION:
        raise FormatError(f"{path}: not a head of format version {FORMAT_VERSION}, which this release reads")
    config = from_file(HeadConfig, values, path)
    try:
        weights = safetensors.torch.load_file(weights_path)
        head = Head(config)
        head.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise FormatError(f"{weights_path}: no weights of this head ({first_line(error)})") from error
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise FormatError(f"{weights_path}: holds weights that are not finite")
    return head.eval()


def load_head_encoder(folder: Path, head: Head) -> str:
    """Return the model whose vectors the head in `folder` takes: a folder beside it, or a name."""
    own = folder / ENCODER_FOLDER
    return str(own) if own.is_dir() else head.config.model
