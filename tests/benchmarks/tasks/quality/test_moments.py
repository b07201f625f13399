"""Moments through the command: recordings whose parts an encoder knows, laid out as CASTELLA is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.tasks.quality import moments as task
from tests.benchmarks.tasks.quality.test_retrieval import RATE, PerfectEncoder


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "load_encoder", lambda model: PerfectEncoder())


def copy(folder: Path) -> Path:
    """Two recordings of four parts of ten seconds, numbered 1 to 4 and 11 to 14."""
    (folder / "json" / "en").mkdir(parents=True)
    (folder / "audio").mkdir()
    records: list[dict[str, Any]] = []
    for name, first in (("it's", 1), ("b", 11)):
        levels = np.repeat(np.arange(first, first + 4) / 64, 10 * RATE).astype(np.float32)
        soundfile.write(folder / "audio" / f"{name}.wav", levels, RATE)
        moments = [
            {"local_caption": f"part {first + 1}", "timestamps": [[10, 20]]},
            {"local_caption": f"part {first + 3}", "timestamps": [[32, 38]]},
        ]
        records.append({"yid": name, "global_caption": "g", "duration": 40, "num_moments": 2, "moments": moments})
    for split in ("train", "val", "test"):
        (folder / "json" / "en" / f"{split}.json").write_text(json.dumps(records if split == "test" else []))
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["moments", *map(str, arguments), "--window", "10", "--hop", "10"])


@pytest.mark.slow
def test_moments_are_found_in_their_own_recording(tmp_path: Path) -> None:
    root = copy(tmp_path / "castella")
    result = invoke("--data", f"castella:{root}", "--out", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "run.json").read_text())
    search, whole = facts["scores"]["search"], facts["scores"]["whole recording"]
    assert (facts["recordings"], search["n_queries"], facts["complete"]) == (2, 4, True)
    # Of ten seconds all are right for two queries; for the others six, an intersection over union of 0.6.
    assert search["r1"] == {"0.5": 1.0, "0.7": 0.5}
    assert search["map"] == pytest.approx((1.0 + 0.3) / 2)
    assert whole["r1"]["0.5"] == whole["map"] == 0.0
    assert "| whole recording | 4 | 0.0 [0.0, 0.0] |" in result.output


@pytest.mark.slow
def test_missing_recordings_are_counted(tmp_path: Path) -> None:
    root = copy(tmp_path / "castella")
    (root / "audio" / "b.wav").unlink()
    refused = invoke("--data", f"castella:{root}")
    assert refused.exit_code == 1
    assert "1 recordings or captions are missing" in refused.output
    result = invoke("--data", f"castella:{root}", "--allow-missing")
    assert result.exit_code == 0, result.output
    assert "INCOMPLETE: 1 missing" in result.output
    assert "is no dataset with moments" in invoke("--data", f"esc-50:{root}").output
