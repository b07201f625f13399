"""JSON lines and arrays of objects: one bad object costs that object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clara_search.errors import ClaraError
from clara_search.files.limits import limits
from clara_search.files.tables import read_table

OBJECTS = [
    {"path": "a.wav", "text": 'a "quoted, [bracketed]" text\\'},
    {"path": "b.wav"},
    {"text": "日本", "n": [1, 2]},
]


def read(path: Path, content: str) -> tuple[list[tuple[int, dict[str, object]]], list[str]]:
    path.write_text(content, encoding="utf-8")
    problems: list[ClaraError] = []
    rows = [(row.line, dict(row.values)) for row in read_table(str(path), problems.append)]
    return rows, [str(problem).removeprefix(f"{path}, ") for problem in problems]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
def test_an_array_gives_its_objects_however_it_is_written(name: str, indent: int | None, tmp_path: Path) -> None:
    content = "\n " + json.dumps(OBJECTS, indent=indent, ensure_ascii=False)
    if name == "m.jsonl" and indent is None:
        return  # in JSON lines, an array in one line is a bad line
    assert read(tmp_path / name, content) == (list(enumerate(OBJECTS, start=1)), [])


def test_a_bad_element_costs_that_element(tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "m.json", '[{"path": "a"}, {"path" "b"}, 7,\n{"path": "c"}, {"path": "d"')
    assert rows == [(1, {"path": "a"}), (4, {"path": "c"})]
    assert [problem[:20] for problem in problems] == [
        "element 2: not JSON ",
        "element 3: not a JSO",
        str(tmp_path)[:20],
    ]
    assert "the array is cut off" in problems[2]


def test_an_element_is_bounded(tmp_path: Path) -> None:
    with limits(row_bytes=1000):
        rows, (problem,) = read(tmp_path / "m.json", '[{"path": "a"},\n{"path": "' + "\n1" * 1000 + '"}]')
    assert rows == [(1, {"path": "a"})]
    assert "more than 1,000 bytes of a row" in problem


def test_tasks_of_label_studio_have_the_columns_of_their_data(tmp_path: Path) -> None:
    tasks = [{"id": 7, "data": {"audio": "a.wav", "label": "dog"}, "annotations": []}]
    assert read(tmp_path / "m.json", json.dumps(tasks)) == (
        [(1, {"audio": "a.wav", "label": "dog", "id": 7, "annotations": []})],
        [],
    )


def test_objects_a_line_may_differ_in_their_keys(tmp_path: Path) -> None:
    content = "".join(json.dumps(row) + "\n" for row in OBJECTS)
    assert read(tmp_path / "m.ndjson", content) == (list(enumerate(OBJECTS, start=1)), [])
    assert read(tmp_path / "m.json", content) == (list(enumerate(OBJECTS, start=1)), [])
