"""Pairs per second of training steps, and their share of the device's matrix throughput."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.hardware import device_name, matmul_flops_per_s, seconds_of
from benchmarks.report import markdown, out_option, publish
from clara_search.errors import DeviceError
from clara_search.models.batching import choose_device
from trainer.config.loss import CONTRASTIVE_LOSSES, LossConfig
from trainer.config.presets import PRESETS
from trainer.config.recipe import Recipe
from trainer.data.dataset import Batch
from trainer.pretraining.module import Pretraining

TOKENS = 32
"""Tokens of a synthetic text, about twenty words."""


@click.command("training")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="clara-100m", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Of each clip.")
@click.option("--batch", "batches", type=click.IntRange(min=2), multiple=True, default=(8,), help="Pairs; repeatable.")
@click.option(
    "--chunk", type=click.IntRange(min=0), default=0, show_default=True, help="Pairs embedded at once; 0: all."
)
@click.option("--loss", "kind", type=click.Choice(list(CONTRASTIVE_LOSSES)), default="clara", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--device", help="Such as cuda or cpu.  [default: a GPU if there is any]")
@click.option(
    "--steps", type=click.IntRange(min=1), default=5, show_default=True, help="Timed steps, after one to warm up."
)
@click.option("--compile", "compile_model", is_flag=True, help="Compile the model first.")
@out_option
def training(
    preset: str,
    seconds: float,
    batches: tuple[int, ...],
    chunk: int,
    kind: str,
    precision: str,
    device: str | None,
    steps: int,
    compile_model: bool,
    out: Path | None,
) -> None:
    """Time training steps on noise.

    A step is a forward pass, a backward pass and AdamW, without preparing the data. Prints the operations of a step, of
    which those that a chunk repeats count once, relative to the rate of a large matrix product of that precision.
    """
    torch_device = choose_device(device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.manual_seed(0)
    recipe = Recipe(preset, loss=LossConfig(kind, gradcache_chunk=chunk), model=PRESETS[preset])
    module = Pretraining(recipe).to(torch_device).train()
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log to
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=torch_device.type == "cuda")
    flops = _flops_of_a_pair(module, seconds, torch_device, dtype)
    if compile_model:
        module.model.compile()
    matmul_rate = matmul_flops_per_s(torch_device, dtype)
    results: list[dict[str, Any]] = []
    rows = []
    for pairs in batches:
        batch = _noise(module, pairs, seconds, torch_device)

        def step(batch: Batch = batch) -> None:
            with torch.autocast(torch_device.type, dtype, enabled=dtype != torch.float32):
                loss = module.training_step(batch, 0)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        try:
            if torch_device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step()
            step_s = [seconds_of(step) for _ in range(steps)]
        except torch.OutOfMemoryError:
            rows.append([str(pairs), "out of memory", "", "", ""])
            continue
        median = float(np.median(step_s))
        peak = torch.cuda.max_memory_allocated() / 2**30 if torch_device.type == "cuda" else None
        share = pairs * flops / median / matmul_rate
        results.append({"pairs": pairs, "seconds": step_s, "pairs_per_s": pairs / median, "share": share, "gib": peak})
        speed = f"{pairs / median:.2f}"
        audio = f"{pairs * seconds / median:,.0f}"
        rows.append([str(pairs), speed, audio, f"{share:.1%}", "" if peak is None else f"{peak:.1f} GiB"])
    if not results:
        raise DeviceError(f"no batch of {', '.join(map(str, batches))} fits into the memory of {device_name(device)}")
    result = {
        "benchmark": "training",
        "preset": preset,
        "seconds": seconds,
        "chunk": chunk,
        "loss": kind,
        "precision": precision,
        "compiled": compile_model,
        "device": device_name(device),
        "flops_of_a_pair": flops,
        "matmul_flops_per_s": matmul_rate,
        "results": results,
    }
    title = f"{preset}, clips of {seconds:g} s, {precision}, on {device_name(device)}"
    title += f", {chunk} at once" if chunk else ""
    headings = ["pairs in a step", "pairs/s", "seconds of audio per second", "relative to matmul", "peak memory"]
    rate = f"\nA pair takes {flops / 1e9:.1f} GFLOP; a large product runs at {matmul_rate / 1e9:,.0f} GFLOP/s."
    publish(result, f"{title}\n\n{markdown(headings, rows)}\n{rate}", out)


def _noise(module: Pretraining, pairs: int, seconds: float, device: torch.device) -> Batch:
    """Return pairs of noise and random tokens, without padding and all with different texts."""
    config = module.recipe.model
    frames = 1 + round(seconds * config.mel.sample_rate) // config.mel.hop_length
    return Batch(
        torch.randn(pairs, frames, config.mel.n_mels, device=device).clamp(-1, 1),
        torch.ones(pairs, frames, dtype=torch.bool, device=device),
        torch.randint(config.text.vocab_size, (pairs, TOKENS), device=device),
        torch.ones(pairs, TOKENS, dtype=torch.bool, device=device),
        torch.arange(pairs, device=device),
        torch.arange(pairs, device=device),
        {},
    )


def _flops_of_a_pair(module: Pretraining, seconds: float, device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations of a forward and backward pass for a pair (measured on two), without chunks."""
    recipe = module.recipe
    module.recipe = replace(recipe, loss=replace(recipe.loss, gradcache_chunk=0))
    with (
        FlopCounterMode(display=False) as counter,
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
    ):
        module.training_step(_noise(module, 2, seconds, device), 0).backward()  # type: ignore[no-untyped-call]
    module.recipe = recipe
    module.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / 2
