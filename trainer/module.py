"""The training step and the validation of CLARA, as a Lightning module."""

from __future__ import annotations

import math

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from clara_search.metrics import retrieval
from clara_search.models.clara import Clara
from trainer.data import Batch
from trainer.loss import contrastive_loss, phone_loss
from trainer.recipe import Recipe

MAX_LOG_SCALE = math.log(100.0)
"""Temperatures are kept from going below 0.01, as in CLIP."""


class Pretraining(pl.LightningModule):
    """Contrastive pretraining; validated by recall@k over the full gallery of held-out texts."""

    def __init__(self, recipe: Recipe, n_phones: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = Clara(recipe.model)
        self.n_phones = n_phones
        self.phones = nn.Linear(recipe.model.audio.width, recipe.phones.per_frame * n_phones) if n_phones else None
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of a batch."""
        frames, mask = self.model.audio.hear(batch.log_mels, batch.audio_mask)
        loss = contrastive_loss(
            self.model.embed_frames(frames, mask),
            self.model.embed_tokens(batch.ids, batch.text_mask),
            self.model.audio_log_scale.exp(),
            self.model.text_log_scale.exp(),
            batch.groups,
        )
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch.ids))
        if self.phones is None or mask is None:
            return loss
        per_frame = self.recipe.phones.per_frame
        logits = self.phones(frames).unflatten(-1, (per_frame, self.n_phones)).flatten(1, 2)
        said = phone_loss(logits, mask.repeat_interleave(per_frame, dim=1), batch.phones, batch.phone_lengths)
        self.log("phone_loss", said, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch.ids))
        return loss + self.recipe.phones.weight * said

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the temperatures in bounds."""
        with torch.no_grad():
            self.model.audio_log_scale.clamp_(max=MAX_LOG_SCALE)
            self.model.text_log_scale.clamp_(max=MAX_LOG_SCALE)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Embed a batch, for the ranking over all of them."""
        audio = self.model.embed_log_mels(batch.log_mels, batch.audio_mask)
        text = self.model.embed_tokens(batch.ids, batch.text_mask)
        self._validated.append((audio, text, batch.groups))

    def on_validation_epoch_end(self) -> None:
        """Rank the full gallery, both ways."""
        audio, text, groups = (torch.cat(parts).cpu().numpy() for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        _, first = np.unique(groups, return_index=True)
        to_audio = retrieval(text[first], audio, groups[first], groups, bootstrap=0)
        to_text = retrieval(audio, text[first], groups, groups[first], bootstrap=0)
        for k in (1, 5, 10):
            self.log(f"text_to_audio_recall_at_{k}", to_audio.recall[k], prog_bar=k == 10)
            self.log(f"audio_to_text_recall_at_{k}", to_text.recall[k])
        self.log("text_to_audio_map_at_10", to_audio.map10)
        self.log("chance_recall_at_10", to_audio.chance_recall[10])
        self.log("audio_scale", self.model.audio_log_scale.exp())
        self.log("text_scale", self.model.text_log_scale.exp())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, without decay for vectors and scalars; linear warm-up, then a cosine to zero."""
        config = self.recipe.optimiser
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )

        steps = int(self.trainer.estimated_stepping_batches)

        def factor(step: int) -> float:
            if step < config.warmup_steps:
                return (step + 1) / config.warmup_steps
            progress = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
            return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
