"""The catalogue through its command: what is declared, and copies that are complete or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from clara_search.datasets.completeness import check_dataset
from clara_search.datasets.declarations.catalogue import DATASETS
from tests.clara_search.datasets.published import PUBLISHED
from tests.clara_search.datasets.published_captions import PUBLISHED_CAPTIONS


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["datasets", *map(str, arguments)])


def test_all_datasets_are_listed_with_licence_and_home() -> None:
    result = invoke()
    assert result.exit_code == 0
    for dataset in DATASETS.values():
        assert f"| {dataset.name} |" in result.output
        assert dataset.home in result.output
    assert len(DATASETS) == 22
    assert "split=train 3,839, split=valid 1,045, split=test 1,045" in result.output


@pytest.mark.parametrize("name", DATASETS)
def test_three_recordings_are_all_that_their_tables_list_and_less_than_is_stated(name: str, tmp_path: Path) -> None:
    published = {**PUBLISHED, **PUBLISHED_CAPTIONS}[name]
    dataset, root = DATASETS[name], published.write(tmp_path)
    found = check_dataset(dataset, root)
    assert (found.parts["all"].listed, found.parts["all"].found, found.missing) == (3, 3, ())
    assert found.is_complete == (not dataset.counts)
    assert check_dataset(replace(dataset, counts={}), root).is_complete


def test_a_copy_with_missing_files_is_counted(tmp_path: Path) -> None:
    root = PUBLISHED_CAPTIONS["clotho"].write(tmp_path / "clotho")
    (root / "evaluation" / "d.wav").unlink()
    result = invoke("check", "Clotho", "--root", root, "--out", tmp_path / "check.json")
    assert result.exit_code == 1
    assert "| split=test | 1,045 | 1 | 0 |" in result.output
    assert "clotho is not complete: 1 recordings are missing: evaluation/d.wav" in result.output
    assert "its tables list 5926 recordings fewer than its publisher states" in result.output
    written = json.loads((tmp_path / "check.json").read_text())
    assert (written["complete"], written["rows"], written["missing"]) == (False, 15, ["evaluation/d.wav"])


def test_a_complete_copy_and_an_unknown_name(tmp_path: Path) -> None:
    root = PUBLISHED_CAPTIONS["fleurs"].write(tmp_path / "fleurs")
    result = invoke("check", "fleurs", "--root", root)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("Complete.\n")
    assert "no dataset 'clothes'" in invoke("check", "clothes", "--root", root).output
    assert "not laid out as clotho is published" in invoke("check", "clotho", "--root", root).output
