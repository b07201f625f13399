"""Tensor names of the released CLARA code (without the `model.` of its LightningModule) and of `Clara`."""

from __future__ import annotations

import re

_NAMES = [  # tried in this order
    (r"audio_tempeture", "audio_logit_scale"),
    (r"text_tempeture", "text_logit_scale"),
    (r"text_encoder\.transformer_encoder\.transformer_encoder\.(.*)", r"text.layers.\1"),
    (r"text_encoder\.transformer_encoder\.project\.(.*)", r"text.proj.\1"),
    (r"text_encoder\.ln\.(.*)", r"text.proj_norm.\1"),
    (r"text_embedding\.(.*)", r"text.tokens.\1"),
    (r"text_positional_embedding\.(.*)", r"text.positions.\1"),
    (r"audio_positional_embedding\.(.*)", r"audio.positions.\1"),
    (r"(text|audio)_layer_norm\.(.*)", r"\1.norm.\2"),
    (r"(text|audio)_fc1\.(.*)", r"\1.output.\2"),
    (r"(text|audio)_transform\.sequential\.0\.(.*)", r"\1_projection.\2"),
    (r"conv1\.(.*)", r"audio.stem.convolutions.0.\1"),
    (r"conv2\.(.*)", r"audio.stem.convolutions.1.\1"),
    (r"audio_encoder\.latents", "audio.latents"),
]
_BLOCKS = [
    (r"audio_encoder\.cross_attend_blocks\.(\d+)\.(.*)", "audio.cross"),
    (r"audio_encoder\.layers\.(\d+)\.(\d+)\.(.*)", "audio.layers.{0}"),
]
_BLOCK_PARTS = {  # by number in the block: attention, then feed-forward
    "0": {"fn.": "attention.", "norm.": "attention_norm.", "norm_context.": "context_norm."},
    "1": {"fn.net.0.": "feed_forward.expand.", "fn.net.2.": "feed_forward.contract.", "norm.": "feed_forward_norm."},
}


def name_of_released(released: str) -> str | None:
    """Return the name in `Clara` of the tensor called `released` in the released code; None for an unknown one."""
    for pattern, replacement in _NAMES:
        if match := re.fullmatch(pattern, released):
            return match.expand(replacement)
    for pattern, block in _BLOCKS:
        if match := re.fullmatch(pattern, released):
            *_, part, rest = groups = match.groups()
            for prefix, replacement in _BLOCK_PARTS.get(part, {}).items():
                if rest.startswith(prefix):
                    return f"{block.format(*groups)}.{replacement}{rest.removeprefix(prefix)}"
    return None
