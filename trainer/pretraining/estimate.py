"""What a run will take, told before it begins: recordings, steps, parameters, memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trainer.data.dataset import PairDataset
from trainer.pretraining.run import Loaders, Prepared

_SAMPLE = 4


def estimate(ready: Prepared) -> Iterator[tuple[str, str]]:
    """Yield names and values: counts of each side, steps, parameters, and the memory of states and activations."""
    recipe, corpus, sides = ready.recipe, ready.corpus, ready.sides
    for name, indices in vars(sides).items():
        hours = sum(corpus.duration_s(index) for index in indices) / 3600
        yield f"recordings, {name.replace('_', ' ')}", f"{len(indices):,} ({hours:.2f} h)"
    steps = len(Loaders(ready).sampler())
    yield "steps in an epoch", f"{steps:,}"
    yield "steps", f"{steps * recipe.optim.epochs:,}"
    parameters = [p for p in ready.module.parameters() if p.requires_grad]
    trained, total = sum(p.numel() for p in parameters), sum(p.numel() for p in ready.module.parameters())
    yield "parameters", f"{total:,} ({trained:,} trained)"
    # Weights, and for what is trained a gradient and two moments of AdamW; an average of the weights where asked for.
    states = 4 * (total + 3 * trained + (total if recipe.optim.ema else 0))
    yield "weights, gradients, optimiser", f"{states / 2**30:.2f} GiB on each device (not sharded)"
    together = recipe.loss.chunk or recipe.data.batch_size
    yield f"activations of {together} pairs", f"{together * _bytes_of_a_pair(ready) / 2**30:.2f} GiB (fp32, longest)"


def _bytes_of_a_pair(ready: Prepared) -> float:
    """Return what a pair of the longest recordings keeps for the backward pass, in bytes: measured on a few."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    longest = sorted(ready.sides.train, key=ready.corpus.duration_s)[-_SAMPLE:]
    pairs = PairDataset(ready.corpus, longest, ready.recipe, ready.tokenizer, training=True)
    batch = pairs[0, [(index, draw) for draw, index in enumerate(longest)]]
    module = ready.module.train()
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        audio = module.model.embed_log_mels(batch.log_mels, batch.audio_mask)
        loss = (audio * module.model.embed_tokens(batch.ids, batch.text_mask)).sum()
    del loss
    return sum(size for place, size in kept.items() if place not in weights) / len(longest)
