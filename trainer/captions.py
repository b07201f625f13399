"""What a recording is called in training: its transcript, or the name of its sound, now and then in a sentence."""

from __future__ import annotations

import numpy as np

from clara_search.datasets.spec import Example

SOUND_TEMPLATES = ("the sound of {}", "sound of a {}", "{} sound", "a recording of {}", "the sounds of {}")


def caption(example: Example, template_probability: float, rng: np.random.Generator) -> str:
    """Return the text of `example`; where nobody speaks, put into a template with `template_probability`."""
    if example.kind == "speech" or rng.random() >= template_probability:
        return example.text
    return SOUND_TEMPLATES[rng.integers(len(SOUND_TEMPLATES))].format(example.text)
