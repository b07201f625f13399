"""What watches a run: how long it waits for data, and what there is to say when it stops."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from clara_search.errors import ClaraError
from clara_search.features import log_mel
from clara_search.models.clara import Clara
from clara_search.tokenizer import Tokenizer
from trainer.corpus import Corpus


class Clock(Callback):
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
    """A run was asked to stop and has stored where it stands."""


class StepCheckpoint(ModelCheckpoint):
    """Keeps a checkpoint of the last of every so many steps; that of an epoch's last step is the epoch's own."""

    def on_train_batch_end(self, trainer: pl.Trainer, *others: Any) -> None:
        """Store, but behind the last step of an epoch, from where Lightning cannot go on."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *others)


class StopGently(Callback):
    """On SIGINT, SIGTERM or SIGUSR1, or after `minutes`: ends the step, stores a checkpoint and raises Stopped."""

    def __init__(self, path: Path, minutes: float | None) -> None:
        self._path, self._asked = path, False
        self._deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._before: dict[int, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        """Listen, where this is the thread that can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop, if any process was asked to."""
        if trainer.is_last_batch:  # Lightning cannot go on from there: after the epoch's own checkpoint it can
            return
        late = self._deadline is not None and time.monotonic() > self._deadline
        if trainer.strategy.reduce_boolean_decision(self._asked or late, all=False):
            trainer.save_checkpoint(self._path)
            self.teardown()
            raise Stopped(f"stopped at step {trainer.global_step}; the same command goes on")

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
        module.log(f"zero_shot_{self._name}", right / max(len(self._indices), 1))
        module.log(f"zero_shot_{self._name}_chance", 1.0 / max(len(self._labels), 1))
