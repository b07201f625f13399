from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tasks.faults import kill_repeatedly


@pytest.mark.slow
def test_killed_runs_end_with_the_rows_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Files are added, changed, renamed and deleted between the kills, which come at random times."""
    result = kill_repeatedly(tmp_path, kills=4, files=48, seed=3)
    assert result["equal"], result
    assert result["rows twice"] == 0
    assert result["kills"] == 4
    assert result["rows"] >= result["files"] > 0
