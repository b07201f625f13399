"""Makers of hostile Parquet and Arrow files: kilobytes that ask for gigabytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20
BATCH = "bytes in memory of a batch of a Parquet or Arrow file, where"
ROW = "bytes of a row of a manifest|more than 16,777,216"


def arrow(path: Path, column: pa.Array, rows: int = 0, compression: str | None = "zstd") -> Path:
    """Write an Arrow file with a column of names and another one."""
    names = pa.array(["a.wav"] * (rows or len(column)))
    batch = pa.record_batch([names, column], ["path", "x"])
    with pa.ipc.new_file(path, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(batch)
    return path


def saved(folder: Path, column: pa.Array) -> Path:
    """Write a folder as `save_to_disk` does."""
    folder.mkdir()
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    arrow(folder / "data.arrow", column)
    return folder


def parquet(path: Path, column: pa.Array, **options: object) -> Path:
    """Write a Parquet file with a column of names and another one."""
    table = pa.table({"path": ["a.wav"] * len(column), "x": column})
    pq.write_table(
        table, path, compression="zstd", write_statistics=False, dictionary_pagesize_limit=1 << 30, **options
    )
    return path


def zeros(size: int) -> pa.Array:
    """Return a text of zero bytes, which compresses to nothing."""
    return pa.array(["\0" * size])


def same_text(rows: int, size: int) -> pa.Array:
    """Return a column of one long text, again and again."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), zeros(size))


def same_words(words: int, size: int) -> pa.Array:
    """Return one list of one long text, again and again."""
    return pa.ListArray.from_arrays(pa.array([0, words], pa.int32()), same_text(words, size))


def nulls_in_a_list(count: int) -> pa.Array:
    """Return one list of nulls, which take no bytes."""
    return pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.Array.from_buffers(pa.null(), count, [None]))


def views(rows: int, size: int) -> pa.Array:
    """Return texts that are all the same part of one buffer."""
    view = struct.pack("<i4sii", size, bytes(4), 0, 0)
    buffers = [None, pa.py_buffer(view * rows), pa.py_buffer(bytes(size))]
    return pa.Array.from_buffers(pa.string_view(), rows, buffers)


def text_without_end(path: Path) -> Path:
    """Write an Arrow file with a text that ends long after its buffer."""
    arrow(path, pa.array(["x" * 1001]), compression=None)
    content = path.read_bytes()
    before, names, body = content.partition(b"a.wav")
    end = struct.pack("<ii", 0, 1001)
    assert names
    assert end in body
    path.write_bytes(before + names + body.replace(end, struct.pack("<ii", 0, 1 << 30), 1))
    return path


def nulls(path: Path) -> Path:
    """Write an Arrow file of two billion rows that take nothing."""
    batch = pa.RecordBatch.from_arrays([pa.Array.from_buffers(pa.null(), (1 << 31) - 1, [None])], ["path"])
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def lying_page(path: Path) -> Path:
    """Write a Parquet file whose footer is honest, and one of whose pages declares two gigabytes."""
    parquet(path, pa.array(["x" * 100]), use_dictionary=False)
    content = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
    declared = bytes.fromhex("15feffffff0f")  # in place of the statistics, as Thrift's compact protocol has them
    assert content[offset : offset + 3] == b"\x15\x00\x15"
    end = offset + 3
    while content[end] & 0x80:
        end += 1
    path.write_bytes(content[: offset + 2] + declared + content[end + 1 : -1] + content[-1:])
    return path


CASES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "a compressed batch": (BATCH, lambda tmp: arrow(tmp / "a.arrow", zeros(300 * MIB))),
    "a compressed batch of Feather": (BATCH, lambda tmp: arrow(tmp / "a.feather", zeros(300 * MIB))),
    "a compressed batch of a saved data set": (BATCH, lambda tmp: saved(tmp / "d", zeros(300 * MIB))),
    "a compressed dictionary": (BATCH, lambda tmp: arrow(tmp / "a.arrow", same_text(9, 300 * MIB))),
    "a text again and again": (ROW, lambda tmp: arrow(tmp / "a.arrow", same_text(1024, 20 * MIB))),
    "a list of one text": (ROW, lambda tmp: arrow(tmp / "a.arrow", same_words(10_000, MIB))),
    "a list of nulls": (ROW, lambda tmp: arrow(tmp / "a.arrow", nulls_in_a_list(1 << 30))),
    "views of one text": (ROW, lambda tmp: arrow(tmp / "a.arrow", views(1024, 20 * MIB))),
    "a text without end in Arrow": ("not a readable Arrow", lambda tmp: text_without_end(tmp / "a.arrow")),
    "two billion rows": ("declares 2,147,483,647 rows", lambda tmp: nulls(tmp / "a.arrow")),
    "a page of Parquet": (BATCH, lambda tmp: parquet(tmp / "a.parquet", zeros(300 * MIB), use_dictionary=False)),
    "a page that its footer does not declare": (BATCH, lambda tmp: lying_page(tmp / "a.parquet")),
    "a dictionary of Parquet": (BATCH, lambda tmp: parquet(tmp / "a.parquet", zeros(300 * MIB))),
    "a text of a dictionary again and again": (ROW, lambda tmp: parquet(tmp / "a.parquet", same_text(1024, 20 * MIB))),
    "a list of one text in Parquet": (ROW, lambda tmp: parquet(tmp / "a.parquet", same_words(400, 900_000))),
    "a list of nulls in Parquet": (BATCH, lambda tmp: parquet(tmp / "a.parquet", nulls_in_a_list(40_000_000))),
}
"""By name: what a command says of the file, and what makes it in a folder."""
