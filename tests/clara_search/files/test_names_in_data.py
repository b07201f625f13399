"""Names in manifests, shards, tables and ledgers: what commands open for them, and what they refuse."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from clara_search.commands.db import verify_all as verify
from clara_search.commands.main import main
from clara_search.datasets.labelled import read_clips
from clara_search.datasets.readers import read_manifest
from clara_search.errors import FormatError
from clara_search.files.network import access
from clara_search.files.paths import is_remote, read_bytes, stat_file
from clara_search.store.database import Database
from indexer.ledger.failures import failures, stored_ledger
from indexer.pipeline import index
from tests.clara_search.files.conftest import SECRET, Server
from tests.helpers import ToneEncoder, write_tone


def manifests(folder: Path, name: str) -> list[Path]:
    """Manifests of each format that list good.wav and `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tone(folder / "good.wav", 440)
    names = [{"path": "good.wav"}, {"path": name}]
    (folder / "m.csv").write_text(f'path\ngood.wav\n"{name}"\n')
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in names))
    (folder / "url.jsonl").write_text("".join(json.dumps({"url": row["path"]}) + "\n" for row in names))
    pa.parquet.write_table(pa.Table.from_pylist(names), folder / "m.parquet")
    audio = [{"audio": {"bytes": None, **row}} for row in names]
    saved = folder / "saved"
    saved.mkdir(exist_ok=True)
    table = pa.Table.from_pylist([audio[1]])
    with pa.ipc.new_stream(saved / "data.arrow", table.schema) as stream:
        stream.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return [folder / "m.csv", folder / "m.jsonl", folder / "url.jsonl", folder / "m.parquet", saved]


@pytest.mark.slow
def test_rows_that_name_other_protocols_are_failures_and_the_others_are_indexed(
    reference: str, server: Server, tmp_path: Path
) -> None:
    for name in (reference, f"tar://a.wav::{reference}", reference.replace("reference:", "REFERENCE:")):
        for number, manifest in enumerate(manifests(tmp_path / "in", name)):
            database = Database(tmp_path / f"db{abs(hash(name))}-{number}", create=True)
            summary = index([manifest], database, ToneEncoder())
            good = 0 if manifest.is_dir() else 1
            assert (summary.indexed, summary.failed, summary.rows) == (good, 1, good)
            (failure,) = failures(database)
            assert "opened only where" in failure["reason"]
            assert SECRET not in failure["reason"]
    assert server.requests == []


def test_shards_cannot_say_where_their_recordings_lie(reference: str, server: Server, tmp_path: Path) -> None:
    metadata = json.dumps({"path": reference, "url": reference, "uri": reference, "text": "a"}).encode()
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        for name, content in (("a.json", metadata), ("a.wav", write_tone(tmp_path / "a.wav", 440).read_bytes())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
    database = Database(tmp_path / "db", create=True)
    assert index([tmp_path / "s.tar"], database, ToneEncoder()).indexed == 1
    assert server.requests == []


def table_naming(uris: list[str], database: Database, folder: Path) -> None:
    """Index a recording, and have the table call it `uris`."""
    for number in range(len(uris)):
        write_tone(folder / f"{number}.wav", 300)
    index([folder], database, ToneEncoder())
    table = database.table()
    rows = table.scan(table.schema.names)
    table.upsert(rows.set_column(rows.schema.get_field_index("uri"), rows.schema.field("uri"), pa.array(uris)))


def test_verify_opens_no_url_of_a_table_unasked_and_never_another_protocol(
    reference: str, server: Server, database: Database, tmp_path: Path
) -> None:
    write_tone(tmp_path / "served" / "x.wav", 300)
    allowed = [f"{server.url}/x.wav", f"tar://x.wav::{server.url}/x.tar"]
    table_naming([reference, "relative.wav", *allowed], database, tmp_path / "in")

    def sample(**options: Any) -> str:
        (result,) = (
            check for check in verify(database, "corpus", encoder=ToneEncoder(), **options) if check.check == "sample"
        )
        assert result.ok
        return result.detail

    said = sample()
    assert "0 of 4 rows embedded again" in said
    assert "2 at URLs not opened (`fetch` opens them)" in said
    assert "2 with URIs that a table may not name" in said
    assert server.requests == []
    assert "0 of 4 rows embedded again" in sample(fetch=True)  # this machine's own servers are private
    assert server.requests == []
    with access.allow(private=True):
        said = sample(fetch=True)
    assert "1 of 4 rows embedded again" in said
    assert "1 unreachable" in said
    assert {request.split()[1] for request in server.requests} == {"/x.wav", "/x.tar"}


def test_verify_does_not_wait_for_a_pipe_that_a_table_names(database: Database, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    table_naming([str(tmp_path / "pipe.wav")], database, tmp_path / "in")
    details = {one.check: one.detail for one in verify(database, "corpus", encoder=ToneEncoder())}
    assert "1 unreachable" in details["sample"]


def test_the_command_verify_fetches_only_where_it_is_told_to(
    server: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_search.store.verify.load_encoder", lambda *_, **__: ToneEncoder())
    write_tone(tmp_path / "served" / "x.wav", 300)
    table_naming([f"{server.url}/x.wav"], database, tmp_path / "in")
    arguments = ["db", "verify", "--db", str(database.path)]
    assert "1 at URLs not opened" in CliRunner().invoke(main, arguments).stdout
    assert server.requests == []
    assert "1 of 1 rows embedded again" in CliRunner().invoke(main, [*arguments, "--fetch", "--allow-private"]).stdout


def test_sources_that_a_ledger_names_pass_the_gate_and_the_others_are_tried_again(
    reference: str, server: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bad.wav").write_bytes(b"")
    index([tmp_path / "a", tmp_path / "b"], database, ToneEncoder())
    ledger = stored_ledger(database, "corpus")
    assert ledger is not None
    rows = ledger.scan(ledger.schema.names)
    hostile = f"{reference}/m.csv"
    sources = [hostile if source.endswith("/a") else source for source in rows["source"].to_pylist()]
    ledger.upsert(
        rows.set_column(rows.schema.get_field_index("source"), rows.schema.field("source"), pa.array(sources))
    )
    write_tone(tmp_path / "b" / "bad.wav", 440)

    arguments = ["index", "--retry-failed", "--db", str(database.path)]
    for more, code in ([], 0), (["--prune"], 1):  # at last nothing but what is refused
        result = CliRunner().invoke(main, [*arguments, *more])
        assert result.exit_code == code, result.output
        assert "1 failed" in result.stdout
        assert database.table().count() == 1
        reasons = {one["uri"]: one["reason"] for one in failures(database)}
        assert "opened only where it is typed" in reasons[f"{hostile}#L0"]
        assert str(tmp_path / "b" / "bad.wav") not in reasons
    assert server.requests == []


def test_a_fetched_manifest_names_no_files_of_this_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = write_tone(tmp_path / "secret.wav", 440)
    write_tone(tmp_path / "served" / "near.wav", 440)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served" / "m.csv").write_text(f"path,text\nnear.wav,a\n{secret},b\nfile://{secret},c\nsecret.wav,d\n")
    database = Database(tmp_path / "db", create=True)
    summary = index([f"{server.url}/m.csv"], database, ToneEncoder())
    assert (summary.indexed, summary.failed) == (1, 3)
    problems: list[FormatError] = []
    admitted = [f"{server.url}/near.wav", f"{server.url}/secret.wav"]
    assert [example.audio for example in read_manifest(f"{server.url}/m.csv", problems.append)] == admitted
    assert [clip.audio for clip in read_clips(f"{server.url}/m.csv", problems.append)] == admitted
    assert len(problems) == 4


def test_a_recording_in_a_shard_is_read_by_its_name(tmp_path: Path) -> None:
    content = write_tone(tmp_path / "a.wav", 440).read_bytes()
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        shard.add(tmp_path / "a.wav", "d/A.b.WAV")
        link = tarfile.TarInfo("d/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(link)
    uri = f"tar://d/A.b.wav::{tmp_path}/s.tar"
    assert read_bytes(uri) == content
    assert not is_remote(uri)
    assert is_remote("tar://a.wav::http://h/s.tar")
    assert stat_file(uri).size == (tmp_path / "s.tar").stat().st_size
    for gone in ("d/link.wav", "d/none.wav"):
        with pytest.raises(FileNotFoundError):
            read_bytes(f"tar://{gone}::{tmp_path}/s.tar")
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "tar://d/A.b.wav::s.tar"}) + "\n")
    assert index([tmp_path / "m.jsonl"], tmp_path / "db", ToneEncoder()).indexed == 1


def test_what_the_user_types_is_opened_by_any_protocol(tmp_path: Path) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/gate/in/a.wav", write_tone(tmp_path / "a.wav", 440).read_bytes())
    filesystem.pipe("/gate/b.wav", write_tone(tmp_path / "b.wav", 550).read_bytes())
    filesystem.pipe("/gate/m.csv", b"path\nb.wav\nmemory://gate/in/a.wav\n")
    try:
        summary = index(["memory://gate/in", "memory://gate/m.csv"], tmp_path / "db", ToneEncoder())
        assert (summary.indexed, summary.failed) == (2, 1)
    finally:
        filesystem.rm("/gate", recursive=True)


def test_a_broken_source_of_a_ledger_is_listed_and_the_others_are_tried_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())
    (tmp_path / "m.csv").write_text("path\nnone.wav\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "bad.wav").write_bytes(b"")
    index([tmp_path / "m.csv", tmp_path / "b"], database, ToneEncoder())
    (tmp_path / "m.csv").write_text("neither,nor\n1,2\n")
    write_tone(tmp_path / "b" / "bad.wav", 440)
    result = CliRunner().invoke(main, ["index", "--retry-failed", "--db", str(database.path)])
    assert result.exit_code == 0, result.output
    assert "1 indexed" in result.stdout
    reasons = {one["uri"]: one["reason"] for one in failures(database)}
    assert "has no column that names recordings or holds texts" in reasons[f"{tmp_path / 'm.csv'}#L0"]
