"""`python -m benchmarks ann`."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.tasks.ann.tuned import gapped


def test_recall_is_that_of_queries_that_tuning_has_not_seen(tmp_path):
    out = tmp_path / "ann.json"
    arguments = ["ann", "--rows", 3000, "--dim", 24, "--queries", 300, "--timed", 5, "--target", 0.9, "--out", out]
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    facts = json.loads(out.read_text())
    assert [(point["direction"], point["target"]) for point in facts["recall"]] == [("text", 0.9), ("audio", 0.9)]
    for point in facts["recall"]:
        assert abs(point["recall"] - point["claimed"]) < 0.05
        assert point["recall_of_the_effort_before"] <= point["recall"]
    assert set(facts["latency_ms"]) >= {"FAISS", "exact search, ten hits"}
    assert "| audio, target 0.9 |" in result.output


def test_captions_lie_apart_from_the_recordings_that_they_describe():
    corpus = gapped(2000, 64, 50, seed=0)
    between = corpus.captions @ corpus.recordings.T
    within = corpus.other_recordings @ corpus.recordings.T
    assert np.sort(between, axis=1)[:, -1].mean() < np.sort(within, axis=1)[:, -10].mean()
