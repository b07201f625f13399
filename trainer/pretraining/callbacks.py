"""Callbacks of a run: throughput, early and graceful stopping, zero-shot validation."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from clara_search.audio.mel import log_mel
from clara_search.errors import ClaraError, ConfigError
from clara_search.models.clara.towers import Clara
from clara_search.text.tokenizer import Tokenizer
from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus, load_corpus


class ThroughputTimer(Callback):
    """Logs, for each epoch, the pairs per second and the share of the time spent waiting for data."""

    def __init__(self) -> None:
        self._wait_s = self._work_s = 0.0
        self._pairs = 0
        self._last_s = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._wait_s = self._work_s = 0.0
        self._pairs = 0
        self._last_s = time.perf_counter()

    def on_train_batch_start(self, _trainer: pl.Trainer, _module: pl.LightningModule, batch: Any, _index: int) -> None:
        """Count the time since the last step as waiting."""
        now_s = time.perf_counter()
        self._wait_s += now_s - self._last_s
        self._last_s = now_s
        self._pairs += len(batch.ids)

    def on_train_batch_end(self, _trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Count the time of the step as work."""
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        now_s = time.perf_counter()
        self._work_s += now_s - self._last_s
        self._last_s = now_s

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log both."""
        total_s = max(self._wait_s + self._work_s, 1e-9)
        module.log("data_wait_share", self._wait_s / total_s)
        module.log("pairs_per_second", self._pairs * trainer.world_size / total_s)


class Stopped(ClaraError):
    """A run stopped with a checkpoint: as `planned`, by its time limit, or by a signal."""

    def __init__(self, message: str, planned: bool = False) -> None:
        super().__init__(message)
        self.planned = planned


class LastValidation(Callback):
    """Validates after the last epoch, whatever the interval of validations."""

    def __init__(self, interval_epochs: int) -> None:
        self._interval_epochs = interval_epochs

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Set the interval before Lightning reads it; for a resumed epoch, no earlier hook runs."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if last else self._interval_epochs


class EarlyStop(EarlyStopping):
    """Stops after `patience` validations without improvement; a run that stopped so stays stopped when resumed."""

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode="max", patience=patience, check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, but with the patience of the present recipe."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop at once if the patience was exhausted before."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class GracefulStop(Callback):
    """Stops with a checkpoint on SIGINT, SIGTERM or SIGUSR1, or after `max_minutes`.

    Inside an epoch it raises `Stopped`. After an epoch it sets `stopped`, to be raised when training has returned,
    unless that was the last epoch.
    """

    def __init__(self, path: Path, max_minutes: float | None) -> None:
        self._path, self._signalled = path, False
        self._deadline_s = None if max_minutes is None else time.monotonic() + 60.0 * max_minutes
        self._previous_handlers: dict[int, Any] = {}
        self.stopped: Stopped | None = None

    def on_train_start(self, *_: Any) -> None:
        """Handle signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, *_: Any) -> None:
        self._signalled = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop inside an epoch; Lightning cannot resume from a checkpoint after the last step of an epoch."""
        if not trainer.is_last_batch and self._should_stop(trainer):
            trainer.save_checkpoint(self._path)
            self.teardown()
            raise self._stopped(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after an epoch, whose checkpoint other callbacks write after this hook."""
        if trainer.current_epoch + 1 != trainer.max_epochs and not trainer.should_stop and self._should_stop(trainer):
            trainer.should_stop = True
            self.stopped = self._stopped(trainer)

    def _should_stop(self, trainer: pl.Trainer) -> bool:
        """Return whether any process got a signal or is past its deadline."""
        late = self._deadline_s is not None and time.monotonic() > self._deadline_s
        return trainer.strategy.reduce_boolean_decision(self._signalled or late, all=False)

    def _stopped(self, trainer: pl.Trainer) -> Stopped:
        message = f"stopped at step {trainer.global_step}; run the same command again to resume"
        return Stopped(message, planned=not self._signalled)

    def teardown(self, *_: Any, **__: Any) -> None:
        """Restore the signal handlers."""
        while self._previous_handlers:
            signal.signal(*self._previous_handlers.popitem())


class ZeroShot(Callback):
    """Logs the zero-shot accuracy of the labelled recordings of a corpus, and chance, at each validation.

    Args:
        name: of the metric, zero_shot_NAME.
        corpus: recordings; those without a label are ignored.
        tokenizer: of the model.
        max_audio_s: longer recordings are cropped.

    Raises:
        ConfigError: there are fewer than two labels.
    """

    def __init__(self, name: str, corpus: Corpus, tokenizer: Tokenizer, max_audio_s: float) -> None:
        self._name, self._corpus, self._tokenizer = name, corpus, tokenizer
        self._max_samples = round(max_audio_s * corpus.sample_rate)
        self._indices = [index for index, example in enumerate(corpus.examples) if example.label]
        self._labels = sorted({str(corpus.examples[index].label) for index in self._indices})
        if len(self._labels) < 2:
            labels = f"only {self._labels[0]!r}" if self._labels else "none"
            raise ConfigError(f"run.zero_shot: {name} needs recordings of two labels or more, and has {labels}")

    def on_validation_epoch_end(self, _trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Classify every recording by its nearest label, and log the accuracy."""
        model = cast(Clara, module.model)
        prompts = [label.partition(":")[2] or label for label in self._labels]
        ids, mask = self._tokenizer.encode(prompts, [None] * len(prompts), model.config.text.max_positions)
        correct = 0
        with torch.inference_mode():
            classes = model.embed_tokens(
                torch.from_numpy(ids).to(module.device), torch.from_numpy(mask).to(module.device)
            )
            for index in self._indices:
                waveform = self._corpus.waveform(index)[: self._max_samples]
                mels = log_mel(waveform, model.config.mel).to(module.device)
                nearest = int((classes @ model.embed_log_mels(mels[None])[0]).argmax())
                correct += self._labels[nearest] == self._corpus.examples[index].label
        module.log(f"zero_shot_{self._name}", correct / len(self._indices))
        module.log(f"zero_shot_{self._name}_chance", 1.0 / len(self._labels))


def zero_shot_callbacks(recipe: Recipe, tokenizer: Tokenizer, cache: Path) -> list[ZeroShot]:
    """Return a callback for each source of `run.zero_shot`.

    Raises ConfigError for a source with fewer than two labels, and for two sources of one name.
    """
    sources = recipe.run.zero_shot
    names = [Path(source).stem for source in sources]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"run.zero_shot: two sources are called {repeated[0]!r}, and so would their scores be")
    corpora = [
        load_corpus([source], recipe.model.mel.sample_rate, cache, columns=recipe.data.manifest_columns)
        for source in sources
    ]
    max_audio_s = recipe.data.max_audio_s
    return [ZeroShot(name, corpus, tokenizer, max_audio_s) for name, corpus in zip(names, corpora, strict=True)]
