"""A run folder that somebody sent: what a run writes and removes there changes nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from clara_search.classification.head import Head, HeadConfig
from clara_search.classification.head_files import CONFIG_FILE, WEIGHTS_FILE, save_head
from clara_search.errors import OutputError
from clara_search.files.atomic import atomic_path, atomic_write_text
from trainer.probing.run import _remove_encoder


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "config.json"
    path.parent.mkdir()
    path.write_text("precious")
    return path


def test_a_link_at_the_name_of_a_partial_file_is_not_written_through(tmp_path: Path, letter: Path) -> None:
    (tmp_path / "report.json.partial").symlink_to(letter)
    atomic_write_text(tmp_path / "report.json", "new")
    assert letter.read_text() == "precious"
    assert (tmp_path / "report.json").read_text() == "new"
    (tmp_path / "report.json.partial").symlink_to(letter)
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "report.json"):
        raise ZeroDivisionError
    assert letter.read_text() == "precious"


def test_a_head_is_not_written_through_links(tmp_path: Path, letter: Path) -> None:
    head = tmp_path / "head"
    head.mkdir()
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        (head / f".{name}.partial").symlink_to(letter)
        (head / name).symlink_to(letter)
    save_head(head, Head(HeadConfig("linear", "audio", {"side": ("left", "right")}, 4)))
    assert letter.read_text() == "precious"
    assert not (head / CONFIG_FILE).is_symlink()


def test_the_encoder_of_an_earlier_run_is_removed_and_nothing_else(tmp_path: Path, letter: Path) -> None:
    encoder = tmp_path / "run" / "head" / "encoder"
    encoder.mkdir(parents=True)
    _remove_encoder(tmp_path / "run", encoder.with_name("none"))
    (encoder / "config.json").write_text("{}")
    _remove_encoder(tmp_path / "run", encoder)
    assert not encoder.exists()
    encoder.mkdir()
    (encoder / "letters").mkdir()
    (encoder / "letters" / "config.json").write_text("precious")
    with pytest.raises(OutputError, match=r"encoder: holds more than the encoder"):
        _remove_encoder(tmp_path / "run", encoder)
    assert (encoder / "letters" / "config.json").read_text() == "precious"


@pytest.mark.parametrize("link", ["head/encoder", "head"])
def test_an_encoder_that_lies_elsewhere_is_not_removed(tmp_path: Path, letter: Path, link: str) -> None:
    (tmp_path / "run" / link).parent.mkdir(parents=True)
    (tmp_path / "run" / link).symlink_to(letter.parent if link.endswith("encoder") else tmp_path)
    letter.parent.rename(tmp_path / "encoder")
    (tmp_path / "outside").symlink_to("encoder")
    with pytest.raises(OutputError, match="is a link"):
        _remove_encoder(tmp_path / "run", tmp_path / "run" / "head" / "encoder")
    assert letter.read_text() == "precious"
