"""Versions of tables in stores that cannot run here, behind stand-ins of their clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from clara_search.errors import DatabaseError
from clara_search.store.database import Database
from clara_search.store.versions import check_versions
from tests.clara_search.hostile.files import with_base_path


class _Store(MemoryFileSystem):
    """A store of this process under the protocols of others."""

    protocol = ("gs", "az")
    store: dict[str, object] = {}  # noqa: RUF012 - as the class above has it
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        protocol, colon, rest = path.partition("://")
        return f"/{rest}".rstrip("/") if colon else protocol


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Store]:
    for name in _Store.protocol:
        monkeypatch.setitem(_registry, name, _Store)
    yield _Store()
    _Store.store.clear()


@pytest.fixture
def version(tmp_path: Path) -> bytes:
    """A version of a table."""
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)])
    Database(tmp_path / "db", create=True).create_keyed_table("corpus", schema, "id")
    return min((tmp_path / "db" / "corpus.lance" / "_versions").glob("*.manifest")).read_bytes()


@pytest.mark.parametrize("protocol", ["gs", "az"])
def test_versions_that_name_files_elsewhere_are_refused_in_any_store(
    store: _Store, version: bytes, protocol: str
) -> None:
    folder = f"{protocol}://bucket/db/corpus.lance"
    check_versions(folder)  # no table yet
    for number in range(40):
        store.pipe(f"/bucket/db/corpus.lance/_versions/{number}.manifest", version + bytes(number) + version)
    check_versions(folder)
    store.pipe("/bucket/db/corpus.lance/_versions/17.manifest", with_base_path(version, "az://others/secret"))
    with pytest.raises(DatabaseError, match=rf"^{folder}/_versions/17\.manifest: lets the table read files outside"):
        check_versions(folder)


def test_a_version_of_a_table_whose_commits_a_database_keeps_is_found_under_its_staging_name(
    store: _Store, version: bytes
) -> None:
    store.pipe("/bucket/corpus.lance/_versions/1.manifest-3f2a", with_base_path(version, "/"))
    with pytest.raises(DatabaseError, match="outside of its folder"):
        check_versions("gs+ddb://bucket/corpus.lance?ddbTableName=a")


def test_a_table_in_a_store_without_a_client_is_not_opened() -> None:
    with pytest.raises(DatabaseError, match=r"its versions cannot be checked before it is opened: .*[Ii]nstall"):
        check_versions("oss://bucket/corpus.lance")
