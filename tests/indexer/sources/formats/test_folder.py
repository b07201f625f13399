"""Folders, URLs and patterns: what they list is the same in every store, and so is what cannot be listed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.errors import SourceError
from clara_search.files.listing import list_folder
from clara_search.store.database import Database
from indexer.pipeline import index
from indexer.sources.base import Selection
from indexer.sources.formats import folder
from indexer.sources.listing import list_items
from tests.helpers import ToneEncoder, write_tone
from tests.stores import FORBIDDEN, UNAVAILABLE, Answer, Fragile, Proxy


def test_one_listing_function_has_one_contract_for_every_store(fragile: Any, tmp_path: Path) -> None:
    for name in (".hidden.wav", ".git/x.wav", "notes.txt", "skip/y.wav"):
        fragile.pipe(f"/sounds/ab/{name}", b"x")
        (tmp_path / "in" / "ab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "ab" / name).write_bytes(b"x")

    def listed(source: str, root: str) -> list[str]:
        return [item.uri.removeprefix(root) for item in list_items([source], Selection(ignore=("skip",)))]

    here, there = str(tmp_path / "in"), "fragile://sounds"
    for pattern in ("/ab", "/ab/**/*.wav", "/ab/*/?.wav", "/*/one", "/ab/o*/**"):
        items = listed(f"{here}{pattern}", here)
        assert items == listed(f"{there}{pattern}", there)
        assert items
    assert listed(f"{here}/ab", here) == ["/ab/a.wav", "/ab/one/b.wav", "/ab/one/c.wav", "/ab/two/d.wav"]
    assert [entry.name for entry in list_folder("fragile://sounds/ab/one")] == ["b.wav", "c.wav"]


def test_a_link_that_leads_back_up_is_followed_once_by_a_pattern(tmp_path: Path) -> None:
    write_tone(tmp_path / "in" / "sub" / "a.wav", duration_s=0.3)
    (tmp_path / "in" / "sub" / "up").symlink_to(tmp_path / "in")
    write_tone(tmp_path / "in" / "b.wav", duration_s=0.3)
    items = list_items([f"{tmp_path}/in/**/*.wav"])
    assert [Path(item.uri).relative_to(tmp_path / "in").as_posix() for item in items] == ["b.wav", "sub/a.wav"]


def test_a_store_that_fails_for_folder_after_folder_ends_the_listing(
    fragile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_MAX_FAILURES", 2)
    for name in ("one", "two"):
        Fragile.failing[f"/sounds/ab/{name}"] = PermissionError("no longer")
    with pytest.raises(SourceError, match=r"fragile://sounds/ab/two: cannot be listed \(no longer\)"):
        list(list_items(["fragile://sounds/ab"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "rule", "message"),
    [
        ("s3://nowhere/ab", None, "s3://nowhere/ab: cannot be listed .*bucket does not exist"),
        ("s3://nowhere/*.wav", None, "s3://nowhere: cannot be listed .*bucket does not exist"),
        ("s3://sounds/zz", None, "s3://sounds/zz: cannot be listed .*no such folder"),
        ("s3://sounds/zz/*.wav", None, "s3://sounds/zz: cannot be listed .*no such folder"),
        ("s3://sounds/ab", UNAVAILABLE, "s3://sounds/ab: cannot be listed .*Please try later"),
        ("s3://sounds/ab/*.wav", UNAVAILABLE, "s3://sounds/ab: cannot be listed .*Please try later"),
        ("s3://sounds/ab", FORBIDDEN, "s3://sounds/ab: cannot be listed .*Access Denied"),
        ("s3://sounds/t.tar", FORBIDDEN, "s3://sounds/t.tar: cannot be read .*Forbidden"),
        ("s3://sounds/ab", (200, b"not a listing"), "s3://sounds/ab: cannot be listed"),
    ],
)
def test_a_store_that_cannot_be_listed_at_all_is_one_line_that_names_it(
    sounds: Any, proxy: Proxy, tmp_path: Path, source: str, rule: Answer | None, message: str
) -> None:
    index(["s3://sounds/ab"], tmp_path / "db", ToneEncoder())
    proxy.rule = lambda method, path: rule
    with pytest.raises(SourceError, match=message) as caught:
        index([source], tmp_path / "db", ToneEncoder(), prune=True)
    assert "\n" not in str(caught.value)
    assert Database(tmp_path / "db").table().count() == 4


@pytest.mark.slow
@pytest.mark.parametrize("source", ["s3://sounds/ab", "s3://sounds/ab/*.wav", "s3://sounds/t.csv", "s3://sounds/t.tar"])
@pytest.mark.parametrize("missing", ["credentials", "endpoint"])
def test_without_credentials_or_an_endpoint_the_error_is_one_line(
    sounds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, missing: str
) -> None:
    if missing == "credentials":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    result = CliRunner().invoke(main, ["index", source, "--db", str(tmp_path / "db"), "--prune"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: s3://sounds/")


def test_a_store_that_fails_now_and_then_is_asked_again(sounds: Any, proxy: Proxy, tmp_path: Path) -> None:
    count = itertools.count()
    proxy.rule = lambda method, path: UNAVAILABLE if next(count) % 3 == 0 else None
    summary = index(["s3://sounds/ab"], tmp_path / "db", ToneEncoder())
    assert (summary.indexed, summary.failed, summary.unlisted) == (4, 0, 0)
