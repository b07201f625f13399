"""From a recipe and recordings to a model folder with its card, scores and curves."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, LearningRateMonitor, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger

from clara_search.errors import ConfigError, SourceError
from clara_search.files.atomic import atomic_write_text, make_folder
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.encoder import ClaraEncoder
from clara_search.models.folder import CARD_FILE
from clara_search.text.tokenizer import Tokenizer
from trainer.config.evaluation import load_evaluation
from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus, load_corpus
from trainer.data.dataset import AuxiliaryTargets, PairDataset
from trainer.data.loader import BatchLoader
from trainer.data.sampler import LengthBucketSampler, sampling_weights
from trainer.data.splits import Splits, split_corpus
from trainer.data.teachers import compute_teacher_frames, compute_teacher_texts
from trainer.evaluation.model_card import model_card
from trainer.evaluation.report import evaluate
from trainer.evaluation.training_curves import draw_training_curves
from trainer.phones.g2p import PhoneTargets
from trainer.pretraining.callbacks import EarlyStop, GracefulStop, LastValidation, ThroughputTimer, zero_shots
from trainer.pretraining.init import first_tokenizer, init_weights, learn_tokenizer, load_towers, resolve_config
from trainer.pretraining.module import Pretraining, TrainingError
from trainer.runtime.checkpoints import STOPPED, Checkpoints, best_checkpoint, newest_checkpoint, resume_checkpoint
from trainer.runtime.folder import check_recipe_unchanged, run_lock
from trainer.runtime.lightning import new_trainer, one_line_errors
from trainer.runtime.log_table import read_log, write_table
from trainer.runtime.tracking import loggers

log = logging.getLogger(__name__)

MONITOR = "text_to_audio_map_at_10"


@dataclass(frozen=True)
class Prepared:
    """A run, ready to begin: `recipe` with the model's configuration settled."""

    recipe: Recipe
    corpus: Corpus
    sides: Splits
    tokenizer: Tokenizer
    module: Pretraining
    aids: AuxiliaryTargets


def pretrain(recipe: Recipe, run: Path, max_minutes: float | None = None) -> Path:
    """Train `recipe` and return the model folder, in the folder `run`.

    A run that was stopped goes on behind its last checkpoint when it is called again, as if it had not been. The
    weights kept are those with the best mAP@10 on held-out texts; the scores are of the stored weights. Raises Stopped
    when it is asked to stop, TrainingError for a loss that is not finite, and OutputError for a folder that another
    process trains in, or that was begun with another recipe.
    """
    check_machine(recipe)
    with run_lock(run):
        pl.seed_everything(recipe.seed, verbose=False)
        ready = prepare(recipe, run)
        trainer = _fit(ready, run, max_minutes)
        folder = run / "model"
        if trainer.is_global_zero:
            _export(ready, run, folder)
        trainer.strategy.barrier()
        return folder


def prepare(recipe: Recipe, run: Path, rehearse: bool = False) -> Prepared:
    """List and split the recordings, build tokenizer and model; to `rehearse`, without teachers and nothing in `run`.

    What is decoded is kept in the folder `cache` beside `run`. Raises ConfigError for settings, and SourceError
    for recordings, that give nothing to train on.
    """
    data, teacher = recipe.data, recipe.teacher
    if not data.sources:
        raise ConfigError("nothing to train on: name shards or manifests with `data`, or as data.sources")
    towers = load_towers(recipe.towers)
    recipe = replace(recipe, model=resolve_config(recipe, towers))
    corpus = load_corpus(data.sources, recipe.model.mel.sample_rate, make_folder(run.parent / "cache"), data.decode)
    with corpus.locked():  # of several processes one does it, the others find it done
        kept = None if rehearse else run / "tokenizer.json"
        if kept is not None:
            check_recipe_unchanged(run, recipe, kept)
        sides = split_corpus(corpus, data, load_evaluation(recipe.evaluation).digits)
        for name, side in (("train", sides.train), ("valid", sides.valid)):
            if not side:
                raise SourceError(f"none of the {len(corpus)} recordings is on the {name} side")
        present = {name for i in sides.train for name in (corpus.examples[i].source, corpus.examples[i].kind)}
        if strange := sorted(data.weights.keys() - present):
            log.warning("data.weights: nothing that is trained on has the source or kind %s", ", ".join(strange))
        log.info("%d recordings: %d to train on, %d to tune on", len(corpus), len(sides.train), len(sides.valid))
        trained = [corpus.examples[index] for index in sides.train]
        tokenizer = first_tokenizer(recipe, towers) or learn_tokenizer(recipe, trained, kept)
        aids = AuxiliaryTargets(
            PhoneTargets(trained, recipe.model.phone_head.phones) if recipe.model.phone_head else None,
            compute_teacher_frames(Path(teacher.audio), corpus) if teacher.audio and not rehearse else None,
            compute_teacher_texts(Path(teacher.text), trained, corpus.folder)
            if teacher.text and not rehearse
            else None,
        )
    keys = [example.key for example in corpus.examples]
    module = Pretraining(recipe, aids.taught.dim if aids.taught else 0, keys=keys)
    init_weights(module.model, recipe, towers, aids.phones.all() if aids.phones else [])
    return Prepared(recipe, corpus, sides, tokenizer, module, aids)


class Loaders(pl.LightningDataModule):
    """The batches of a run, for each of its processes."""

    def __init__(self, ready: Prepared) -> None:
        super().__init__()
        self.ready = ready

    def train_dataloader(self) -> BatchLoader:
        """Return this process's share of what is trained on."""
        return BatchLoader(self._pairs(self.ready.sides.train, training=True), self.sampler())

    def val_dataloader(self) -> BatchLoader:
        """Return this process's share of the held-out texts."""
        valid = self.ready.sides.valid
        sampler = LengthBucketSampler(
            self.ready.corpus, valid, 128, 0, shuffle=False, rank=self._rank, world=self._world
        )
        return BatchLoader(self._pairs(valid, training=False), sampler)

    def sampler(self) -> LengthBucketSampler:
        """Return the order of what is trained on."""
        ready, data = self.ready, self.ready.recipe.data
        if data.batch_size % self._world:
            raise ConfigError(f"data.batch_size {data.batch_size} cannot be divided by {self._world} processes")
        train = ready.sides.train
        weights = sampling_weights(ready.corpus, train, data.weights)
        sampler = LengthBucketSampler(
            ready.corpus, train, data.batch_size, ready.recipe.seed, True, weights, self._rank, self._world
        )
        if len(sampler) == 0:
            raise SourceError(f"{len(train)} recordings to train on do not fill a batch of {data.batch_size}")
        return sampler

    def _pairs(self, indices: list[int], training: bool) -> PairDataset:
        aids = self.ready.aids if training else None
        return PairDataset(self.ready.corpus, indices, self.ready.recipe, self.ready.tokenizer, training, aids)

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
    stopping = GracefulStop(checkpoints / STOPPED, max_minutes)
    callbacks: list[Callback] = [
        LearningRateMonitor("epoch"),
        TQDMProgressBar(refresh_rate=20),
        ThroughputTimer(),
        *zero_shots(recipe, ready.tokenizer, run.parent / "cache"),
        LastValidation(config.validate_epochs),
        *([EarlyStop(MONITOR, config.patience)] if config.patience else []),
        stopping,
        *([EMAWeightAveraging(decay=recipe.optim.ema)] if recipe.optim.ema else []),
        Checkpoints(checkpoints, MONITOR, config.checkpoint_steps),
    ]
    trainer = new_trainer(recipe, callbacks, _all_loggers(recipe, run))
    if trainer.is_global_zero:
        atomic_write_text(run / "run.json", json.dumps(_circumstances(module), indent=1) + "\n")
    if config.compile:
        module.compile()
    last = resume_checkpoint(checkpoints)
    try:
        trainer.fit(module, datamodule=Loaders(ready), ckpt_path=last, weights_only=True)
    except TrainingError as error:
        kept = newest_checkpoint(checkpoints)
        raise TrainingError(
            f"{error}; {f'the last good checkpoint is {kept}' if kept else 'no checkpoint yet'}"
        ) from error
    except OSError as error:
        raise TrainingError(f"{run}: {error}") from error
    if stopping.stopped:
        raise stopping.stopped
    kept = trainer.strategy.broadcast(best_checkpoint(checkpoints))
    module.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True)["state_dict"])
    module.eval()
    return trainer


def check_machine(recipe: Recipe) -> None:
    """Raise ConfigError for what `run` asks of this machine and it does not have, as training would."""
    with tempfile.TemporaryDirectory() as nowhere:
        new_trainer(recipe, loggers=_all_loggers(recipe, Path(nowhere)))


def _all_loggers(recipe: Recipe, run: Path) -> list[Logger]:
    with one_line_errors("run.loggers"):
        return [CSVLogger(run, name="log"), *loggers(recipe.name, recipe.run.loggers, recipe.run.tracking_uri, run)]


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
    """Write the model folder, the log as a table and a picture, the scores and the card."""
    recipe, corpus, sides, module = ready.recipe, ready.corpus, ready.sides, ready.module
    save_model(folder, module.model, ready.tokenizer, card="")
    rows = read_log(run / "log")
    write_table(rows, run / "log.csv")
    draw_training_curves(rows, run / "curves.png")
    report = evaluate(ClaraEncoder(folder), corpus, sides, recipe)
    atomic_write_text(run / "scores.json", json.dumps(report.as_dict(), indent=1) + "\n")
    parameters = sum(p.numel() for p in module.model.parameters())
    atomic_write_text(folder / CARD_FILE, model_card(recipe, corpus, sides, report, parameters))
    if found := report.retrieval.get("all", {}).get("text_to_audio"):
        chance = found.chance_recall[10]
        log.info("R@10 %.3f (chance %.3f), mAP@10 %.3f of held-out texts", found.recall[10], chance, found.map10)
