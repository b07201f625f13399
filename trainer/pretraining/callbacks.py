"""What watches a run: how long it waits for data, and what there is to say when it stops."""

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
    """Logs, for each epoch, the pairs trained on in a second and the share of the time that steps waited for data."""

    def __init__(self) -> None:
        self._waited = self._worked = 0.0
        self._pairs = 0
        self._since = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Begin to count."""
        self._waited = self._worked = 0.0
        self._pairs = 0
        self._since = time.perf_counter()

    def on_train_batch_start(self, _trainer: pl.Trainer, _module: pl.LightningModule, batch: Any, _index: int) -> None:
        """A batch has come: what went by was waiting."""
        now = time.perf_counter()
        self._waited += now - self._since
        self._since = now
        self._pairs += len(batch.ids)

    def on_train_batch_end(self, _trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """A step is done: what went by was work."""
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._worked += now - self._since
        self._since = now

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log both."""
        total = max(self._waited + self._worked, 1e-9)
        module.log("data_wait_share", self._waited / total)
        module.log("pairs_per_second", self._pairs * trainer.world_size / total)


class Stopped(ClaraError):
    """A run has stored where it stands and stopped: as `planned`, or because somebody asked it to."""

    def __init__(self, message: str, planned: bool = False) -> None:
        super().__init__(message)
        self.planned = planned


class LastValidation(Callback):
    """Validates behind the last epoch, whatever the number of epochs from validation to validation."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Say so before Lightning asks; an epoch that is gone on with has no other beginning."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if last else self._every


class EarlyStop(EarlyStopping):
    """Stops when so many validations brought nothing better; a run that has stopped so does not begin again."""

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode="max", patience=patience, check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was seen, with the patience of today."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stay stopped."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class GracefulStop(Callback):
    """On SIGINT, SIGTERM or SIGUSR1, or after `minutes`: ends the step, or the epoch if it was its last, and stops.

    `stopped` says so behind the training, unless that was at its end anyway.
    """

    def __init__(self, path: Path, minutes: float | None) -> None:
        self._path, self._asked, self._late = path, False, False
        self._deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._before: dict[int, Any] = {}
        self.stopped: Stopped | None = None

    def on_train_start(self, *_: Any) -> None:
        """Listen, where this is the thread that can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop inside an epoch, with a checkpoint; behind its last step Lightning could not go on from one."""
        if not trainer.is_last_batch and self._to_stop(trainer):
            trainer.save_checkpoint(self._path)
            self.teardown()
            raise self._stopped(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop behind an epoch, whose own checkpoint Lightning lets others write after this."""
        if trainer.current_epoch + 1 != trainer.max_epochs and not trainer.should_stop and self._to_stop(trainer):
            trainer.should_stop = True
            self.stopped = self._stopped(trainer)

    def _to_stop(self, trainer: pl.Trainer) -> bool:
        """Return whether any process was asked to stop, or is late."""
        self._late = self._deadline is not None and time.monotonic() > self._deadline
        return trainer.strategy.reduce_boolean_decision(self._asked or self._late, all=False)

    def _stopped(self, trainer: pl.Trainer) -> Stopped:
        return Stopped(f"stopped at step {trainer.global_step}; the same command goes on", planned=not self._asked)

    def teardown(self, *_: Any, **__: Any) -> None:
        """Let signals do what they did."""
        while self._before:
            signal.signal(*self._before.popitem())


class ZeroShot(Callback):
    """At each validation, logs how often the recordings of `corpus` are given their own label, among all of them."""

    def __init__(self, name: str, corpus: Corpus, tokenizer: Tokenizer, longest_s: float) -> None:
        self._name, self._corpus, self._tokenizer = name, corpus, tokenizer
        self._longest = round(longest_s * corpus.sample_rate)
        self._indices = [index for index, example in enumerate(corpus.examples) if example.label]
        self._labels = sorted({str(corpus.examples[index].label) for index in self._indices})
        if len(self._labels) < 2:
            held = f"only {self._labels[0]!r}" if self._labels else "none"
            raise ConfigError(f"run.zero_shot: {name} needs recordings of two labels or more, and has {held}")

    def on_validation_epoch_end(self, _trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Embed, compare, log."""
        model = cast(Clara, module.model)
        said = [label.partition(":")[2] or label for label in self._labels]
        ids, mask = self._tokenizer.encode(said, [None] * len(said), model.config.text.max_positions)
        right = 0
        with torch.inference_mode():
            classes = model.embed_tokens(
                torch.from_numpy(ids).to(module.device), torch.from_numpy(mask).to(module.device)
            )
            for index in self._indices:
                heard = log_mel(self._corpus.waveform(index)[: self._longest], model.config.mel).to(module.device)
                nearest = int((classes @ model.embed_log_mels(heard[None])[0]).argmax())
                right += self._labels[nearest] == self._corpus.examples[index].label
        module.log(f"zero_shot_{self._name}", right / len(self._indices))
        module.log(f"zero_shot_{self._name}_chance", 1.0 / len(self._labels))


def zero_shots(recipe: Recipe, tokenizer: Tokenizer, cache: Path) -> list[ZeroShot]:
    """Return a ZeroShot for each place of `run.zero_shot`. Raises ConfigError for one without labels to tell apart."""
    places = recipe.run.zero_shot
    names = [Path(place).stem for place in places]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"run.zero_shot: two places are called {twice[0]!r}, which is what their scores are called")
    corpora = [load_corpus([place], recipe.model.mel.sample_rate, cache) for place in places]
    return [
        ZeroShot(name, corpus, tokenizer, recipe.data.max_audio_s) for name, corpus in zip(names, corpora, strict=True)
    ]
