"""The files of an ANN index: `meta.json`, the FAISS index and the rows it covers, all checked before they are used.

A checksum tells what was damaged, not what was forged: whoever made the database wrote the checksums too.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa

from clara_search.config import Between, check_bounds, from_mapping
from clara_search.errors import DatabaseError, FormatError
from clara_search.files import confined
from clara_search.retrieval.ann.faiss_engine import read_index, write_index
from clara_search.retrieval.snapshot import ROW_ID, UPDATED_AT
from clara_search.store.table import Table

Kind = Literal["flat", "ivf"]

FORMAT_VERSION = 1
META_FILE = "meta.json"
MOST_META_BYTES = 1 << 16
OWN_FILE = re.compile(r"meta\.json|[0-9a-f]{32}\.(faiss|arrow|tmp)")
"""The names that an index gives to files."""
ROW_COLUMNS = (ROW_ID, UPDATED_AT, "id", "content_hash")
"""What an index remembers of a row."""

_INDEX_FILE, _ROWS_FILE = re.compile(r"[0-9a-f]{32}\.faiss"), re.compile(r"[0-9a-f]{32}\.arrow")


@dataclass(frozen=True)
class AnnMeta:
    """What an index is: `recall` is recall@10 against exact search, measured with rows of kind `measured_with`."""

    format_version: int
    kind: Kind
    fingerprint: str
    table_version: int
    rows: Annotated[int, Between(1, 1 << 40)]
    lists: int
    nprobe: int
    target_recall: Annotated[float, Between(0, 1)]
    recall: Annotated[float, Between(0, 1)]
    measured_with: str
    measured_queries: int
    checksums: dict[str, str]
    """Sha256 of each file, by name: FAISS itself loads a damaged file without a word."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if not (1 <= self.nprobe <= self.lists <= self.rows if self.kind == "ivf" else self.lists == self.nprobe == 0):
            raise ValueError(f"{self.lists} lists and nprobe {self.nprobe} are none of {self.kind}")
        names = "\n".join(sorted(self.checksums, key=lambda name: name.endswith(".arrow")))
        if not re.fullmatch(f"{_INDEX_FILE.pattern}\n{_ROWS_FILE.pattern}", names):
            raise ValueError("checksums are of files that no index writes")


def folder_of(table: Table) -> Path:
    """Return where the index of `table` lies, whether there is one or not."""
    return table.connection.path / "_ann" / table.name


def meta_path(table: Table) -> Path:
    """Return the file that says what the index of `table` is: while it is there, there is an index."""
    return folder_of(table) / META_FILE


def write_files(folder: Path, index: Any, rows: pa.Table) -> dict[str, str]:
    """Write a FAISS index and its rows under new names to `folder`, and return their checksums by name."""
    name = uuid.uuid4().hex
    index_path, rows_path = folder / f"{name}.faiss", folder / f"{name}.arrow"
    write_index(index, index_path)
    with pa.ipc.new_file(rows_path, rows.schema) as writer:
        writer.write_table(rows)
    return {path.name: _sha256(path) for path in (index_path, rows_path)}


def read_files(table: Table, meta_json: bytes) -> tuple[AnnMeta, Any, pa.Table]:
    """Return what the index of `table` is, the FAISS index and the rows it covers.

    Raises:
        DatabaseError: A file is missing, damaged, or not what `build` writes for this table.
    """
    remedy = "run `clara-search ann build` or `clara-search ann drop`"
    try:
        values = json.loads(meta_json)
        if not isinstance(values, dict):
            raise FormatError("it is no table of settings")
        if (version := values.get("format_version", FORMAT_VERSION)) != FORMAT_VERSION:
            raise DatabaseError(f"the ANN index of table '{table.name}' has format {version!r}; {remedy}")
        meta = from_mapping(AnnMeta, values, META_FILE)
    except (ValueError, RecursionError, FormatError) as error:
        message = f"the ANN index of table '{table.name}' has a broken {META_FILE} ({error}); {remedy}"
        raise DatabaseError(message) from error
    if meta.fingerprint != table.info.fingerprint:
        raise DatabaseError(f"the ANN index of table '{table.name}' was built with another encoder; {remedy}")
    folder = confined.check_tree(table.connection.path, folder_of(table))
    try:
        for name, checksum in meta.checksums.items():
            if _sha256(folder / name) != checksum:
                raise FormatError(f"{folder / name} is damaged")
        rows_path, index_path = sorted((folder / name for name in meta.checksums), key=lambda path: path.suffix)
        rows = _read_rows(rows_path, meta.rows)
        return meta, read_index(index_path, table.info.dim, meta.rows, meta.lists), rows
    except FileNotFoundError as error:
        raise DatabaseError(
            f"the ANN index of table '{table.name}' cannot be used, {error.filename} is missing; {remedy}"
        ) from error
    except (FormatError, OSError) as error:
        raise DatabaseError(f"the ANN index of table '{table.name}' cannot be used, {error}; {remedy}") from error


def _read_rows(path: Path, count: int) -> pa.Table:
    """Return the rows of an index. Raises FormatError for others than `count` rows of ROW_COLUMNS."""
    try:
        with pa.ipc.open_file(path) as reader:
            rows = reader.read_all()
        rows.validate(full=True)  # pyarrow itself believes whatever offsets a file gives its texts
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read ({' '.join(str(error).split())})") from error
    fits = [pa.types.is_integer, pa.types.is_integer, pa.types.is_string, pa.types.is_string]
    is_sound = (
        tuple(rows.schema.names) == ROW_COLUMNS
        and len(rows) == count
        and all(fit(column.type) and not column.null_count for fit, column in zip(fits, rows.columns, strict=True))
    )
    if not is_sound:
        raise FormatError(f"{path} does not hold the {count} rows of an index")
    return rows.combine_chunks()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
