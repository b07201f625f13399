"""A split without recordings has no scores; the others have, and the run ends with its folder."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.conftest import write_clips
from tests.trainer.pretraining.test_run import RECIPE
from trainer.config.sections import OptimConfig, RunConfig
from trainer.pretraining.run import pretrain

CASES = {
    "no test split": ("train train valid", {}),
    "no test split of speech": ("train train valid", {"kind": "speech"}),
    "one test recording": ("train " * 7 + "valid " + "train " * 7 + "test", {}),
    "speech of one speaker": ("train valid test", {"kind": "speech", "speaker": "ann", "language": "en"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_with_the_scores_that_can_be_computed(tmp_path: Path, case: str) -> None:
    splits, metadata = CASES[case]
    folder = write_clips(tmp_path / "clips", 16, splits, **metadata)
    if case == "speech of one speaker":  # who says the same text again
        for number in (2, 5, 8):
            path = folder / f"{number:02}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "text": "the same", "text_language": "en"}))
    data = replace(RECIPE.data, sources=(str(folder),), batch_size=4, held_out_speakers=())
    pretrain(replace(RECIPE, data=data, optim=OptimConfig(epochs=1), run=RunConfig("cpu")), tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert bool(scores["retrieval"]) == ("no test" not in case)
    assert ("No recordings were held out for scores" in card) == ("no test" in case)
    assert "()" not in card
    assert "digits" not in card
    assert list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert (tmp_path / "run" / "curves.png").exists()
