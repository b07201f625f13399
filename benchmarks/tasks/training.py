"""Pairs a second of whole training steps, and the share of what the device multiplies that they use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arithmetic import device_name, matmul_flops_per_s, seconds_of
from benchmarks.report import markdown, out_option, publish
from clara_search.errors import DeviceError
from clara_search.models.batching import choose_device
from trainer.config.loss import LossConfig, LossKind
from trainer.config.presets import PRESETS
from trainer.config.recipe import Recipe
from trainer.data.dataset import Batch
from trainer.pretraining.module import Pretraining

TOKENS = 32
"""In a text of a synthetic batch: about twenty words."""


@click.command("training")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="clara-100m", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Of each clip.")
@click.option("--batch", "batches", type=click.IntRange(min=2), multiple=True, default=(8,), help="Pairs; repeatable.")
@click.option("--chunk", type=click.IntRange(min=0), default=0, show_default=True, help="Pairs embedded at once.")
@click.option("--loss", "kind", type=click.Choice(get_args(LossKind)), default="clara", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--device", help="Such as cuda or cpu; the fastest there is by default.")
@click.option("--steps", type=click.IntRange(min=1), default=5, show_default=True, help="Timed, behind one that warms.")
@click.option("--compile", "compile_model", is_flag=True, help="Compile the model first.")
@out_option
def training(
    preset: str,
    seconds: float,
    batches: tuple[int, ...],
    chunk: int,
    kind: LossKind,
    precision: str,
    device: str | None,
    steps: int,
    compile_model: bool,
    out: Path | None,
) -> None:
    """Time forward, backward and AdamW on noise, for each --batch; the data are ready beforehand.

    The share is of the operations of the forward and backward pass (what a chunk computes twice counts once) in the
    rate of one large matrix product of that precision on that device.
    """
    place = choose_device(device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.manual_seed(0)
    module = Pretraining(Recipe(preset, loss=LossConfig(kind, chunk=chunk), model=PRESETS[preset])).to(place).train()
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # nobody listens
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=place.type == "cuda")
    flops = _flops_of_a_pair(module, seconds, place, dtype)
    if compile_model:
        module.model.compile()
    multiplied = matmul_flops_per_s(place, dtype)
    results: list[dict[str, Any]] = []
    rows = []
    for pairs in batches:
        batch = _noise(module, pairs, seconds, place)

        def step(batch: Batch = batch) -> None:
            with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
                loss = module.training_step(batch, 0)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        try:
            if place.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step()
            taken = [seconds_of(step) for _ in range(steps)]
        except torch.OutOfMemoryError:
            rows.append([str(pairs), "out of memory", "", "", ""])
            continue
        median = float(np.median(taken))
        peak = torch.cuda.max_memory_allocated() / 2**30 if place.type == "cuda" else None
        share = pairs * flops / median / multiplied
        results.append({"pairs": pairs, "seconds": taken, "pairs_per_s": pairs / median, "share": share, "gib": peak})
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
        "matmul_flops_per_s": multiplied,
        "results": results,
    }
    title = f"{preset}, clips of {seconds:g} s, {precision}, on {device_name(device)}"
    title += f", {chunk} at once" if chunk else ""
    headings = ["pairs in a step", "pairs/s", "seconds of audio a second", "of the matmul rate", "peak memory"]
    rate = f"\nA pair takes {flops / 1e9:.1f} GFLOP; a large product runs at {multiplied / 1e9:,.0f} GFLOP/s."
    publish(result, f"{title}\n\n{markdown(headings, rows)}\n{rate}", out)


def _noise(module: Pretraining, pairs: int, seconds: float, device: torch.device) -> Batch:
    """Return pairs of noise and tokens without padding, every text another."""
    config = module.recipe.model
    frames = 1 + round(seconds * config.mel.sample_rate) // config.mel.hop_length
    return Batch(
        torch.randn(pairs, frames, config.mel.n_mels, device=device).clamp(-1, 1),
        torch.ones(pairs, frames, dtype=torch.bool, device=device),
        torch.randint(config.text.vocab_size, (pairs, TOKENS), device=device),
        torch.ones(pairs, TOKENS, dtype=torch.bool, device=device),
        torch.arange(pairs, device=device),
        torch.arange(pairs, device=device),
        *(torch.empty(pairs, 0, device=device) for _ in range(4)),
    )


def _flops_of_a_pair(module: Pretraining, seconds: float, device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations of a forward and a backward pass over one of two pairs, nothing computed twice."""
    recipe = module.recipe
    module.recipe = replace(recipe, loss=replace(recipe.loss, chunk=0))
    with (
        FlopCounterMode(display=False) as counter,
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
    ):
        module.training_step(_noise(module, 2, seconds, device), 0).backward()  # type: ignore[no-untyped-call]
    module.recipe = recipe
    module.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / 2
