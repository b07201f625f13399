"""A head and some of the encoder below it, trained together: the last layers, low-rank changes (LoRA), or all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio.decode import load_audio
from clara_search.audio.mel import log_mel
from clara_search.audio.windows import Window, crop, window_spans
from clara_search.classification.head import Dense, Head, HeadConfig
from clara_search.datasets.readers import read_audio_bytes
from clara_search.errors import ConfigError
from clara_search.models.batching import choose_device, length_batches, padding_mask
from clara_search.models.clara.checkpoint import fingerprint, load_model, save_model
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model, model_type
from clara_search.models.training_sources import training_sources
from trainer.probing.experiment import LabelledSet, Predictor, Probabilities, ProbeConfig
from trainer.probing.fit import Examples, calibrate
from trainer.probing.folds import Fold
from trainer.probing.sgd import (
    FitConfig,
    History,
    OnEpoch,
    class_weights,
    loss_of,
    parameter_groups,
    quality,
    sample_batches,
    train_head,
)

_TOGETHER = 32
"""Clips that are embedded at once where no gradient is asked for."""

_FRAMES_TOGETHER = 4096
"""Padded frames behind the convolutions that go through the tower together: clips of like length."""


class LowRank(nn.Module):
    """A weight and a product of two thin matrices beside it, the second one zero at first (arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.up @ self.down


def unfreeze(model: Clara, what: str, text: bool, audio: bool = True) -> list[nn.Module]:
    """Let `what` ("last:N", "lora", "lora:RANK", "all") of the towers in use be trained, and nothing else.

    Returns the modules that hold it, which are to be in training mode. Raises ConfigError for what is none of these, or
    more layers than there are.
    """
    model.requires_grad_(requires_grad=False)
    towers: list[tuple[list[nn.Module], list[nn.Module], nn.Module]] = []
    if audio:
        tower = model.audio
        frames = list(tower.frame_layers.layers) if tower.frame_layers is not None else []  # type: ignore[arg-type]
        ends = [
            tower.norm,
            tower.output,
            *([tower.pool_attention] if tower.pool_attention is not None else []),
            model.audio_projection,
        ]
        towers.append(([*frames, tower.cross, *tower.layers], ends, tower))
    if text:
        said = model.text
        ends = [said.proj, said.proj_norm, said.norm, said.output, model.text_projection]
        towers.append((list(said.layers.layers), ends, said))  # type: ignore[arg-type]
    asked = re.fullmatch(r"(all)|last:(\d+)|lora(?::(\d+))?", what)
    if asked is None:
        raise ConfigError(f"cannot unfreeze {what!r}: say none, last:N, lora, lora:RANK or all")
    if asked.group(1):
        chosen = [module for _, ends, tower in towers for module in (tower, ends[-1])]
    elif asked.group(2):
        count = int(asked.group(2))
        for layers, _, _ in towers:
            if count > len(layers):
                raise ConfigError(f"cannot unfreeze the last {count} layers of a tower that has {len(layers)}")
        chosen = [module for layers, ends, _ in towers for module in (*layers[len(layers) - count :], *ends)]
    else:
        return [_low_rank(tower, int(asked.group(3) or 8)) for _, _, tower in towers]
    for module in chosen:
        module.requires_grad_(requires_grad=True)
    return chosen


def _low_rank(tower: nn.Module, rank: int) -> nn.Module:
    """Give every matrix of `tower`'s layers a low-rank change, and return all of these changes."""
    changes = nn.ModuleList()
    for module in list(tower.modules()):
        for name in ("weight", "in_proj_weight"):
            weight = getattr(module, name, None)
            if isinstance(module, (nn.Linear, nn.MultiheadAttention)) and isinstance(weight, Tensor):
                change = LowRank(weight, rank)
                parametrize.register_parametrization(module, name, change)
                changes.append(change)
    return changes


def merge(model: nn.Module) -> None:
    """Make all low-rank changes part of the weights they change."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)


class Finetuner:
    """Fits heads together with the encoder of `config`."""

    def __init__(self, config: ProbeConfig) -> None:
        if config.fit.head not in ("linear", "mlp") or config.fit.inputs == "late":
            raise ConfigError("an encoder is trained below one linear or mlp head: not below knn, logistic or late")
        self._folder = find_model(config.model)
        if model_type(self._folder) != "clara":
            raise ConfigError(f"{config.model}: only CLARA models can be unfrozen")
        unfreeze(load_model(self._folder)[0], config.unfreeze, config.fit.inputs != "audio")  # refuses early
        self._config = config
        self._device = choose_device(None)
        # A head that was not the best of several goes, and its encoder with it.
        self._tuned: WeakKeyDictionary[Head, tuple[Clara, LabelledSet]] = WeakKeyDictionary()

    def __call__(
        self, config: FitConfig, shape: HeadConfig, labelled: LabelledSet, fold: Fold, report: OnEpoch
    ) -> tuple[Head, History, Predictor]:
        """Fit a head and the encoder to a fold."""
        torch.manual_seed(config.seed)
        model, tokenizer = load_model(self._folder)
        uses = config.inputs
        trained = unfreeze(model, self._config.unfreeze, uses != "audio", uses != "text")
        model.to(self._device)
        head = Head(shape)
        part = head.parts[0]
        assert isinstance(part, Dense)
        part.standardise(labelled.examples(fold.train).stream(uses))
        part.to(self._device)
        towers = _Towers(model, tokenizer, labelled, self._config.window_s, self._config.hop_s, uses)
        targets = [target[fold.train] for target in labelled.tasks.targets]
        weights = class_weights(targets, shape) if config.balance == "weights" else [None] * len(targets)
        weights = [None if weight is None else weight.to(self._device) for weight in weights]
        history: History = []

        def note(row: dict[str, float]) -> None:
            history.append(row)
            report(row)

        def step(batch: Tensor) -> Tensor:
            model.eval()
            for module in trained:
                module.train()
            part.train()
            seen = towers.vectors([fold.train[index] for index in batch.tolist()], one_window=True)
            wanted = [target[batch].to(self._device) for target in targets]
            return loss_of(part(_joined(seen)), wanted, weights, shape.multi_label)

        def validate() -> dict[str, float]:
            logits, _ = answers(fold.valid)
            return quality(logits, [target[fold.valid] for target in labelled.tasks.targets], shape.multi_label)

        @torch.inference_mode()
        def answers(positions: Sequence[int]) -> tuple[list[Tensor], Examples]:
            model.eval()
            part.eval()
            seen = [
                towers.vectors(positions[at : at + _TOGETHER], one_window=False)
                for at in range(0, len(positions), _TOGETHER)
            ]
            audio, text = (
                torch.cat([one[which] for one in seen]).cpu() if seen[0][which] is not None else None  # type: ignore[misc]
                for which in (0, 1)
            )
            joined = torch.cat([_joined(one) for one in seen])
            logits = [one.cpu() for one in part(joined)]
            given = audio if audio is not None else torch.zeros(len(positions), shape.dim)
            return logits, Examples(given, text, [target[list(positions)] for target in labelled.tasks.targets])

        def order(epoch: int) -> Iterator[Tensor]:
            return sample_batches(len(fold.train), config, targets, shape, epoch)

        moved = [p for p in model.parameters() if p.requires_grad]
        groups = [*parameter_groups(part, config), {"params": moved, "lr": config.encoder_lr, "weight_decay": 0.0}]
        train_head(groups, nn.ModuleDict({"encoder": model, "head": part}), step, validate, order, config, note)
        model.eval()
        part.cpu().eval()
        part.to(self._device)
        _, examples = answers(fold.valid)
        part.cpu()
        calibrate(head, examples)
        head.eval()
        self._tuned[head] = model, labelled

        def name(positions: Sequence[int]) -> Probabilities:
            part.to(self._device)
            _, tested = answers(list(positions))
            part.cpu()
            return head.probabilities(tested.audio.numpy(), None if tested.text is None else tested.text.numpy())

        return head, history, name

    def save_encoder(self, head: Head, folder: Path) -> str:
        """Write the encoder that was trained with `head` as a model folder, and return its fingerprint."""
        model, labelled = self._tuned[head]
        merge(model)
        sources = [*(training_sources(self._folder) or ()), *sorted({clip.source for clip in labelled.clips} - {""})]
        listed = "\n".join(f"- {source}" for source in dict.fromkeys(sources))
        card = f"---\nlibrary_name: clara-search\ntraining_sources:\n{listed}\n---\n# {model.config.name}, fine-tuned\n"
        save_model(folder, model.cpu(), load_model(self._folder)[1], card, torch.float32)
        return fingerprint(folder)


def _joined(seen: tuple[Tensor | None, Tensor | None]) -> Tensor:
    return torch.cat([one for one in seen if one is not None], dim=-1)


class _Towers:
    """Gives the vectors of clips as the encoder makes them now, with gradients where they are asked for."""

    def __init__(
        self, model: Clara, tokenizer: object, labelled: LabelledSet, window_s: float, hop_s: float, inputs: str
    ) -> None:
        self._model, self._tokenizer, self._labelled = model, tokenizer, labelled
        self._cutting, self._inputs = (window_s, hop_s), inputs
        self._rng = np.random.default_rng(0)
        self._pool = ThreadPoolExecutor(2)

    def vectors(self, positions: Sequence[int], one_window: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return the vectors of recordings and of texts, (n, dim) each, where they are used.

        Of a long recording `one_window` takes any one of its windows; else it has their mean.
        """
        with parametrize.cached():  # a changed weight is computed once for all that goes through it
            audio = self._heard(positions, one_window) if self._inputs != "text" else None
            text = self._read(positions) if self._inputs != "audio" else None
        return audio, text

    def _heard(self, positions: Sequence[int], one_window: bool) -> Tensor:
        config = self._model.config.mel
        device = self._model.audio_logit_scale.device
        parts: list[Tensor] = []
        owners: list[int] = []
        contents = self._pool.map(self._waveform, positions)
        for place, waveform in enumerate(contents):
            found: list[Window] = list(window_spans(len(waveform) / config.sample_rate, *self._cutting))
            if one_window:
                found = [found[int(self._rng.integers(len(found)))]]
            parts += [log_mel(crop(waveform, window, config.sample_rate), config, device) for window in found]
            owners += [place] * len(found)
        rows: list[Tensor] = [torch.empty(0)] * len(parts)
        lengths = [len(part) for part in parts]
        for indices in length_batches(
            [length // self._model.config.audio.stride for length in lengths], _FRAMES_TOGETHER
        ):
            frames = pad_sequence([parts[index] for index in indices], batch_first=True)
            mask = padding_mask([lengths[index] for index in indices]).to(device)
            for index, row in zip(indices, self._model.embed_log_mels(frames, mask), strict=True):
                rows[index] = row
        embedded = torch.stack(rows)
        if len(parts) == len(positions):
            return embedded
        sums = torch.zeros(len(positions), embedded.shape[1], device=device)
        sums = sums.index_add(0, torch.tensor(owners, device=device), embedded)
        return nn.functional.normalize(sums, dim=-1)

    def _waveform(self, position: int) -> np.ndarray:
        clip = self._labelled.clips[position]
        return load_audio(read_audio_bytes(clip.audio), self._model.config.mel.sample_rate)

    def _read(self, positions: Sequence[int]) -> Tensor:
        clips = [self._labelled.clips[position] for position in positions]
        languages = [None if clip.language == "und" else clip.language for clip in clips]
        longest = self._model.config.text.max_positions
        ids, mask = self._tokenizer.encode([clip.text for clip in clips], languages, longest)  # type: ignore[attr-defined]
        device = self._model.audio_logit_scale.device
        return self._model.embed_tokens(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
