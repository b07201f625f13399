"""A database that somebody sent: whatever links it holds, nothing outside it is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import indexer
from clara_search.commands.db import verify_all as verify
from clara_search.commands.main import main
from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from indexer.ledger.failures import ledger_name, stored_ledger
from tests.helpers import ToneEncoder, write_tone

OWN = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database `db` (tables corpus and outside, each with ledger and index) and a recording."""
    home = tmp_path_factory.mktemp("template")
    write_tone(home / "sounds" / "a.wav", 200)
    for table in ("corpus", "outside"):
        indexer.index([home / "sounds"], home / "db", ToneEncoder(), table)
        ann.build(Database(home / "db").table(table))
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """A copy of the template beside `outside`, a folder of the user with files of many names."""
    home = tmp_path / "home"
    shutil.copytree(template, home)
    for name in ("notes.txt", "meta.json", f"{OWN}.index", "1.manifest", "2.manifest", "deep/letter.txt", "lock"):
        path = home / "outside" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"precious {name}")
    return home


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def replace_by_link(path: Path, target: str | Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)
    return path


LINKS: dict[str, tuple[str, str]] = {
    "an index is the folder": ("_ann/corpus", "../../outside"),
    "all indices lie outside": ("_ann", "../outside"),
    "all indices lie beside, where a table has the folder's name": ("_ann", ".."),
    "an absolute link": ("_ann/corpus", "{home}/outside"),
    "a link to a link": ("_ann/corpus", "../detour"),
    "the description of an index": ("_ann/corpus/meta.json", "../../../outside/meta.json"),
    "a file of an index": (f"_ann/corpus/{OWN}.index", f"../../../outside/{OWN}.index"),
    "a folder in an index": (f"_ann/corpus/{OWN}.tmp", "../../../outside"),
    "a table": ("corpus.lance", "../outside"),
    "the versions of a table": ("corpus.lance/_versions", "../../outside"),
    "a version of a table": ("corpus.lance/_versions/1.manifest", "../../../outside/1.manifest"),
    "the data of a table": ("corpus.lance/data", "../../outside"),
    "deletions of a table": ("corpus.lance/_deletions", "../../outside"),
    "a ledger": ("_ledger_corpus.lance", "../outside"),
    "the versions of a ledger": ("_ledger_corpus.lance/_versions", "../../outside"),
    "a lock": (".corpus.lock", "../outside/lock"),
    "the lock of an index": ("._ann_corpus.lock", "../outside/lock"),
    "the lock of commits": ("._commit_corpus.lock", "../outside/lock"),
    "the lock of a ledger": ("._ledger_corpus.lock", "../outside/lock"),
    "a lock that is not there yet": ("._commit_corpus.lock", "../outside/new"),
}


def cli(*arguments: str) -> None:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code:
        raise DatabaseError(result.output.splitlines()[-1])


def verified(home: Path) -> None:
    list(verify(Database(home / "db"), "corpus", repair=True, encoder=ToneEncoder()))


def searched(home: Path) -> None:
    Index(Database(home / "db").table(), encoder=ToneEncoder()).search("a tone")


def indexed(home: Path) -> None:
    write_tone(home / "sounds" / "b.wav", 900)
    indexer.index([home / "sounds"], home / "db", ToneEncoder())


def indexed_anew(home: Path) -> None:
    """With a ledger whose table is gone: `index` drops it."""
    corpus = home / "db" / "corpus.lance"
    if not corpus.is_symlink():
        shutil.rmtree(corpus)
    indexer.index([home / "sounds"], home / "db", ToneEncoder())


def deleted(home: Path) -> None:
    table = Database(home / "db").table()
    table.delete_ids(table.scan(["id"])["id"].to_pylist())


def imported(home: Path) -> None:
    indexer.export_embeddings(Database(home / "db"), home / "exported", "outside")
    folders = home / "exported" / "embeddings", home / "exported" / "metadata"
    indexer.import_embeddings(*folders, home / "db", ToneEncoder())


def db(home: Path, table: str = "corpus") -> list[str]:
    return ["--db", str(home / "db"), "--table", table]


COMMANDS: dict[str, Callable[[Path], object]] = {
    "ann build": lambda home: cli("ann", "build", *db(home)),
    "ann build outside": lambda home: cli("ann", "build", *db(home, "outside")),
    "ann drop": lambda home: cli("ann", "drop", *db(home)),
    "ann drop outside": lambda home: cli("ann", "drop", *db(home, "outside")),
    "ann status": lambda home: cli("ann", "status", *db(home)),
    "db info": lambda home: cli("db", "info", "--db", str(home / "db")),
    "db verify --repair": lambda home: cli("db", "verify", "--repair", "--db", str(home / "db")),
    "verify": verified,
    "search": searched,
    "index": indexed,
    "index anew": indexed_anew,
    "delete": deleted,
    "compact": lambda home: Database(home / "db").table().compact(0),
    "compact the ledger": lambda home: stored_ledger(Database(home / "db"), "corpus").compact(0),
    "export": lambda home: indexer.export_embeddings(Database(home / "db"), home / "exported"),
    "import": imported,
    "drop_table": lambda home: Database(home / "db").drop_table("corpus"),
    "drop the ledger": lambda home: Database(home / "db").drop_table(ledger_name("corpus")),
}


def refusing(path: str) -> set[str]:
    """The commands that cannot do without `path` of the database."""
    if path == "_ann":
        return {"ann build", "ann drop", "ann status", "search", "ann build outside", "ann drop outside", "verify"}
    if path.startswith("_ann/"):
        return {"ann build", "ann drop", "ann status", "verify"}
    if path.startswith("corpus.lance"):
        return set(COMMANDS) - {
            *("ann build outside", "ann drop outside", "import", "compact the ledger", "drop the ledger", "index anew")
        }
    if path.startswith("_ledger"):
        return {"index", "import", "verify", "db info", "compact the ledger", "drop the ledger", "db verify --repair"}
    return {".corpus.lock": {"delete", "compact", "drop_table"}, "._ann_corpus.lock": {"ann build", "ann drop"}}.get(
        path, {"index", "import"}
    )


@pytest.mark.slow  # hundreds of cases
@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("layout", LINKS)
def test_no_command_changes_anything_outside_the_database(home: Path, layout: str, command: str) -> None:
    name, target = LINKS[layout]
    (home / "detour").symlink_to("outside")
    link = replace_by_link(home / "db" / name, target.format(home=home))
    before = contents(home / "outside"), contents(home / "sounds")
    refusal = ""
    try:
        COMMANDS[command](home)
    except DatabaseError as error:
        refusal = str(error)
    assert "\n" not in refusal
    if command in refusing(name):
        assert f"{link}: is a link" in refusal
    (home / "sounds" / "b.wav").unlink(missing_ok=True)
    assert (contents(home / "outside"), contents(home / "sounds")) == before
    assert link.is_symlink() or command == "index anew"


PIPES = [".corpus.lock", "_ann", "_ann/corpus", "_ann/corpus/meta.json", f"_ann/corpus/{OWN}.index"]
PIPES += [f"corpus.lance/{name}" for name in ("_versions", "data/new.lance", "_versions/1.manifest")]
PIPES += ["_ledger_corpus.lance/data/new.lance"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", PIPES)
def test_no_command_waits_for_a_pipe(home: Path, name: str) -> None:
    pipe = replace_by_link(home / "db" / name, "nowhere")
    pipe.unlink()
    os.mkfifo(pipe)
    for command in sorted(refusing(name)):
        with pytest.raises(DatabaseError, match="is a pipe, a socket or a device") as caught:
            COMMANDS[command](home)
        assert str(caught.value).startswith((f"{pipe}: ", f"Error: {pipe}: "))


@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("root", ["db", "link"])
def test_an_ordinary_database_works_also_where_its_own_folder_is_a_link(home: Path, root: str, command: str) -> None:
    if root == "link":
        (home / "db").rename(home / "elsewhere")
        (home / "db").symlink_to("elsewhere")
    if command == "db verify --repair":  # the encoder of the tests is none that the command knows
        with pytest.raises(DatabaseError, match="is damaged"):
            COMMANDS[command](home)
    else:
        COMMANDS[command](home)


def test_files_that_no_index_wrote_stay_in_its_folder(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = Database(home / "db").table()
    folder = home / "db" / "_ann" / "corpus"
    (folder / "my" / "letters").mkdir(parents=True)
    for name in ("notes.txt", "my/letters/one.txt", "backup.index"):
        (folder / name).write_text("precious")
    (folder / f"{OWN}.arrow").write_text("left by a process that was killed")
    ann.build(table)
    assert not (folder / f"{OWN}.arrow").exists()
    assert "backup.index and 2 others were not written by clara-search" in caplog.text
    assert ann.drop(table)
    assert ann.status(table) is None
    assert sorted(contents(folder)) == ["backup.index", "my", "my/letters", "my/letters/one.txt", "notes.txt"]
    ann.build(table)
    assert ann.status(table).num_indexed_rows == 1


@pytest.mark.parametrize("name", [f"../../../outside/{OWN}.index", f"{{home}}/outside/{OWN}.index", "notes.index"])
def test_an_index_reads_no_file_of_another_name(home: Path, name: str) -> None:
    meta = home / "db" / "_ann" / "corpus" / "meta.json"
    own = next(meta.parent.glob("*.index")).name
    meta.write_text(meta.read_text().replace(own, name.format(home=home)))
    with pytest.raises(DatabaseError, match=r"broken meta\.json"):
        ann.load(Database(home / "db").table())


def test_a_hard_link_to_a_file_is_not_locked(home: Path) -> None:
    lock = home / "db" / ".corpus.lock"
    lock.unlink()
    os.link(home / "outside" / "notes.txt", lock)
    with pytest.raises(DatabaseError, match=r"\.corpus\.lock: is no lock file"):
        deleted(home)
    assert (home / "outside" / "notes.txt").read_text() == "precious notes.txt"


@pytest.mark.parametrize("name", ["../outside", "a/../../outside/x"])
def test_no_name_of_a_table_leads_out_of_the_database(home: Path, name: str) -> None:
    before = contents(home / "outside")
    (home / "outside.lance" / "_versions").mkdir(parents=True)
    for number in (1, 2):
        (home / "outside.lance" / "_versions" / f"{number}.manifest").write_text("no manifest")
    database = Database(home / "db")
    for use in (lambda: list(verify(database, name, repair=True)), lambda: database.drop_table(name)):
        with pytest.raises(DatabaseError):
            use()
    assert contents(home / "outside") == before
    assert len(list((home / "outside.lance" / "_versions").glob("*.manifest"))) == 2


def test_an_export_touches_nothing_beside_its_folder(home: Path) -> None:
    for name in ("out.partial", ".out-partial"):
        (home / name).mkdir()
        (home / name / "notes.txt").write_text("precious")
    (home / "linked.partial").symlink_to("outside")
    before = contents(home)
    assert indexer.export_embeddings(Database(home / "db"), home / "out") == 1
    assert indexer.export_embeddings(Database(home / "db"), home / "linked") == 1
    after = contents(home)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"out", "linked"}


def test_an_export_that_fails_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(home).keys()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("indexer.import_export.parquet.write_table", full)
    with pytest.raises(indexer.import_export.OutputError, match="No space left"):
        indexer.export_embeddings(Database(home / "db"), home / "out")
    assert contents(home).keys() == before
