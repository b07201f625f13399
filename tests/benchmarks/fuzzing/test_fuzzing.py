"""Fuzzing: the cases that once failed, and a short run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.fuzzing import campaign, readers
from benchmarks.fuzzing.campaign import Worker, fuzz_reader, read_kept
from benchmarks.fuzzing.mutations import repair_ogg, repair_tar
from benchmarks.fuzzing.readers import READERS
from benchmarks.fuzzing.worker import read_case
from clara_search.errors import FormatError
from tests.helpers import FIXTURES

KEPT = sorted((FIXTURES / "fuzz").glob("*/*.zip"))
"""Findings, as `--keep` writes them."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory by /proc")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("archive", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_once_failed_is_read_or_refused_in_one_line(archive: Path, worker: Worker, tmp_path: Path) -> None:
    worker.choose(archive.parent.name)
    outcome = read_kept(archive, worker, tmp_path)
    assert outcome.problem is None, outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_short_run_finds_nothing(name: str, worker: Worker, tmp_path: Path) -> None:
    tally = fuzz_reader(name, 1, lambda count: count < 25, worker, tmp_path, tmp_path / "found")
    assert not tally.findings
    assert tally.cases == 25
    assert tally.refused + (name == "tar") * tally.cases > 0


def explode(folder: Path) -> None:
    """Fail at every second content, in several ways."""
    number = (folder / "a.json").read_bytes()[0]
    if number % 3 == 0:
        raise KeyError("a")
    if number % 3 == 1:
        raise FormatError("refused")


def test_a_reader_that_fails_is_a_finding_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = replace(READERS["tar"], read=explode)
    monkeypatch.setattr(readers, "READERS", {"tar": reader})
    (tmp_path / "a.json").write_bytes(b"\x00")
    outcome = read_case("tar", tmp_path)
    assert outcome.problem == "KeyError: 'a'"
    assert not outcome.refused
    (tmp_path / "a.json").write_bytes(b"\x01")
    assert read_case("tar", tmp_path).refused
    (tmp_path / "a.json").write_bytes(b"\x02")
    assert not read_case("tar", tmp_path).refused


def test_what_is_kept_is_made_small(tmp_path: Path) -> None:
    before = {"a.bin": bytes(100), "b.bin": bytes(100)}
    files = {"a.bin": b"\x07" + bytes(99), "b.bin": b"\x09" + bytes(99)}
    small = campaign._shrink(files, before, lambda case: case["a.bin"][:1] == b"\x07")
    assert small["b.bin"] == before["b.bin"]
    assert small["a.bin"] == b"\x07" + bytes(24)


def test_the_checksums_of_changed_files_are_right(tmp_path: Path, worker: Worker) -> None:
    READERS["tar"].write_seeds(tmp_path / "tar")
    good = (tmp_path / "tar" / "pax" / "s.tar").read_bytes()
    broken = good[:148] + b"0" * 8 + good[156:]
    assert int(repair_tar(broken)[148:154], 8) == int(good[148:154], 8)
    READERS["audio"].write_seeds(tmp_path / "audio")
    page = (tmp_path / "audio" / "opus" / "opus.opus").read_bytes()
    assert repair_ogg(page[:22] + bytes(4) + page[26:]) == page


def test_the_command_prints_cases_and_findings(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    arguments = ["fuzz", "--reader", "tar", "--cases", "5", "--seed", "3", "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "| tar | 5 |" in result.output
    values = json.loads(out.read_text())
    assert values["readers"]["tar"]["cases"] == 5
    assert values["readers"]["tar"]["findings"] == []


def test_kept_cases_name_their_reader() -> None:
    assert len(KEPT) >= 17
    for archive in KEPT:
        assert archive.parent.name in READERS
        assert zipfile.ZipFile(archive).namelist()
