"""From a recipe and recordings to a model folder with its card, scores and curves."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from clara_search.models.catalog import find
from clara_search.models.checkpoint import CARD_FILE, load_model, save_model
from clara_search.models.clara_encoder import ClaraEncoder
from clara_search.tokenizer import Tokenizer
from trainer import curves
from trainer.card import model_card
from trainer.data import Corpus, Sides, load_corpus, loader, repeated, split
from trainer.evaluate import evaluate
from trainer.module import Pretraining
from trainer.phones import Phones
from trainer.recipe import Recipe

log = logging.getLogger(__name__)

MONITOR = "text_to_audio_map_at_10"


def pretrain(
    recipe: Recipe,
    patterns: Sequence[str],
    run: Path,
    max_minutes: float | None = None,
    init: str | Path | None = None,
) -> Path:
    """Train `recipe` on the recordings that match `patterns`; return the model folder, in the folder `run`.

    Training begins with the weights, and goes on with the configuration and tokenizer, of the model of name or folder
    `init`, where one is given.

    A run that was stopped goes on after its last whole epoch when it is called again. The weights kept are those of
    the epoch with the best mAP@10 on held-out texts; the scores are of the stored weights.
    """
    pl.seed_everything(recipe.seed)
    start = load_model(find(init)) if init is not None else None
    if start is not None:
        recipe = replace(recipe, model=replace(start[0].config, name=recipe.name))
    corpus = load_corpus(patterns, recipe.model.mel.sample_rate, run.parent / "cache")
    sides = split(corpus, recipe.data)
    log.info("%d recordings: %d to train on, %d to tune on", len(corpus), len(sides.train), len(sides.valid))
    tokenizer = start[1] if start is not None else _tokenizer(recipe, corpus, sides, run)
    phones = Phones(corpus.examples[index] for index in sides.train) if recipe.phones.weight else None
    module = Pretraining(recipe, len(phones) if phones else 0)
    if start is not None:
        module.model.load_state_dict(start[0].state_dict())
    _fit(module, corpus, sides, tokenizer, phones, run, max_minutes)

    folder = run / "model"
    save_model(folder, module.model, tokenizer, card="")
    report = evaluate(ClaraEncoder(folder), corpus, sides, recipe.data.max_audio_s)
    (run / "scores.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    parameters = sum(p.numel() for p in module.model.parameters())
    (folder / CARD_FILE).write_text(model_card(recipe, corpus, sides, report, parameters), encoding="utf-8")
    rows = curves.read_log(run / "log")
    curves.write_table(rows, run / "log.csv")
    curves.draw(rows, run / "curves.png")
    return folder


def _fit(
    module: Pretraining,
    corpus: Corpus,
    sides: Sides,
    tokenizer: Tokenizer,
    phones: Phones | None,
    run: Path,
    max_minutes: float | None,
) -> None:
    """Train `module`, or go on with training, and leave it with its best weights, in evaluation mode."""
    recipe = module.recipe
    batches = loader(corpus, repeated(corpus, sides.train, recipe.data), recipe, tokenizer, True, phones)
    held_out = loader(corpus, sides.valid, recipe, tokenizer, training=False)
    checkpoints = ModelCheckpoint(
        run / "checkpoints", "best", monitor=MONITOR, mode="max", save_last=True, save_on_train_epoch_end=True
    )
    trainer = pl.Trainer(
        accelerator="auto",
        max_epochs=recipe.optimiser.epochs,
        max_time=timedelta(minutes=max_minutes) if max_minutes else None,
        gradient_clip_val=recipe.optimiser.clip,
        logger=CSVLogger(run, name="log"),
        callbacks=[checkpoints, LearningRateMonitor("epoch"), TQDMProgressBar(refresh_rate=20)],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    last = run / "checkpoints" / "last.ckpt"
    trainer.fit(module, batches, held_out, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    best = torch.load(checkpoints.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    module.eval()


def _tokenizer(recipe: Recipe, corpus: Corpus, sides: Sides, run: Path) -> Tokenizer:
    """Train the tokenizer on the texts of the training side, or load the one that this run began with."""
    path = run / "tokenizer.json"
    if not path.exists():
        examples = [corpus.examples[index] for index in sides.train]
        texts = sorted(example.text for example in examples)
        languages = {example.text_language for example in examples}
        run.mkdir(parents=True, exist_ok=True)
        Tokenizer.train(texts, recipe.tokenizer.vocab_size, languages).save(path)
    return Tokenizer.load(path)
