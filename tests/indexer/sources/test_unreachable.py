"""Stores that are not there, that want keys, or that fail at times: one line that names them, and no row is lost."""

from __future__ import annotations

import socket
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.store.database import Database
from indexer.pipeline import index
from tests.helpers import ToneEncoder
from tests.stores import UNAVAILABLE, Answer, Proxy

SOURCES = ("s3://{}/ab", "s3://{}/ab/**", "s3://{}/ab/a.wav")


@pytest.fixture(autouse=True)
def tone_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())


def error_of(source: str, tmp_path: Path) -> str:
    """Index with --prune over rows of the same store, which stay; return the error."""
    database = tmp_path / "db"
    rows = Database(database).table().count() if database.exists() else None
    arguments = ["index", source, "--db", str(database), "--prune", "--strict"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert rows is None or Database(database).table().count() == rows
    return result.stderr


@pytest.mark.parametrize("source", SOURCES)
def test_a_bucket_that_is_not_there_is_named(sounds: Any, tmp_path: Path, source: str) -> None:
    index([SOURCES[0].format("sounds")], tmp_path / "db", ToneEncoder())
    assert "nobucket" in error_of(source.format("nobucket"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_store_without_keys_or_without_an_answer_is_one_line(
    sounds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    index([SOURCES[0].format("sounds")], tmp_path / "db", ToneEncoder())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    fsspec.filesystem("s3").clear_instance_cache()
    assert source.format("sounds").removesuffix("/**") in error_of(source.format("sounds"), tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    fsspec.filesystem("s3").clear_instance_cache()
    assert "credentials" in error_of(source.format("sounds"), tmp_path).lower()


@pytest.mark.slow
@pytest.mark.parametrize("period", [2, 3, 10])
def test_a_store_that_fails_at_times_loses_no_row_and_the_next_run_has_all(
    sounds: Any, proxy: Proxy, tmp_path: Path, period: int
) -> None:
    source, ordinal = "s3://sounds/ab", count(1)
    proxy.rule = lambda method, path: UNAVAILABLE if next(ordinal) % period == 0 else None
    arguments = ["index", source, "--db", str(tmp_path / "db"), "--prune", "--retry-failed"]
    seen = [0]
    for _ in range(30):
        result = CliRunner().invoke(main, arguments)
        assert "Traceback" not in result.output
        if (tmp_path / "db").exists() and Database(tmp_path / "db").table_names():
            seen.append(Database(tmp_path / "db").table().count())
        if seen[-1] == 4:
            break
    assert seen == sorted(seen)
    assert seen[-1] == 4
    for _ in range(5):
        CliRunner().invoke(main, arguments)
        assert Database(tmp_path / "db").table().count() == 4


@pytest.mark.parametrize("body", [b"", b"RIFF", b"<html>sign in</html>"], ids=["empty", "cut", "page"])
def test_a_store_that_answers_with_another_body_costs_that_recording_alone(
    sounds: Any, proxy: Proxy, tmp_path: Path, body: bytes
) -> None:
    answer: Answer = (200, body)
    proxy.rule = lambda method, path: answer if method == "GET" and path.startswith("/sounds/ab/a.wav") else None
    summary = index(["s3://sounds/ab"], tmp_path / "db", ToneEncoder(), prune=True)
    assert (summary.indexed, summary.failed, summary.rows) == (3, 1, 3)
    proxy.rule = lambda method, path: None
    again = index(["s3://sounds/ab"], tmp_path / "db", ToneEncoder(), prune=True, retry_failed=True)
    assert (again.indexed, again.unchanged, again.failed, again.rows) == (1, 3, 0, 4)
