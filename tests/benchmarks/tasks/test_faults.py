from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tasks.faults import torture


@pytest.mark.slow
def test_killed_runs_end_with_the_rows_of_one_in_peace(tmp_path: Path) -> None:
    """Files are added, changed, renamed and deleted between the kills, which come at any moment of a run."""
    result = torture(tmp_path, kills=4, files=48, seed=3)
    assert result["equal"], result
    assert result["rows twice"] == 0
    assert result["kills"] == 4
    assert result["rows"] >= result["files"] > 0
