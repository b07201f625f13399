"""Training of an audio tower to recognise phones, by CTC in small batches; its answers to sounds stay as they are.

A contrastive run makes few, large steps. Recognition gains from many small ones: on a CPU a step costs what its audio
costs, however few recordings share it. Beside the recordings there are texts of random words in many languages that
espeak-ng speaks in a new voice at every step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from clara_search.audio.mel import log_mel
from clara_search.files.atomic import atomic_path
from clara_search.models.batching import padding_mask
from clara_search.models.clara.towers import Clara
from trainer.data.corpus import Corpus
from trainer.losses.phones import phone_ctc_loss
from trainer.speech.batches import PhoneBatch, PhoneBatches, RecognitionConfig, rank_and_world

log = logging.getLogger(__name__)

_INNER_LAYER, _INNER_WEIGHT = 3, 0.3
"""Frame layer after which phones are predicted as well in training (intermediate CTC), and the weight of that loss."""

_POOLED_WEIGHT = 2.0
"""Weight of the squared distance of the pooled part to its target, relative to the largest norm of a target."""

_DECAY_SHARE = 0.4
"""Share of the steps in which the learning rate falls."""

_LOG_STEPS = 50


def pooled_targets(model: Clara, corpus: Corpus, indices: Sequence[int], max_audio_s: float = 10.0) -> Tensor:
    """Return the pooled part of the embeddings of recordings without speech, zeros for speech: (n, dim)."""
    targets = torch.zeros(len(indices), model.config.dim)
    sounds = [k for k, index in enumerate(indices) if corpus.examples[index].kind != "speech"]
    sounds.sort(key=lambda k: corpus.samples(indices[k]))
    longest = round(max_audio_s * corpus.sample_rate)
    with torch.inference_mode():
        for start in range(0, len(sounds), 16):
            rows = sounds[start : start + 16]
            mels = [log_mel(corpus.waveform(indices[k])[:longest], model.config.mel) for k in rows]
            frames = model.audio.encode_frames(
                pad_sequence(mels, batch_first=True), padding_mask([len(x) for x in mels])
            )
            targets[rows] = model.audio_projection(model.audio.pool(*frames))
    return targets


def fit_phones(
    model: Clara,
    batches: PhoneBatches,
    config: RecognitionConfig,
    checkpoint: Path,
    workers: int = 1,
    device: str = "cpu",
) -> None:
    """Train the audio tower of `model` in place; it ends as the average of its weights. An interrupted run resumes.

    Args:
        model: With a phone head.
        batches: Of the run.
        config: Settings.
        checkpoint: File that is written every `checkpoint_steps` steps, and resumed from if it exists.
        workers: Processes that prepare batches; 0: this one.
        device: Where the model is trained ("cpu", "cuda"); it ends on the CPU.
    """
    assert model.phone_head is not None
    model.to(device)
    classifier = model.phone_head.frame_classifier
    inner = nn.Linear(classifier.in_features, classifier.out_features).to(device)
    inner.load_state_dict(classifier.state_dict())
    named = [(f"audio.{k}", p) for k, p in model.audio.named_parameters()]
    named += [(f"audio_projection.{k}", p) for k, p in model.audio_projection.named_parameters()]
    named += [(f"phone_head.frame_classifier.{k}", p) for k, p in classifier.named_parameters()]
    trained = [p for _, p in named] + list(inner.parameters())
    for p in model.parameters():
        p.requires_grad_(False)
    for p in trained:
        p.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(0.9, 0.98),
    )
    average = {name: p.detach().clone() for name, p in named}
    first, before_s = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        inner.load_state_dict(state["inner"])
        optimiser.load_state_dict(state["optimiser"])
        average, first, before_s = state["average"], state["step"], state.get("seconds", 0.0)
        log.info("resumes at step %d", first)
    batches.first = first
    scale = float(batches.pooled.norm(dim=1).max().clamp_min(1.0))
    model.train()
    sums = np.zeros(4)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    limit_s, started = 60.0 * config.minutes if config.minutes else float("inf"), time.monotonic() - before_s

    def save(step: int) -> None:
        if rank_and_world()[0] == 0:
            state = {
                "model": model.state_dict(),
                "inner": inner.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average,
                "step": step,
                "seconds": time.monotonic() - started,
            }
            with atomic_path(checkpoint) as partial:
                torch.save(state, partial)

    for step, on_cpu in enumerate(loader, start=first):
        seconds = time.monotonic() - started
        done = max(step / config.steps, seconds / limit_s)
        if done >= 1.0:
            save(step)
            break
        batch = PhoneBatch(*(tensor.to(device, non_blocking=True) for tensor in on_cpu))
        factor = min((step + 1) / config.warmup, 1.0, (1.0 - done) / _DECAY_SHARE)
        for group in optimiser.param_groups:
            group["lr"] = config.lr * factor
        frames, mask, inside = _encode(model, batch.log_mels, batch.mask)
        spoken = batch.lengths.sum().clamp_min(1)
        logits, slot_mask = model.phone_head.predict_from_frames(frames, mask)
        ctc = phone_ctc_loss(logits, slot_mask, batch.phones, batch.lengths) / spoken
        inner_logits = inner(inside).reshape(logits.shape)
        inner_ctc = phone_ctc_loss(inner_logits, slot_mask, batch.phones, batch.lengths) / spoken
        pooled = model.audio_projection(model.audio.pool(frames, mask))
        distance = (pooled - batch.pooled).square().sum(dim=1).mean() / scale
        loss = ctc + _INNER_WEIGHT * inner_ctc + _POOLED_WEIGHT * distance
        optimiser.zero_grad()
        loss.backward()
        _average_gradients(trained)
        norm = nn.utils.clip_grad_norm_(trained, 1.0)
        if torch.isfinite(norm):
            optimiser.step()
        decay = min(config.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, p in named:
                average[name].lerp_(p, 1.0 - decay)
        sums += (ctc.item(), inner_ctc.item(), distance.item(), 1.0)
        if (step + 1) % _LOG_STEPS == 0:
            log.info("step %d: ctc %.3f, inner %.3f, pooled %.3f", step + 1, *(sums[:3] / sums[3]))
            sums[:] = 0.0
        if (step + 1) % config.checkpoint_steps == 0 or step + 1 == config.steps:
            save(step + 1)
    model.load_state_dict(average, strict=False)
    model.to("cpu").requires_grad_(True).eval()


def _encode(model: Clara, log_mels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frames of the audio tower, their mask, and the frames after an inner layer, normed."""
    audio, inside = model.audio, list[Tensor]()
    assert audio.frame_layers is not None
    layers: Any = audio.frame_layers.layers
    layer = layers[min(_INNER_LAYER, len(layers)) - 1]
    handle = layer.register_forward_hook(lambda _module, _inputs, output: inside.append(output))
    try:
        frames, frame_mask = audio.encode_frames(log_mels, mask)
    finally:
        handle.remove()
    assert frame_mask is not None
    return frames, frame_mask, F.layer_norm(inside[0], inside[0].shape[-1:])


def _average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average the gradients over all processes."""
    _, world = rank_and_world()
    if world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient) / world)
