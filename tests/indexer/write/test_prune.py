"""Absence is what was asked for and answered: a listing that fails, anywhere and anyhow, removes no row."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.store.database import Database
from indexer.ledger.entry import LedgerEntry
from indexer.ledger.failures import failures
from indexer.pipeline import IndexResult, index
from indexer.sources.listing import resolve_sources
from indexer.sources.pattern import Pattern
from indexer.write.scope import PruneScope
from tests.helpers import ToneEncoder, write_tone
from tests.stores import FORBIDDEN, UNAVAILABLE, Answer, Fragile, Proxy, Rule

BROKEN: Answer = (200, b"not a listing")
EMPTY: Answer = (200, b"")


def listings_of(prefix: str, answer: Answer) -> Rule:
    """Fail what lists `prefix`, exactly."""
    return lambda method, path: answer if "list-type" in path and f"prefix={prefix}&" in f"{path}&" else None


def pruned(source: str, tmp_path: Path, **options: Any) -> IndexResult:
    return index([source], tmp_path / "db", ToneEncoder(), prune=True, **options)


def uris(tmp_path: Path) -> list[str]:
    return sorted(Database(tmp_path / "db").table().scan(["uri"])["uri"].to_pylist())


@pytest.mark.slow
@pytest.mark.parametrize("answer", [FORBIDDEN, UNAVAILABLE, BROKEN, EMPTY], ids=["403", "503", "no XML", "empty"])
@pytest.mark.parametrize("source", ["s3://sounds/ab", "s3://sounds/ab/**", "s3://sounds/*/*/*.wav"])
def test_a_part_of_a_store_that_cannot_be_listed_loses_no_row(
    sounds: Any, proxy: Proxy, tmp_path: Path, source: str, answer: Answer
) -> None:
    before = pruned(source, tmp_path)
    assert (before.failed, before.unlisted) == (0, 0)
    sounds.rm("sounds/ab/two/d.wav")
    proxy.rule = listings_of("ab/one/", answer)
    summary = pruned(source, tmp_path)
    assert (summary.removed, summary.rows) == (0, before.rows)
    assert (summary.unlisted, summary.failed) == (1, 1)
    (failure,) = failures(Database(tmp_path / "db"))
    assert failure["uri"] == "s3://sounds/ab/one"
    assert "cannot be listed" in failure["reason"]
    proxy.rule = lambda method, path: None
    summary = pruned(source, tmp_path)
    assert (summary.removed, summary.rows, summary.unlisted) == (1, before.rows - 1, 0)
    assert failures(Database(tmp_path / "db")) == []
    assert "s3://sounds/ab/two/d.wav" not in uris(tmp_path)


@pytest.mark.slow
def test_the_command_says_that_nothing_was_pruned_and_strict_makes_it_an_error(
    sounds: Any, proxy: Proxy, tmp_path: Path
) -> None:
    pruned("s3://sounds/ab", tmp_path)
    arguments = ["index", "s3://sounds/ab", "--db", str(tmp_path / "cli"), "--prune", "--json"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    proxy.rule = listings_of("ab/one/", FORBIDDEN)
    loose = CliRunner().invoke(main, arguments)
    assert loose.exit_code == 0
    assert "Nothing was pruned: 1 folders or shards could not be listed to their end." in loose.stderr.splitlines()
    assert json.loads(loose.stdout)["unlisted"] == 1
    assert CliRunner().invoke(main, [*arguments, "--strict"]).exit_code == 1


@pytest.mark.parametrize("answer", [FORBIDDEN, UNAVAILABLE], ids=["403", "503"])
def test_what_vanished_from_a_listing_is_asked_for_and_kept_without_an_answer(
    sounds: Any, proxy: Proxy, tmp_path: Path, answer: Answer
) -> None:
    """A listing that leaves out what is there, and a store that answers for one URL only."""
    before = pruned("s3://sounds/ab", tmp_path)
    sounds.rm(["sounds/ab/one/b.wav", "sounds/ab/two/d.wav"])
    proxy.rule = lambda method, path: answer if path.startswith("/sounds/ab/one/b.wav") else None
    summary = pruned("s3://sounds/ab", tmp_path)
    assert (summary.removed, summary.unanswered, summary.rows) == (1, 1, before.rows - 1)
    assert "s3://sounds/ab/one/b.wav" in uris(tmp_path)


@pytest.mark.slow
def test_a_listing_that_leaves_out_what_is_there_removes_nothing(sounds: Any, proxy: Proxy, tmp_path: Path) -> None:
    before = pruned("s3://sounds/ab", tmp_path)

    def without_a_folder(method: str, path: str) -> Answer | None:
        if "list-type" not in path or "prefix=ab/&" not in f"{path}&":
            return None
        entry = "<Contents><Key>ab/a.wav</Key><Size>9</Size><ETag>x</ETag></Contents>"
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        return 200, f'<ListBucketResult xmlns="{namespace}"><KeyCount>1</KeyCount>{entry}</ListBucketResult>'.encode()

    proxy.rule = without_a_folder
    summary = pruned("s3://sounds/ab", tmp_path)
    assert (summary.removed, summary.rows, summary.unanswered) == (0, before.rows, 0)


@pytest.mark.slow
def test_a_recording_that_cannot_be_read_for_now_keeps_its_rows(sounds: Any, proxy: Proxy, tmp_path: Path) -> None:
    before = pruned("s3://sounds/ab", tmp_path)
    sounds.pipe("sounds/ab/a.wav", write_tone(tmp_path / "other.wav", 999).read_bytes())
    proxy.rule = lambda method, path: UNAVAILABLE if path.startswith("/sounds/ab/a.wav") else None
    summary = pruned("s3://sounds/ab", tmp_path)
    assert (summary.failed, summary.removed, summary.rows) == (1, 0, before.rows)


def _lost(cause: Exception) -> FileNotFoundError:
    """Return the error of a store that takes every failure for a missing file."""
    error = FileNotFoundError("/sounds")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("no"),
        OSError(5, "Input/output error"),
        TimeoutError(),
        ConnectionResetError("reset"),
        RuntimeError("of the store's own making"),
        KeyError("size"),
        ValueError("no JSON"),
        _lost(ConnectionError("refused")),
        _lost(TimeoutError()),
        FileNotFoundError("/sounds/ab/one"),
    ],
    ids=repr,
)
def test_errors_of_any_store_are_no_absence(fragile: Any, tmp_path: Path, error: Exception) -> None:
    source = "fragile://sounds/ab"
    before = pruned(source, tmp_path)
    assert before.rows == 4
    fragile.rm("/sounds/ab/two/d.wav")
    Fragile.failing["/sounds/ab/one"] = error
    assert pruned(source, tmp_path).removed == 0
    assert len(uris(tmp_path)) == 4
    Fragile.failing.clear()
    if not isinstance(error, FileNotFoundError) or error.__cause__ is not None:
        Fragile.failing["/sounds/ab/two/d.wav"] = error
        summary = pruned(source, tmp_path)
        assert (summary.removed, summary.unanswered) == (0, 1)
        Fragile.failing.clear()
    assert pruned(source, tmp_path).removed == 1
    assert "fragile://sounds/ab/two/d.wav" not in uris(tmp_path)


@pytest.fixture
def unlistable(tmp_path: Path) -> Path:
    """A folder too deep to be listed by its path: nobody may, not even root."""
    top = here = tmp_path / "in" / "deep"
    top.mkdir(parents=True)
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=descriptor)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    return here


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.wav"])
def test_a_local_folder_that_cannot_be_listed_loses_no_row(tmp_path: Path, unlistable: Path, pattern: str) -> None:
    away = tmp_path / "away"
    unlistable.rename(away)
    for name in ("a.wav", "sub/b.wav"):
        write_tone(tmp_path / "in" / name, duration_s=0.3)
    source = f"{tmp_path / 'in'}{pattern}"
    assert pruned(source, tmp_path).rows == 2
    away.rename(unlistable)
    (tmp_path / "in" / "a.wav").unlink()
    summary = pruned(source, tmp_path)
    assert (summary.removed, summary.unlisted, summary.rows) == (0, 1, 2)
    unlistable.rename(away)
    summary = pruned(source, tmp_path)
    assert (summary.removed, summary.unlisted, summary.rows) == (1, 0, 1)
    assert failures(Database(tmp_path / "db")) == []


def test_a_shard_that_is_cut_off_loses_no_row(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number in range(4):
            tar.add(write_tone(tmp_path / f"{number}.wav", 300 + 300 * number), f"{number}.wav")
    whole = (tmp_path / "x.tar").read_bytes()
    assert pruned(str(tmp_path / "x.tar"), tmp_path).rows == 4
    (tmp_path / "x.tar").write_bytes(whole[: len(whole) // 2])
    summary = pruned(str(tmp_path / "x.tar"), tmp_path)
    assert (summary.removed, summary.unlisted, summary.rows) == (0, 1, 4)


def test_a_saved_data_set_that_lists_less_is_pruned(tmp_path: Path) -> None:
    def save(texts: list[str]) -> None:
        (tmp_path / "set").mkdir(exist_ok=True)
        table = pa.table({"text": texts})
        with pa.ipc.new_file(str(tmp_path / "set" / "data.arrow"), table.schema) as file:
            file.write_table(table)
        (tmp_path / "set" / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')

    save(["a", "b"])
    assert pruned(str(tmp_path / "set"), tmp_path).rows == 2
    save(["a"])
    summary = pruned(str(tmp_path / "set"), tmp_path)
    assert (summary.removed, summary.rows) == (1, 1)


def test_a_manifest_that_a_pattern_no_longer_finds_is_pruned_where_it_is_gone(sounds: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        sounds.pipe(f"sounds/lists/{name}.csv", f"text\n{name}\n".encode())
    source = "s3://sounds/lists/*.csv"
    assert pruned(source, tmp_path).rows == 2
    sounds.rm("sounds/lists/two.csv")
    assert pruned(source, tmp_path).removed == 1


def test_a_store_is_asked_with_the_credentials_that_were_typed_and_named_without() -> None:
    scope = PruneScope(resolve_sources(["https://me:secret@host/d", "zip://in::https://me:secret@host/a.zip"]))
    assert scope.url_of("https://host/d/sub/a.wav") == "https://me:secret@host/d/sub/a.wav"
    assert scope.url_of("zip://in/a.wav::https://host/a.zip") == "zip://in/a.wav::https://me:secret@host/a.zip"
    assert scope.url_of("https://host/other/a.wav") is None
    assert "secret" not in str(scope)
    pattern = Pattern("s3://key:se/cret@bucket/in/*.wav")
    assert pattern.matches("s3://bucket/in/a.wav")
    assert not pattern.matches("s3://bucket/in/sub/a.wav")


def test_a_name_in_a_ledger_that_no_source_leads_to_is_asked_for_nowhere(fragile: Any) -> None:
    """Whoever made the database chose it: a chain would be opened by protocols that only a user may type."""

    def proof(source: str, file: str) -> str | None:
        return PruneScope(resolve_sources([source])).proof_of_absence(
            LedgerEntry(file, False, file, "audio", file, file, ())
        )

    for source in ("fragile://sounds/ab", "fragile://sounds/ab/**"):
        assert proof(source, "fragile://sounds/ab/z.wav") == "fragile://sounds/ab/z.wav"
        for name in ("x::reference://y/a.wav", "../../z.wav", "x::simplecache::http://h/a.wav"):
            assert proof(source, f"fragile://sounds/ab/{name}") is None
        assert proof(source, "tar://a.wav::fragile://sounds/x.tar") is None
