from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory by /proc")
def test_scoring_is_compared_with_the_product_alone(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    arguments = ["ranking", "--captions", "500", "--dim", "64", "--rounds", "1", "--out", str(out)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    written = json.loads(out.read_text())
    assert (written["captions"], written["clips"]) == (500, 100)
    assert 0 < written["recall_at_1"] < 1
    for direction, ratio in written["ratios"].items():
        assert ratio == pytest.approx(written["seconds"][direction][0] / written["seconds"]["product"][0])
    assert "| product | 500 x 100 |" in result.output
