import csv
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import EVERYTHING, RATE, RECIPE
from trainer.config.recipe import Recipe
from trainer.config.sections import DataConfig, OptimConfig, RunConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 tones with declared splits and labels; one has no text, one is broken."""
    folder = tmp_path_factory.mktemp("tones")
    with (folder / "tones.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "kind", "split", "label", "language", "text_language"])
        for number in range(96):
            name, side = f"{number:03}.wav", "valid" if number % 6 == 0 else "test" if number % 6 == 1 else "train"
            label = "low" if number < 48 else "high"
            write_tone(folder / name, 200 + 30 * number, duration_s=0.1 + 0.003 * number, sample_rate=RATE)
            kind = "speech" if number % 2 else "sound"
            rows.writerow([name, f"{label} tone {number}", kind, side, f"pitch:{label}", "en", "en"])
        rows.writerow(["097.wav", "", "sound", "train", "", "", ""])
        rows.writerow(["098.wav", "gone", "sound", "train", "", "", ""])
    return folder


def recipe(folder: Path, **changes: object) -> Recipe:
    data = DataConfig((str(folder / "tones.csv"),), batch_size=16, max_audio_s=1.0)
    base = replace(RECIPE, data=data, augment=EVERYTHING, optim=OptimConfig(epochs=3, warmup_steps=2))
    base = replace(base, model=replace(base.model, text=replace(base.model.text, dropout=0.1)))
    return replace(base, run=RunConfig(accelerator="cpu", checkpoint_steps=1), **changes)  # type: ignore[arg-type]
