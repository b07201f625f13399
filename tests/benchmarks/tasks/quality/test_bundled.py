"""The shipped weights are those whose scores were recorded."""

import json
import os

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.tasks.quality.bundled import RECORD, differences
from clara_search.models.registry import describe_model

RECORDED = json.loads(RECORD.read_text())
DATA = os.environ.get("CLARA_SMALL_DATA")


def test_the_weights_are_those_whose_scores_were_recorded() -> None:
    assert describe_model("clara-small")["fingerprint"] == RECORDED["fingerprint"]


@pytest.mark.skipif(not DATA, reason="CLARA_SMALL_DATA does not name the shards that clara-small was scored on")
def test_the_weights_have_their_recorded_scores() -> None:
    run = CliRunner().invoke(main, ["bundled", "--data", str(DATA)])
    assert run.exit_code == 0, run.output


def test_a_changed_score_is_named() -> None:
    name, value = next(iter(RECORDED["scores"].items()))
    changed = {**RECORDED, "scores": {**RECORDED["scores"], name: value + 0.02}}
    assert differences(RECORDED, RECORDED) == []
    assert differences(changed, RECORDED) == [f"{name} is {value + 0.02:.3f}, recorded {value:.3f}"]
    assert "fingerprint" in differences({**RECORDED, "fingerprint": "0" * 64}, RECORDED)[0]
