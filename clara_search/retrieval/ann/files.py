"""The files of an ANN index: `meta.json`, the backend's file and the rows it covers, all checked before they are used.

A checksum shows damage, not forgery: whoever made the database wrote the checksums too.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import pyarrow as pa

from clara_search.config import Between, check_bounds, from_file
from clara_search.errors import DatabaseError, FormatError
from clara_search.files import confined
from clara_search.files.arrow_bodies import open_batches
from clara_search.files.json_reader import parse_object
from clara_search.retrieval.ann.base import AnnBackend
from clara_search.retrieval.ann.registry import BACKENDS, load_backend
from clara_search.retrieval.ann.tuning import Direction, Tuning
from clara_search.retrieval.snapshot import UPDATED_AT
from clara_search.store.table import ROW_ID, Table

FORMAT_VERSION = 2
META_FILE = "meta.json"
MAX_META_BYTES = 1 << 16
MAX_K = 10_000
OWN_FILE = re.compile(r"meta\.json|[0-9a-f]{32}\.(index|arrow|tmp)")
"""The names that an index gives to files."""
ROW_COLUMNS = (ROW_ID, UPDATED_AT, "id", "content_hash")
"""The columns that an index keeps of each row: they tell whether the row is still the one that was indexed."""

_INDEX_FILE, _ROWS_FILE = re.compile(r"[0-9a-f]{32}\.index"), re.compile(r"[0-9a-f]{32}\.arrow")
_REMEDY = "run `clara-search ann build` or `clara-search ann drop`"


@dataclass(frozen=True)
class AnnMeta:
    """The description of an index, as `meta.json` holds it.

    Attributes:
        format_version: Version of the format of the index's files.
        backend: Name of the backend.
        params: The backend's parameters of the build.
        fingerprint: The encoder that embedded the rows.
        table_version: Version of the table that was indexed.
        num_rows: Number of vectors in the index.
        k: Number of hits that recall counts.
        target_recall: The recall that efforts were tuned to.
        tuning: The effort for each kind of query, "text" and "audio", and its recall; one of them may be missing.
        checksums: Sha256 of each file, by name: FAISS loads a damaged file without an error.
    """

    format_version: int
    backend: str
    params: dict[str, int]
    fingerprint: str
    table_version: int
    num_rows: Annotated[int, Between(1, 1 << 40)]
    k: Annotated[int, Between(1, MAX_K)]
    target_recall: Annotated[float, Between(0, 1)]
    tuning: dict[str, Tuning]
    checksums: dict[str, str]

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.backend not in BACKENDS:
            raise ValueError(f"no ANN backend {self.backend!r}: choose from {', '.join(BACKENDS)}")
        names = "\n".join(sorted(self.checksums, key=lambda name: name.endswith(".arrow")))
        if not re.fullmatch(f"{_INDEX_FILE.pattern}\n{_ROWS_FILE.pattern}", names):
            raise ValueError("checksums are of files that no index writes")
        if not self.tuning or not set(self.tuning) <= set(get_args(Direction)):
            raise ValueError("tuning is of kinds of queries that there are not")

    def effort(self, direction: str | None) -> int:
        """Return the search effort for queries made of `direction`; for any other kind the largest effort."""
        tuned = self.tuning.get(direction) if direction is not None else None
        return tuned.effort if tuned else max(tuning.effort for tuning in self.tuning.values())


def index_folder(table: Table) -> Path:
    """Return the folder of the index of `table`, which need not exist."""
    return table.connection.path / "_ann" / table.name


def meta_path(table: Table) -> Path:
    """Return the path of the description of the index of `table`: the table has an index while the file exists."""
    return index_folder(table) / META_FILE


def write_files(table: Table, folder: Path, backend: AnnBackend, rows: pa.Table) -> dict[str, str]:
    """Write an index and its rows under new names.

    Args:
        table: The table, for errors.
        folder: The folder of the index.
        backend: The index.
        rows: The indexed rows in the order of their vectors, with ROW_COLUMNS.

    Returns:
        The sha256 of each file, by name.

    Raises:
        DatabaseError: They cannot be written; none of them is left then.
    """
    name = uuid.uuid4().hex
    paths = index_path, rows_path = folder / f"{name}.index", folder / f"{name}.arrow"
    try:
        backend.save(index_path)
        with pa.ipc.new_file(rows_path, rows.schema) as writer:
            writer.write_table(rows)
        return {path.name: _sha256(path) for path in paths}
    except (OSError, RuntimeError, pa.ArrowException) as error:  # FAISS knows RuntimeError alone
        for path in paths:
            path.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rpartition("failed: ")[2]
        raise DatabaseError(f"the ANN index of table '{table.name}' cannot be written ({reason})") from error


def read_files(table: Table, meta_json: bytes) -> tuple[AnnMeta, AnnBackend, pa.Table]:
    """Read the index of a table.

    Args:
        table: The table.
        meta_json: Content of its `meta.json`.

    Returns:
        The description, the index and the rows that it covers, in the order of its vectors.

    Raises:
        DatabaseError: A file is missing, damaged, or not what `build` writes for this table.
    """
    meta = _parse_meta(table, meta_json)
    if meta.fingerprint != table.info.fingerprint:
        raise DatabaseError(f"the ANN index of table '{table.name}' was built with another encoder; {_REMEDY}")
    folder = confined.check_tree(table.connection.path, index_folder(table))
    try:
        for name, checksum in meta.checksums.items():
            if _sha256(folder / name) != checksum:
                raise FormatError(f"{folder / name} is damaged")
        rows_path, index_path = sorted((folder / name for name in meta.checksums), key=lambda path: path.suffix)
        rows = _read_rows(rows_path, meta.num_rows)
        backend = load_backend(meta.backend).load(index_path, table.info.dim, meta.num_rows, meta.params)
        for tuning in meta.tuning.values():
            if tuning.effort not in backend.efforts:
                raise FormatError(f"{META_FILE} has effort {tuning.effort}, which backend '{meta.backend}' has not")
        return meta, backend, rows
    except FileNotFoundError as error:
        raise DatabaseError(
            f"the ANN index of table '{table.name}' cannot be used, {error.filename} is missing; {_REMEDY}"
        ) from error
    except (FormatError, OSError) as error:
        raise DatabaseError(f"the ANN index of table '{table.name}' cannot be used, {error}; {_REMEDY}") from error


def _parse_meta(table: Table, meta_json: bytes) -> AnnMeta:
    """Return the description of an index. Raises DatabaseError where it is broken or of another version."""
    try:
        values = parse_object(meta_json, META_FILE)
        if (version := values.get("format_version", FORMAT_VERSION)) != FORMAT_VERSION:
            raise DatabaseError(f"the ANN index of table '{table.name}' has format {version!r}; {_REMEDY}")
        return from_file(AnnMeta, values, META_FILE)
    except FormatError as error:
        message = f"the ANN index of table '{table.name}' has a broken {META_FILE} ({error}); {_REMEDY}"
        raise DatabaseError(message) from error


def _read_rows(path: Path, num_rows: int) -> pa.Table:
    """Return the rows of an index. Raises FormatError for others than `num_rows` rows of ROW_COLUMNS."""
    try:
        with pa.memory_map(str(path)) as file:
            rows = open_batches(file, path, file.size()).read_all()
        rows.validate(full=True)  # pyarrow itself believes whatever offsets a file gives its texts
    except FileNotFoundError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise FormatError(f"{path} cannot be read ({' '.join(str(error).split())})") from error
    type_checks = [pa.types.is_integer, pa.types.is_integer, pa.types.is_string, pa.types.is_string]
    is_sound = (
        tuple(rows.schema.names) == ROW_COLUMNS
        and len(rows) == num_rows
        and all(
            check(column.type) and not column.null_count
            for check, column in zip(type_checks, rows.columns, strict=True)
        )
    )
    if not is_sound:
        raise FormatError(f"{path} does not hold the {num_rows} rows of an index")
    return rows.combine_chunks()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
