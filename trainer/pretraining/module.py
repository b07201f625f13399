"""The Lightning module of contrastive pretraining: training step, validation, optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clara_search.errors import ClaraError
from clara_search.metrics.retrieval import score_relevant
from clara_search.models.clara.towers import Clara
from trainer.config.recipe import Recipe
from trainer.data.dataset import Batch
from trainer.losses.auxiliary import AuxiliaryLoss, LossSum, Outputs, mean_of_sums
from trainer.losses.contrastive import new_contrastive_loss
from trainer.pretraining.validation import ValidationCaptions

_TEXTS_AT_ONCE = 256


class TrainingError(ClaraError):
    """Training cannot continue: the loss is not finite."""


class _ChunkOutputs(NamedTuple):
    """Unit vectors (chunk, dim) of a chunk of a batch, and its part of each chunkwise auxiliary loss, in order."""

    audio: Tensor
    text: Tensor
    sums: tuple[LossSum, ...]


class Pretraining(pl.LightningModule):
    """Contrastive pretraining, validated by recall@k over the full gallery of validation texts.

    Args:
        recipe: with the model's configuration resolved.
        auxiliary: losses beside the contrastive one.
        keys: names of the recordings in the corpus, for error messages.
    """

    def __init__(self, recipe: Recipe, auxiliary: Sequence[AuxiliaryLoss[Any]] = (), keys: Sequence[str] = ()) -> None:
        super().__init__()
        self.recipe, self.keys = recipe, keys
        self.loss = new_contrastive_loss(recipe.loss)
        self.model = Clara(recipe.model)
        self.model.audio_logit_scale.requires_grad_(False)  # the loss learns them; they are stored on export
        self.model.text_logit_scale.requires_grad_(False)
        self.auxiliary = list(auxiliary)
        for loss in auxiliary:
            loss.head = loss.new_head(self.model)
        self.heads = nn.ModuleDict({loss.name: loss.head for loss in auxiliary if loss.head is not None})
        self.frozen = [module for name in recipe.optim.freeze for module in _modules(self.model, name)]
        for module in self.frozen:
            module.requires_grad_(False)
        self.total_steps = 0
        """Length of the run; asking Lightning would set up the data before a checkpoint is restored."""
        self._validated: list[tuple[Tensor, Tensor]] = []
        self._texts: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.validated: ValidationCaptions

    def on_train_epoch_start(self) -> None:
        """Switch dropout off in frozen modules."""
        for module in self.frozen:
            module.eval()

    def on_train_batch_start(self, _batch: Batch, _index: int) -> None:
        """Seed torch by the step alone, so that a resumed run computes what an uninterrupted one does."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.global_step * 1009 + self.global_rank)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the contrastive loss of a batch plus the weighted auxiliary losses.

        Raises TrainingError, naming the recordings of the batch, for a loss that is not finite.
        """
        size = len(batch.ids)
        chunks = batch.split(self.recipe.loss.gradcache_chunk or size)
        embed = self._embed if len(chunks) == 1 else self._embed_checkpointed
        embedded = [embed(chunk) for chunk in chunks]
        audio, text = torch.cat([x.audio for x in embedded]), torch.cat([x.text for x in embedded])
        total: Tensor = self.loss(audio, text, batch.groups)
        losses = {"train_loss": total}
        chunkwise = zip(*(x.sums for x in embedded), strict=True)
        for loss in self.auxiliary:
            if loss.whole_batch:
                sums = (loss.loss(Outputs(self.model, audio, text), batch.targets[loss.name]),)
            else:
                sums = next(chunkwise)
            losses[f"{loss.name}_loss"] = mean_of_sums(sums)
            total = total + self.recipe.auxiliary[loss.name] * losses[f"{loss.name}_loss"]
        if not torch.isfinite(total):
            keys = ", ".join(self.keys[index] for index in batch.indices.tolist() if index < len(self.keys))
            raise TrainingError(f"the loss of step {self.global_step} is {total.item()}; its batch: {keys}")
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return total

    def _embed_checkpointed(self, chunk: Batch) -> _ChunkOutputs:
        """Embed a chunk, drop its activations, and recompute them in the backward pass."""
        outputs: _ChunkOutputs = checkpoint(self._embed, chunk, use_reentrant=False)
        return outputs

    def _embed(self, chunk: Batch) -> _ChunkOutputs:
        frames, mask = self.model.audio.encode_frames(chunk.log_mels, chunk.audio_mask)
        audio, text = self.model.embed_frames(frames, mask), self.model.embed_tokens(chunk.ids, chunk.text_mask)
        outputs = Outputs(self.model, audio, text, frames, mask)
        sums = (loss.loss(outputs, chunk.targets[loss.name]) for loss in self.auxiliary if not loss.whole_batch)
        return _ChunkOutputs(audio, text, tuple(sums))

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the logit scales in bounds."""
        self.loss.clamp_logit_scales()

    def on_validation_epoch_start(self) -> None:
        """Embed all captions; at the end of the epoch averaged weights, if any, are no longer those of the model."""
        parts = []
        for start in range(0, len(self.validated.texts), _TEXTS_AT_ONCE):
            texts = self.validated.texts[start : start + _TEXTS_AT_ONCE]
            ids, mask = self.validated.encode(texts)
            parts.append(self.model.embed_tokens(ids.to(self.device), mask.to(self.device)).float().cpu())
        self._texts = torch.cat(parts).numpy()

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Embed a batch, for the ranking at the end of the epoch."""
        audio = self.model.embed_log_mels(batch.log_mels, batch.audio_mask)
        self._validated.append((audio.float().cpu(), batch.indices.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Rank the full gallery, over all processes, in both directions, and log recall@k and mAP@10.

        Each caption of a recording is a query, and a positive of all recordings that have it.
        """
        local = [torch.cat(parts).numpy() for parts in zip(*self._validated, strict=True)]
        self._validated.clear()
        audio, indices = (np.concatenate(parts) for parts in zip(*_gather_objects(local), strict=True))
        indices, first = np.unique(indices, return_index=True)  # processes may share a recording
        audio, recordings = audio[first], [self.validated.position_of[index] for index in indices.tolist()]
        captions = self.validated.captions
        numbers = captions.texts_of(recordings)
        having, own = captions.recordings_of(numbers, recordings), captions.positions_of(recordings, numbers)
        to_audio = score_relevant(self._texts[numbers], audio, having, num_resamples=0)
        to_text = score_relevant(audio, self._texts[numbers], own, num_resamples=0)
        for k in (1, 5, 10):
            self.log(f"text_to_audio_recall_at_{k}", to_audio.recall[k], prog_bar=k == 10)
            self.log(f"audio_to_text_recall_at_{k}", to_text.recall[k])
        self.log("text_to_audio_map_at_10", to_audio.map10)
        self.log("audio_to_text_map_at_10", to_text.map10)
        self.log("chance_recall_at_10", to_audio.chance_recall[10])
        for name, scale in zip(("audio_logit_scale", "text_logit_scale"), self.loss.logit_scales(), strict=True):
            self.log(name, scale.exp())

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm of the gradient, taken over all shards of a sharded model."""
        max_norm = self.recipe.optim.grad_clip_norm
        if not max_norm:
            return
        wrapped: Any = self.trainer.model
        if hasattr(wrapped, "clip_grad_norm_"):
            wrapped.clip_grad_norm_(max_norm)
        else:
            nn.utils.clip_grad_norm_(self.parameters(), max_norm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, without decay of vectors and scalars, and its schedule: linear warm-up, cosine to zero."""
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


def _modules(model: Clara, name: str) -> list[nn.Module]:
    """Return the modules that a name in `optim.freeze` stands for."""
    if name != "frames":
        return [getattr(model, name)]
    modules = (model.audio.stem, model.audio.positions, model.audio.frame_layers, model.phone_head)
    return [module for module in modules if module is not None]


def _gather_objects(local: list[Any]) -> list[list[Any]]:
    """Return `local` of every process, in order of rank."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [local]
    gathered: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, local)
    return gathered
