"""Unfreezing of an encoder: its last layers, low-rank changes of all matrices (LoRA), or all weights."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clara_search.errors import ConfigError
from clara_search.models.clara.towers import Clara


class LowRank(nn.Module):
    """A low-rank change of a weight: the product of two thin matrices, zero at first (LoRA, arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.up @ self.down


def unfreeze(model: Clara, parts: str, text: bool, audio: bool = True) -> list[nn.Module]:
    """Unfreeze parts of the towers in use, and freeze everything else.

    Args:
        model: the encoder.
        parts: "last:N" layers, "lora", "lora:RANK" or "all".
        text: whether the text tower is in use.
        audio: whether the audio tower is in use.

    Returns:
        The modules that hold the unfrozen weights, which have to be in training mode.

    Raises:
        ConfigError: `parts` is none of these, or a tower has fewer layers.
    """
    model.requires_grad_(requires_grad=False)
    towers: list[tuple[list[nn.Module], list[nn.Module], nn.Module]] = []
    if audio:
        tower = model.audio
        frames = list(tower.frame_layers.layers) if tower.frame_layers is not None else []  # type: ignore[arg-type]
        ends = [
            tower.norm,
            tower.output,
            *([tower.pool_attention] if tower.pool_attention is not None else []),
            model.audio_projection,
        ]
        towers.append(([*frames, tower.cross, *tower.layers], ends, tower))
    if text:
        text_tower = model.text
        ends = [text_tower.proj, text_tower.proj_norm, text_tower.norm, text_tower.output, model.text_projection]
        towers.append((list(text_tower.layers.layers), ends, text_tower))  # type: ignore[arg-type]
    choice = re.fullmatch(r"(all)|last:(\d+)|lora(?::(\d+))?", parts)
    if choice is None:
        raise ConfigError(f"cannot unfreeze {parts!r}: take none, last:N, lora, lora:RANK or all")
    if choice.group(1):
        modules = [module for _, ends, tower in towers for module in (tower, ends[-1])]
    elif choice.group(2):
        count = int(choice.group(2))
        for layers, _, _ in towers:
            if count > len(layers):
                raise ConfigError(f"cannot unfreeze the last {count} layers: a tower has only {len(layers)}")
        modules = [module for layers, ends, _ in towers for module in (*layers[len(layers) - count :], *ends)]
    else:
        return [_low_rank(tower, int(choice.group(3) or 8)) for _, _, tower in towers]
    for module in modules:
        module.requires_grad_(requires_grad=True)
    return modules


def _low_rank(tower: nn.Module, rank: int) -> nn.Module:
    """Give every matrix in `tower` a low-rank change, and return these changes."""
    changes = nn.ModuleList()
    for module in list(tower.modules()):
        for name in ("weight", "in_proj_weight"):
            weight = getattr(module, name, None)
            if isinstance(module, (nn.Linear, nn.MultiheadAttention)) and isinstance(weight, Tensor):
                change = LowRank(weight, rank)
                parametrize.register_parametrization(module, name, change)
                changes.append(change)
    return changes


def merge_low_rank(model: nn.Module) -> None:
    """Add all low-rank changes to the weights that they change."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
