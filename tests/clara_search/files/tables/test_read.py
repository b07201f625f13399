"""Tables: the same rows from every format, from a path and from a URL, and one bad line costs one line."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clara_search.errors import ClaraError, FormatError, SourceError
from clara_search.files.paths import Unreachable
from clara_search.files.tables import MANIFEST_SUFFIXES, read_table

ROWS: list[dict[str, Any]] = [{"path": "a.wav", "text": "one, two"}, {"path": None, "text": "zwölf"}]
JSON_LINES = '{"path": "a.wav", "text": "one, two"}\n\n{"path": null, "text": "zwölf"}\n'


def write_table(path: Path) -> Path:
    """Write ROWS in the format of the suffix."""
    table = pa.Table.from_pylist(ROWS)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    elif path.suffix == ".feather":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=1)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text(JSON_LINES, encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        quote = '"' if comma == "," else ""
        lines = [f"path{comma} text ", f"a.wav{comma} {quote}one, two{quote}", f"{comma} zwölf"]
        path.write_text("\ufeff" + "\n".join(lines).replace(f" {quote}o", f"{quote}o") + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [*MANIFEST_SUFFIXES, ".CSV"])
def test_all_formats_give_the_same_rows(suffix: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / f"m{suffix}")
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe(f"/tables/m{suffix}", path.read_bytes())
    try:
        for source in (str(path), f"memory://tables/m{suffix}"):
            assert [dict(row.values) for row in read_table(source)] == ROWS
    finally:
        filesystem.rm("/tables", recursive=True)


@pytest.mark.parametrize(
    ("name", "content", "lines", "errors"),
    [
        ("m.csv", b"path,text\na,1\nb\nc,3\n", [2, 4], ["m.csv, line 3: 1 cells, but 2 columns"]),
        ("m.csv", b'path,text\n"a\n1",1\nb,2,3\nc,3\n', [2, 5], ["m.csv, line 4: 3 cells, but 2 columns"]),
        ("m.csv", b"path,text\na,caf\xe9\nb,2\n", [3], ["m.csv, line 2: not UTF-8 (invalid continuation byte)"]),
        ("m.csv", b'path,text\na,"1"x\nb,2\n', [3], ["m.csv, line 2: ',' expected after '\"'"]),
        (
            "m.jsonl",
            b'{"a": 1}\n{"a": \n[1]\n\xff\n{"a": 2}\n',
            [1, 5],
            ["line 2: not JSON", "line 3: not a JSON object", "line 4: not UTF-8"],
        ),
    ],
)
def test_a_bad_line_costs_one_line(
    name: str, content: bytes, lines: list[int], errors: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    problems: list[ClaraError] = []
    assert [row.line for row in read_table(str(tmp_path / name), problems.append)] == lines
    for expected, problem in zip(errors, problems, strict=True):
        assert expected in str(problem)
    with pytest.raises(FormatError, match="line"):
        list(read_table(str(tmp_path / name)))


def test_a_file_that_cannot_be_read_is_a_source_error(tmp_path: Path) -> None:
    for name in ("m.csv", "m.ndjson", "m.parquet"):
        with pytest.raises(SourceError, match=rf"{name}: cannot be read \(.*No such file"):
            list(read_table(str(tmp_path / name)))
        with pytest.raises(Unreachable, match=rf"nosuch://b/{name}: cannot be opened"):
            list(read_table(f"nosuch://b/{name}"))
