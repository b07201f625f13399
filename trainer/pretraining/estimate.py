"""The estimate of a dry run: recordings, steps, parameters, memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trainer.data.dataset import PairDataset
from trainer.pretraining.setup import Loaders, RunSetup

_SAMPLE = 4


def estimate(setup: RunSetup) -> Iterator[tuple[str, str]]:
    """Yield names and values: recordings of each split, steps, parameters, memory of states and activations."""
    recipe, corpus = setup.recipe, setup.corpus
    for name, indices in vars(setup.splits).items():
        hours = sum(corpus.duration_s(index) for index in indices) / 3600
        yield f"recordings, {name.replace('_', ' ')}", f"{len(indices):,} ({hours:.2f} h)"
    steps = len(Loaders(setup).sampler())
    yield "steps in an epoch", f"{steps:,}"
    yield "steps", f"{steps * recipe.optim.epochs:,}"
    sizes = [(p.numel(), p.requires_grad) for p in setup.module.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)
    yield "parameters", f"{total:,} ({trained:,} trained)"
    # float32: the weights; of trained ones a gradient and AdamW's two moments; the moving average of the weights.
    states = 4 * (total + 3 * trained + (total if recipe.optim.ema_decay else 0))
    yield "weights, gradients, optimiser", f"{states / 2**30:.2f} GiB on each device (not sharded)"
    pairs = recipe.loss.gradcache_chunk or recipe.data.batch_size
    yield f"activations of {pairs} pairs", f"{pairs * _activation_bytes(setup) / 2**30:.2f} GiB (fp32, longest)"


def _activation_bytes(setup: RunSetup) -> float:
    """Return the bytes that a pair keeps for the backward pass, measured on a few of the longest recordings."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    longest = sorted(setup.splits.train, key=setup.corpus.duration_s)[-_SAMPLE:]
    pairs = PairDataset(setup.corpus, longest, setup.recipe, setup.tokenizer, training=True)
    batch = pairs[0, [(index, draw) for draw, index in enumerate(longest)]]
    module = setup.module.train()
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        audio = module.model.embed_log_mels(batch.log_mels, batch.audio_mask)
        loss = (audio * module.model.embed_tokens(batch.ids, batch.text_mask)).sum()
    del loss
    return sum(size for pointer, size in sizes.items() if pointer not in weights) / len(longest)
