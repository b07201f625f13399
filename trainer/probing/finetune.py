"""Fine-tuning of a head together with the encoder: its last layers, low-rank changes (LoRA), or all of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio.mel import log_mel
from clara_search.audio.windows import Window, crop, window_spans
from clara_search.classification.head import Dense, Head, HeadConfig
from clara_search.datasets.recordings import load_recording
from clara_search.errors import ConfigError
from clara_search.models.batching import choose_device, length_batches, padding_mask
from clara_search.models.clara.checkpoint import OPTIONAL_FILES, fingerprint, load_model, save_model
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
    measure_logits,
    parameter_groups,
    sample_batches,
    total_loss,
    train_head,
)
from trainer.probing.unfreezing import merge_low_rank, unfreeze

log = logging.getLogger(__name__)

_INFERENCE_BATCH = 32
"""Clips that are embedded at once without gradients."""

_BATCH_FRAMES = 4096
"""Padded frames, after the convolutions, that go through the tower at once."""


class Finetuner:
    """A `Fitter` that trains the encoder of a probe together with the head."""

    def __init__(self, config: ProbeConfig) -> None:
        if config.fit.head not in ("linear", "mlp") or config.fit.inputs == "late":
            raise ConfigError("an encoder is trained below one linear or mlp head, not below knn, logistic or late")
        self._folder = find_model(config.model)
        if model_type(self._folder) != "clara":
            raise ConfigError(f"{config.model}: only CLARA models can be unfrozen")
        unfreeze(
            load_model(self._folder)[0], config.unfreeze, config.fit.inputs != "audio"
        )  # raises before anything is embedded
        # The head is trained on the vectors of the towers: with more in them it would not fit.
        if left := [name for name in OPTIONAL_FILES if (self._folder / name).is_file()]:
            log.warning("the towers of %s are trained and written without %s", config.model, ", ".join(left))
        self._config = config
        self._device = choose_device(config.device)
        # Weak keys: of several heads the search drops all but the best, and their encoders with them.
        self._encoders: WeakKeyDictionary[Head, tuple[Clara, LabelledSet]] = WeakKeyDictionary()

    def __call__(
        self, config: FitConfig, shape: HeadConfig, labelled: LabelledSet, fold: Fold, on_epoch: OnEpoch
    ) -> tuple[Head, History, Predictor]:
        """Fit a head and the encoder to a fold.

        Args:
            config: how they are fitted.
            shape: of the head.
            labelled: the clips.
            fold: clips to train on and to choose the epoch by.
            on_epoch: called with the row of each epoch.

        Returns:
            The head, the log of its fitting, and its predictor.
        """
        torch.manual_seed(config.seed)
        model, tokenizer = load_model(self._folder)
        trained = unfreeze(model, self._config.unfreeze, config.inputs != "audio", config.inputs != "text")
        model.to(self._device)
        head = Head(shape)
        part = head.parts[0]
        assert isinstance(part, Dense)
        part.standardise(labelled.examples(fold.train).stream(config.inputs))
        part.to(self._device)
        towers = _Towers(model, tokenizer, labelled, self._config.window_s, self._config.hop_s, config.inputs)
        targets = [target[fold.train] for target in labelled.columns.targets]
        weights = class_weights(targets, shape) if config.balance == "weights" else [None] * len(targets)
        weights = [None if weight is None else weight.to(self._device) for weight in weights]
        history: History = []

        def note(row: dict[str, float]) -> None:
            history.append(row)
            on_epoch(row)

        def step(batch: Tensor) -> Tensor:
            model.eval()
            for module in trained:
                module.train()
            part.train()
            vectors = towers.embed([fold.train[index] for index in batch.tolist()], one_window=True)
            batch_targets = [target[batch].to(self._device) for target in targets]
            return total_loss(part(_join(vectors)), batch_targets, weights, shape.multi_label)

        def validate() -> dict[str, float]:
            logits, _ = infer(fold.valid)
            return measure_logits(
                logits, [target[fold.valid] for target in labelled.columns.targets], shape.multi_label
            )

        @torch.inference_mode()
        def infer(indices: Sequence[int]) -> tuple[list[Tensor], Examples]:
            model.eval()
            part.eval()
            batches = [
                towers.embed(indices[start : start + _INFERENCE_BATCH], one_window=False)
                for start in range(0, len(indices), _INFERENCE_BATCH)
            ]
            audio, text = (
                torch.cat([batch[which] for batch in batches]).cpu() if batches[0][which] is not None else None  # type: ignore[misc]
                for which in (0, 1)
            )
            joined = torch.cat([_join(batch) for batch in batches])
            logits = [task_logits.cpu() for task_logits in part(joined)]
            audio = audio if audio is not None else torch.zeros(len(indices), shape.dim)
            return logits, Examples(audio, text, [target[list(indices)] for target in labelled.columns.targets])

        def batches_of(epoch: int) -> Iterator[Tensor]:
            return sample_batches(len(fold.train), config, targets, shape, epoch)

        unfrozen = [p for p in model.parameters() if p.requires_grad]
        groups = [*parameter_groups(part, config), {"params": unfrozen, "lr": config.encoder_lr, "weight_decay": 0.0}]
        train_head(groups, nn.ModuleDict({"encoder": model, "head": part}), step, validate, batches_of, config, note)
        model.eval()
        part.cpu().eval()
        part.to(self._device)
        _, examples = infer(fold.valid)
        part.cpu()
        calibrate(head, examples)
        head.eval()
        self._encoders[head] = model, labelled

        def predict(indices: Sequence[int]) -> Probabilities:
            part.to(self._device)
            _, examples = infer(list(indices))
            part.cpu()
            return head.probabilities(examples.audio.numpy(), None if examples.text is None else examples.text.numpy())

        return head, history, predict

    def save_encoder(self, head: Head, folder: Path) -> str:
        """Write the encoder that was trained with `head`.

        Args:
            head: returned by a call of this object.
            folder: model folder to write.

        Returns:
            The encoder's fingerprint.
        """
        model, labelled = self._encoders[head]
        merge_low_rank(model)
        sources = [*(training_sources(self._folder) or ()), *sorted({clip.source for clip in labelled.clips} - {""})]
        listed = "\n".join(f"- {source}" for source in dict.fromkeys(sources))
        card = f"---\nlibrary_name: clara-search\ntraining_sources:\n{listed}\n---\n# {model.config.name}, fine-tuned\n"
        save_model(folder, model.cpu(), load_model(self._folder)[1], card, torch.float32)
        return fingerprint(folder)


def _join(vectors: tuple[Tensor | None, Tensor | None]) -> Tensor:
    return torch.cat([part for part in vectors if part is not None], dim=-1)


class _Towers:
    """The towers of an encoder in training, which embed clips with gradients."""

    def __init__(
        self, model: Clara, tokenizer: object, labelled: LabelledSet, window_s: float, hop_s: float, inputs: str
    ) -> None:
        self._model, self._tokenizer, self._labelled = model, tokenizer, labelled
        self._window_s, self._hop_s, self._inputs = window_s, hop_s, inputs
        self._rng = np.random.default_rng(0)
        self._pool = ThreadPoolExecutor(2)

    def embed(self, indices: Sequence[int], one_window: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return the vectors of recordings and of texts, (n, dim) each; None for an input that the head does not use.

        A long recording has the vector of a random window with `one_window`, else the mean of all its windows.
        """
        with parametrize.cached():  # low-rank weights are computed once for the batch
            audio = self._embed_audio(indices, one_window) if self._inputs != "text" else None
            text = self._embed_text(indices) if self._inputs != "audio" else None
        return audio, text

    def _embed_audio(self, indices: Sequence[int], one_window: bool) -> Tensor:
        config = self._model.config.mel
        device = self._model.audio_logit_scale.device
        parts: list[Tensor] = []
        owners: list[int] = []
        for row, waveform in enumerate(self._pool.map(self._waveform, indices)):
            duration_s = len(waveform) / config.sample_rate
            spans: list[Window] = list(window_spans(duration_s, self._window_s, self._hop_s))
            if one_window:
                spans = [spans[int(self._rng.integers(len(spans)))]]
            parts += [log_mel(crop(waveform, window, config.sample_rate), config, device) for window in spans]
            owners += [row] * len(spans)
        rows: list[Tensor] = [torch.empty(0)] * len(parts)
        lengths = [len(part) for part in parts]
        for batch in length_batches([length // self._model.config.audio.stride for length in lengths], _BATCH_FRAMES):
            frames = pad_sequence([parts[index] for index in batch], batch_first=True)
            mask = padding_mask([lengths[index] for index in batch]).to(device)
            for index, vector in zip(batch, self._model.embed_log_mels(frames, mask), strict=True):
                rows[index] = vector
        embedded = torch.stack(rows)
        if len(parts) == len(indices):
            return embedded
        sums = torch.zeros(len(indices), embedded.shape[1], device=device)
        sums = sums.index_add(0, torch.tensor(owners, device=device), embedded)
        return nn.functional.normalize(sums, dim=-1)

    def _waveform(self, index: int) -> np.ndarray:
        clip = self._labelled.clips[index]
        return load_recording(clip, self._model.config.mel.sample_rate)

    def _embed_text(self, indices: Sequence[int]) -> Tensor:
        clips = [self._labelled.clips[index] for index in indices]
        languages = [None if clip.language == "und" else clip.language for clip in clips]
        max_tokens = self._model.config.text.max_positions
        ids, mask = self._tokenizer.encode([clip.text for clip in clips], languages, max_tokens)  # type: ignore[attr-defined]
        device = self._model.audio_logit_scale.device
        return self._model.embed_tokens(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
