from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RATE, RECIPE
from trainer.config.recipe import Recipe
from trainer.config.sections import OptimConfig, RunConfig


def write_clips(folder: Path, count: int, splits: str = "train train valid test", **metadata: object) -> Path:
    """`count` tones of half a second in `folder`, each with a .json, on the `splits` in turn."""
    for number in range(count):
        write_tone(folder / f"{number:02}.wav", 200 + 50 * number, 0.2, RATE)
        known = {"text": f"tone {number}", "split": splits.split()[number % len(splits.split())], **metadata}
        (folder / f"{number:02}.json").write_text(json.dumps(known))
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 tones, of which 8 are trained on."""
    return write_clips(tmp_path_factory.mktemp("clips"), 16)


@pytest.fixture
def small(clips: Path) -> Recipe:
    """A recipe of one epoch of two steps."""
    data = replace(RECIPE.data, sources=(str(clips),), batch_size=4)
    return replace(RECIPE, data=data, optim=OptimConfig(epochs=1, warmup_steps=2), run=RunConfig("cpu"))
