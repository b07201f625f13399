"""From a recipe and recordings to a model folder with its card, scores and curves."""

from __future__ import annotations

import json
import logging
import pickle
import platform
import subprocess
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from clara_search.errors import FormatError
from clara_search.models.checkpoint import CARD_FILE, save_model
from clara_search.models.clara_encoder import ClaraEncoder
from clara_search.models.layers import LatentBlock
from clara_search.tokenizer import Tokenizer
from trainer import curves
from trainer.beginning import begin, configured, first_tokenizer, learnt_tokenizer, load_towers
from trainer.callbacks import Clock, StepCheckpoint, StopGently, ZeroShot
from trainer.card import model_card
from trainer.corpus import Corpus, load_corpus
from trainer.data import Aids, Batches, LengthBuckets, Pairs, weights_of
from trainer.evaluate import evaluate
from trainer.module import Pretraining, TrainingError
from trainer.phones import Phones
from trainer.recipe import Recipe, as_toml
from trainer.sides import Sides, split
from trainer.teacher import teach, teach_texts
from trainer.tracking import loggers

log = logging.getLogger(__name__)

MONITOR = "text_to_audio_map_at_10"


@dataclass(frozen=True)
class Prepared:
    """A run, ready to begin: `recipe` with the model's configuration settled."""

    recipe: Recipe
    corpus: Corpus
    sides: Sides
    tokenizer: Tokenizer
    module: Pretraining
    aids: Aids


def pretrain(recipe: Recipe, run: Path, max_minutes: float | None = None) -> Path:
    """Train `recipe` and return the model folder, in the folder `run`.

    A run that was stopped goes on behind its last checkpoint when it is called again, as if it had not been. The
    weights kept are those with the best mAP@10 on held-out texts; the scores are of the stored weights. Raises Stopped
    when it is asked to stop, and TrainingError for a loss that is not finite.
    """
    pl.seed_everything(recipe.seed, verbose=False)
    ready = prepare(recipe, run)
    trainer = _fit(ready, run, max_minutes)
    folder = run / "model"
    if trainer.is_global_zero:
        _export(ready, run, folder)
    trainer.strategy.barrier()
    return folder


def prepare(recipe: Recipe, run: Path, teachers: bool = True) -> Prepared:
    """List and split the recordings, build tokenizer and model; `teachers` says whether they are heard too.

    Raises FormatError for recordings or settings that give nothing to train on.
    """
    cache = run.parent / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    towers = load_towers(recipe.towers)
    recipe = replace(recipe, model=configured(recipe, towers))
    data = recipe.data
    if not data.sources:
        raise FormatError("nothing to train on: name shards or manifests with --data, or as data.sources")
    with FileLock(run / "prepare.lock"):  # of several processes one does it, the others find it done
        corpus = load_corpus(data.sources, recipe.model.mel.sample_rate, cache, data.decode)
        sides = split(corpus, data)
        for name, side in (("train", sides.train), ("valid", sides.valid)):
            if not side:
                raise FormatError(f"none of the {len(corpus)} recordings is on the {name} side")
        log.info("%d recordings: %d to train on, %d to tune on", len(corpus), len(sides.train), len(sides.valid))
        tokenizer = first_tokenizer(recipe, towers)
        tokenizer = tokenizer or learnt_tokenizer(recipe, corpus, sides, run / "tokenizer.json")
        trained = [corpus.examples[index] for index in sides.train]
        aids = Aids(
            Phones(trained, recipe.model.spoken.phones) if recipe.model.spoken else None,
            teach(Path(recipe.teacher.audio), corpus) if recipe.teacher.audio and teachers else None,
            teach_texts(Path(recipe.teacher.text), trained, corpus.folder)
            if recipe.teacher.text and teachers
            else None,
        )
    keys = [example.key for example in corpus.examples]
    module = Pretraining(recipe, aids.taught.dim if aids.taught else 0, keys=keys)
    begin(module.model, recipe, towers, aids.phones.all() if aids.phones else [])
    return Prepared(recipe, corpus, sides, tokenizer, module, aids)


class Loaders(pl.LightningDataModule):
    """The batches of a run, for each of its processes."""

    def __init__(self, ready: Prepared) -> None:
        super().__init__()
        self.ready = ready

    def train_dataloader(self) -> Batches:
        """Return this process's share of what is trained on."""
        return Batches(self._pairs(self.ready.sides.train, training=True), self.sampler())

    def val_dataloader(self) -> Batches:
        """Return this process's share of the held-out texts."""
        valid = self.ready.sides.valid
        sampler = LengthBuckets(self.ready.corpus, valid, 128, 0, shuffle=False, rank=self._rank, world=self._world)
        return Batches(self._pairs(valid, training=False), sampler)

    def sampler(self) -> LengthBuckets:
        """Return the order of what is trained on."""
        ready, data = self.ready, self.ready.recipe.data
        if data.batch_size % self._world:
            raise FormatError(f"data.batch_size {data.batch_size} cannot be divided by {self._world} processes")
        train = ready.sides.train
        weights = weights_of(ready.corpus, train, data.weights)
        sampler = LengthBuckets(
            ready.corpus, train, data.batch_size, ready.recipe.seed, True, weights, self._rank, self._world
        )
        if len(sampler) == 0:
            raise FormatError(f"{len(train)} recordings to train on do not fill a batch of {data.batch_size}")
        return sampler

    def _pairs(self, indices: list[int], training: bool) -> Pairs:
        aids = self.ready.aids if training else None
        return Pairs(self.ready.corpus, indices, self.ready.recipe, self.ready.tokenizer, training, aids)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1


def _fit(ready: Prepared, run: Path, max_minutes: float | None) -> pl.Trainer:
    """Train, or go on with training, and leave the module with its best weights, in evaluation mode."""
    recipe, config, module = ready.recipe, ready.recipe.run, ready.module
    module.total_steps = len(Loaders(ready).sampler()) * recipe.optim.epochs
    checkpoints = run / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        "best",
        MONITOR,
        mode="max",
        save_last=True,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    callbacks = [
        best,
        LearningRateMonitor("epoch"),
        TQDMProgressBar(refresh_rate=20),
        Clock(),
        *(ZeroShot(Path(place).stem, *_labelled(ready, place, run)) for place in config.zero_shot),
        StopGently(checkpoints / "stopped.ckpt", max_minutes),
    ]
    if config.checkpoint_steps:
        steps = config.checkpoint_steps
        callbacks.append(StepCheckpoint(checkpoints, "step", every_n_train_steps=steps, enable_version_counter=False))
    if config.patience:
        callbacks.append(EarlyStopping(MONITOR, mode="max", patience=config.patience))
    if recipe.optim.ema:
        callbacks.append(EMAWeightAveraging(decay=recipe.optim.ema))
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices or "auto",
        num_nodes=config.nodes,
        strategy=_strategy(config.strategy),
        precision=config.precision,  # type: ignore[arg-type]  # Lightning checks it
        max_epochs=recipe.optim.epochs,
        check_val_every_n_epoch=config.validate_epochs,
        logger=[CSVLogger(run, name="log"), *loggers(recipe.name, recipe.run.loggers, recipe.run.tracking_uri, run)],
        callbacks=callbacks,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    if trainer.is_global_zero:
        (run / "recipe.toml").write_text(as_toml(recipe), encoding="utf-8")
        (run / "run.json").write_text(json.dumps(_circumstances(module), indent=1) + "\n", encoding="utf-8")
    if config.compile:
        module.compile()
    last = _newest(checkpoints)
    try:
        trainer.fit(module, datamodule=Loaders(ready), ckpt_path=last, weights_only=True)
    except TrainingError as error:
        kept = _newest(checkpoints)
        raise TrainingError(
            f"{error}; {f'the last good checkpoint is {kept}' if kept else 'no checkpoint yet'}"
        ) from error
    path = best.best_model_path or last
    assert path is not None  # there was at least one epoch
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    module.eval()
    return trainer


def _newest(checkpoints: Path) -> str | None:
    """Return the checkpoint of the latest step that can be read; one that a full disk cut short is passed over."""
    steps: dict[str, int] = {}
    for path in checkpoints.glob("*.ckpt"):
        try:
            steps[str(path)] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read: %s", path, error)
    # Of equals, the one that was stored inside an epoch knows as much and repeats no validation.
    return max(sorted(steps), key=lambda path: steps[path], default=None)


def _strategy(name: str) -> Any:
    if name != "fsdp":
        return name
    from pytorch_lightning.strategies import FSDPStrategy

    return FSDPStrategy(auto_wrap_policy={nn.TransformerEncoderLayer, LatentBlock}, state_dict_type="full")


def _labelled(ready: Prepared, place: str, run: Path) -> tuple[Corpus, Tokenizer, float]:
    corpus = load_corpus([place], ready.recipe.model.mel.sample_rate, run.parent / "cache")
    return corpus, ready.tokenizer, ready.recipe.data.max_audio_s


def _circumstances(module: Pretraining) -> dict[str, Any]:
    """Return what a run can be told by later: the revision of the code, versions, machine, size."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        revision = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = None
    return {
        "revision": revision,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in module.model.parameters()),
    }


def _export(ready: Prepared, run: Path, folder: Path) -> None:
    """Write the model folder, its scores, and the log as a table and a picture."""
    recipe, corpus, sides, module = ready.recipe, ready.corpus, ready.sides, ready.module
    save_model(folder, module.model, ready.tokenizer, card="")
    report = evaluate(ClaraEncoder(folder), corpus, sides, recipe)
    (run / "scores.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    parameters = sum(p.numel() for p in module.model.parameters())
    (folder / CARD_FILE).write_text(model_card(recipe, corpus, sides, report, parameters), encoding="utf-8")
    rows = curves.read_log(run / "log")
    curves.write_table(rows, run / "log.csv")
    curves.draw(rows, run / "curves.png")
