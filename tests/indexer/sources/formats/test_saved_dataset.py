"""Folders of `datasets` whose descriptions lead in circles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clara_search.errors import FormatError
from indexer.sources.formats.saved_dataset import SavedDatasetReader


def test_splits_within_splits_are_not_followed(tmp_path: Path) -> None:
    """Two links to the folder itself would be read as two to the power of forty splits."""
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["a", "b"]}))
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path)
    files = SavedDatasetReader().listed_files(str(tmp_path))
    assert files == [str(tmp_path / name / "data.arrow") for name in ("a", "b")]


def test_a_split_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "state.json").write_text('{"_data_files": []}')
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "train"]}))
    with pytest.raises(FormatError, match="listed twice"):
        SavedDatasetReader().listed_files(str(tmp_path))
