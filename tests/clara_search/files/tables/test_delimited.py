"""CSV and TSV as people write them: separators, quotes, encodings; a broken line costs that line."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from clara_search.errors import ClaraError, ConfigError, FormatError
from clara_search.files.limits import limits
from clara_search.files.tables import read_table

Rows = list[tuple[int, list[str | None]]]


def read(path: Path, content: str | bytes, encoding: str | None = None) -> tuple[Rows, list[str]]:
    """Return the lines and cells of a file with this content, and the errors without its name."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[ClaraError] = []
    rows = [(row.line, list(row.values.values())) for row in read_table(str(path), problems.append, encoding)]
    return rows, [str(problem).removeprefix(f"{path}, ") for problem in problems]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("m.csv", "path;label\na;x\nb;y, z\n", [["a", "x"], ["b", "y, z"]]),
        ("m.csv", "path\tlabel\na\tx\n", [["a", "x"]]),
        ("m.csv", 'path|label\na|"Yes," he said\n', [["a", '"Yes," he said']]),
        ("m.tsv", "path,label\na,x\n", [["a", "x"]]),
        (
            "m.csv",
            '# made in 2017\n# n=1, k=2, l=3\n# id, start_s, labels\na, 0.5, "/m/1,/m/2"\n',
            [["a", "0.5", "/m/1,/m/2"]],
        ),
        ("m.csv", "# what it is\npath,label\na,x\n#b,y\n", [["a", "x"], ["#b", "y"]]),
        ("m.csv", "#,path\n7,a\n", [["7", "a"]]),
        ("m.csv", "# only\n# comments\n", []),
        (
            "m.tsv",
            'path\ttext\na\t"Hello," she said.\nb\t"Yes\nc\tNo "way".\n',
            [["a", '"Hello," she said.'], ["b", '"Yes'], ["c", 'No "way".']],
        ),
        (
            "m.tsv",
            'path\ttext\na\t"""Hello,"" she said."\nb\t"a\ttab"\n',
            [["a", '"Hello," she said.'], ["b", "a\ttab"]],
        ),
        ("m.csv", 'path,text\r\na,"x, ""q"" é"\r\nb,"two\nlines"\r\n', [["a", 'x, "q" é'], ["b", "two\nlines"]]),
        ("m.csv", 'path,text\na,He said "hi"\n', [["a", 'He said "hi"']]),
        ("m.csv", "path,label\na,x,\nb,y,,\n", [["a", "x"], ["b", "y"]]),
        ("m.csv", "path\na\n\n  \nb\n", [["a"], ["b"]]),
        ("m.csv", "path,label\na,\n", [["a", None]]),
    ],
)
def test_separators_and_quotes_are_read_as_they_are_meant(
    name: str, content: str, rows: list[list[str | None]], tmp_path: Path
) -> None:
    read_rows, problems = read(tmp_path / name, content)
    assert ([cells for _, cells in read_rows], problems) == (rows, [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_recognised_however_it_is_encoded(encoding: str, tmp_path: Path) -> None:
    content = "path\tlabel\na0.wav\tcafé\nb0.wav\t日本\n".encode(encoding)
    assert read(tmp_path / "m.tsv", content) == ([(2, ["a0.wav", "café"]), (3, ["b0.wav", "日本"])], [])


def test_another_encoding_is_named_in_the_error_and_read_on_request(tmp_path: Path) -> None:
    content = "path,label\na.wav,café\nb.wav,tea\n".encode("cp1252")
    rows, (problem,) = read(tmp_path / "m.csv", content)
    assert rows == [(3, ["b.wav", "tea"])]
    assert problem.startswith("line 2: not UTF-8 (invalid continuation byte); it may be cp1252")
    assert "`encoding`" in problem
    assert read(tmp_path / "m.csv", content, "cp1252") == ([(2, ["a.wav", "café"]), (3, ["b.wav", "tea"])], [])
    with pytest.raises(ConfigError, match="no encoding is called 'cp9999'"):
        read(tmp_path / "m.csv", content, "cp9999")


def test_a_stray_quote_costs_its_own_line_and_swallows_no_others(tmp_path: Path) -> None:
    lines = [f"{number}.wav,label {number}" for number in range(3000)]
    lines[10] = '10.wav,"an open quote'
    lines[2000] = '2000.wav,"closed"too early'
    lines[2999] = '2999.wav,"at the end'
    rows, problems = read(tmp_path / "m.csv", "path,label\n" + "\n".join(lines) + "\n")
    assert [cells[0] for _, cells in rows] == [f"{n}.wav" for n in range(3000) if n not in (10, 2000, 2999)]
    assert [problem.partition(":")[0] for problem in problems] == ["line 12", "line 2002", "line 3001"]


def test_a_line_that_is_too_long_costs_that_line(tmp_path: Path) -> None:
    content = "path,text\na," + "x" * 5000 + "\nb,fine\n"
    with limits(row_bytes=1000):
        rows, (problem,) = read(tmp_path / "m.csv", content)
    assert rows == [(3, ["b", "fine"])]
    assert problem.startswith("line 2: more than 1,000 bytes of a row")


def test_a_header_that_cannot_be_used_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="two columns have the same name, 'path'"):
        read(tmp_path / "m.csv", "path,path\na,b\n")
    with limits(columns=3), pytest.raises(FormatError, match="4 columns"):
        read(tmp_path / "m.csv", "a,b,c,d\n1,2,3,4\n")


def test_reading_holds_no_more_than_a_block(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\n" + "".join(f"{n}.wav\n" for n in range(10_000)) + '"broken\n')
    numbers = count()
    rows = read_table(str(tmp_path / "m.csv"), lambda error: next(numbers))
    assert next(rows).line == 2
    assert next(numbers) == 0  # the last line was not read yet


def test_the_header_of_a_file_with_comments_is_their_last_line_or_the_one_after_them(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    for content in ("# about it\n# path, label\na,x\n", "#path,label\na,x\n", "# about it\npath,label\na,x\n"):
        path.write_text(content)
        (row,) = read_table(str(path), pytest.fail)
        assert row.values == {"path": "a", "label": "x"}
        assert row.line == content.count("\n")
    path.write_text("#,path\n7,a\n")
    (row,) = read_table(str(path), pytest.fail)
    assert row.values == {"#": "7", "path": "a"}
