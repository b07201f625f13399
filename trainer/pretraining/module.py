"""The training step and the validation of CLARA, as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clara_search.errors import ClaraError
from clara_search.metrics.retrieval import score_retrieval
from clara_search.models.clara.towers import Clara
from trainer.config.recipe import Recipe
from trainer.data.dataset import Batch, teacher_frames
from trainer.losses.contrastive import contrastive_loss
from trainer.losses.distillation import frame_distillation_loss, similarity_distillation_loss
from trainer.losses.phones import phone_loss, text_phone_loss
from trainer.losses.reduction import mean_of_parts

MAX_LOG_SCALE = math.log(100.0)
"""Temperatures are kept from going below 0.01, as in CLIP."""

SIGMOID_LOG_SCALE, SIGMOID_BIAS = math.log(10.0), -10.0
"""How SigLIP begins: nearly every pair is none."""


class TrainingError(ClaraError):
    """Training cannot go on: a loss that is not finite."""


class _Embedded(NamedTuple):
    """What a chunk of a batch gives: unit vectors, and the sums of the auxiliary losses."""

    audio: Tensor
    text: Tensor
    heard: Tensor
    said: Tensor
    read: Tensor


class Pretraining(pl.LightningModule):
    """Contrastive pretraining; validated by recall@k over the full gallery of held-out texts.

    `keys` names the recordings of the corpus, for a message about a batch.
    """

    def __init__(self, recipe: Recipe, taught_dim: int = 0, keys: Sequence[str] = ()) -> None:
        super().__init__()
        self.recipe, self.keys = recipe, keys
        self.model = Clara(recipe.model)
        self.taught = nn.Linear(recipe.model.audio.width, teacher_frames(recipe) * taught_dim) if taught_dim else None
        self.bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if recipe.loss.kind == "sigmoid" else None
        if recipe.loss.kind == "sigmoid":
            nn.init.constant_(self.model.audio_logit_scale, SIGMOID_LOG_SCALE)
        self.locked = [part for name in recipe.towers.locked for part in _parts(self.model, name)]
        for part in self.locked:
            part.requires_grad_(False)
        if recipe.loss.kind != "clara":
            self.model.text_logit_scale.requires_grad_(False)  # one temperature serves both ways
        self.total_steps = 0
        """How long the run is; asking Lightning would set up the data before a checkpoint is restored."""
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Keep dropout out of what is locked."""
        for part in self.locked:
            part.eval()

    def on_train_batch_start(self, _batch: Batch, _index: int) -> None:
        """Let chance depend on the step alone, so that a run that was stopped goes on as if it had not been."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.global_step * 1009 + self.global_rank)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of a batch."""
        config, size = self.recipe, len(batch.ids)
        chunk = config.loss.chunk or size
        parts = [Batch(*(x[at : at + chunk] for x in batch)) for at in range(0, size, chunk)]
        embed = self._embed if len(parts) == 1 else self._embed_again
        embedded = [embed(part) for part in parts]
        audio, text = torch.cat([x.audio for x in embedded]), torch.cat([x.text for x in embedded])
        scale = self.model.audio_logit_scale.exp(), self.model.text_logit_scale.exp()
        total = contrastive_loss(audio, text, batch.groups, config.loss, *scale, self.bias)
        losses = {"train_loss": total}
        if self.taught is not None:
            losses["taught_loss"] = mean_of_parts(
                [x.heard for x in embedded], batch.audio_frames(config.model.audio.stride)
            )
            total = total + config.teacher.weight * losses["taught_loss"]
        if config.phones.weight:
            losses["phone_loss"] = mean_of_parts([x.said for x in embedded], batch.phone_lengths.sum())
            total = total + config.phones.weight * losses["phone_loss"]
        if config.phones.text_weight:
            losses["reading_loss"] = mean_of_parts([x.read for x in embedded], (batch.phone_lengths > 0).sum())
            total = total + config.phones.text_weight * losses["reading_loss"]
        if batch.taught_texts.numel():
            meant = batch.phone_lengths == 0  # a transcript goes by what it sounds like, not by what it means
            losses["likeness_loss"] = similarity_distillation_loss(text[meant], batch.taught_texts[meant])
            total = total + config.teacher.text_weight * losses["likeness_loss"]
        if not torch.isfinite(total):
            named = ", ".join(self.keys[index] for index in batch.indices.tolist() if index < len(self.keys))
            raise TrainingError(f"the loss of step {self.global_step} is {total.item()}; its batch: {named}")
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return total

    def _embed_again(self, part: Batch) -> _Embedded:
        """Embed a chunk, throw its activations away, and compute them again when gradients ask for them."""
        found: tuple[Tensor, ...] = checkpoint(self._embed, part, use_reentrant=False)
        return _Embedded(*found)

    def _embed(self, part: Batch) -> _Embedded:
        frames, mask = self.model.audio.encode_frames(part.log_mels, part.audio_mask)
        assert mask is not None
        audio, text = self.model.embed_frames(frames, mask), self.model.embed_tokens(part.ids, part.text_mask)
        heard = said = read = audio.new_zeros(())
        if self.taught is not None:
            heard = frame_distillation_loss(
                self.taught(frames).view(*frames.shape[:2], *part.taught.shape[2:]), part.taught, mask
            )
        if self.model.phone_head is not None:
            if self.recipe.phones.weight:
                said = phone_loss(
                    *self.model.phone_head.predict_from_frames(frames, mask), part.phones, part.phone_lengths
                )
            if self.recipe.phones.text_weight:
                read = text_phone_loss(self.model.phone_head, text, part.phones, part.phone_lengths)
        return _Embedded(audio, text, heard, said, read)

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the temperatures in bounds."""
        with torch.no_grad():
            self.model.audio_logit_scale.clamp_(max=MAX_LOG_SCALE)
            self.model.text_logit_scale.clamp_(max=MAX_LOG_SCALE)
            if self.recipe.loss.kind != "clara":
                self.model.text_logit_scale.copy_(self.model.audio_logit_scale)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Embed a batch, for the ranking over all of them."""
        audio = self.model.embed_log_mels(batch.log_mels, batch.audio_mask)
        text = self.model.embed_tokens(batch.ids, batch.text_mask)
        self._validated.append((audio.float().cpu(), text.float().cpu(), batch.groups.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Rank the full gallery, of all processes, both ways."""
        mine = [torch.cat(parts).numpy() for parts in zip(*self._validated, strict=True)]
        self._validated.clear()
        audio, text, groups = (np.concatenate(parts) for parts in zip(*_all_gathered(mine), strict=True))
        _, first = np.unique(groups, return_index=True)
        to_audio = score_retrieval(text[first], audio, groups[first], groups, num_resamples=0)
        to_text = score_retrieval(audio, text[first], groups, groups[first], num_resamples=0)
        for k in (1, 5, 10):
            self.log(f"text_to_audio_recall_at_{k}", to_audio.recall[k], prog_bar=k == 10)
            self.log(f"audio_to_text_recall_at_{k}", to_text.recall[k])
        self.log("text_to_audio_map_at_10", to_audio.map10)
        self.log("audio_to_text_map_at_10", to_text.map10)
        self.log("chance_recall_at_10", to_audio.chance_recall[10])
        self.log("audio_scale", self.model.audio_logit_scale.exp())
        self.log("text_scale", self.model.text_logit_scale.exp())

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Bound the norm of the gradient, of all shards where the model is sharded."""
        bound = self.recipe.optim.clip
        if not bound:
            return
        whole: Any = self.trainer.model
        if hasattr(whole, "clip_grad_norm_"):
            whole.clip_grad_norm_(bound)
        else:
            nn.utils.clip_grad_norm_(self.parameters(), bound)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, without decay for vectors and scalars; linear warm-up, then a cosine to zero."""
        config = self.recipe.optim
        trained = [p for p in self.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.ndim > 1]
        others = [p for p in trained if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(config.betas[0], config.betas[1]),
            eps=config.eps,
        )

        steps = self.total_steps

        def factor(step: int) -> float:
            if step < config.warmup_steps:
                return (step + 1) / config.warmup_steps
            progress = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
            return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _parts(model: Clara, name: str) -> list[nn.Module]:
    """Return the modules that a name in `towers.locked` stands for."""
    if name != "frames":
        return [getattr(model, name)]
    parts = (model.audio.stem, model.audio.positions, model.audio.frame_layers, model.phone_head)
    return [part for part in parts if part is not None]


def _all_gathered(mine: list[Any]) -> list[list[Any]]:
    """Return what every process has, in order."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [mine]
    found: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, mine)
    return found
