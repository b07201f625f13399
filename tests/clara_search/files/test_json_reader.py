"""The strict reader of JSON, and that nothing else reads JSON of files."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from clara_search.errors import FormatError
from clara_search.files.json_reader import parse_json, parse_object, read_json
from clara_search.files.limits import limits
from tests.helpers import ROOT

ALLOWED = {
    "clara_search/files/json_reader.py",
    "clara_search/text/tokenizer.py",  # what the tokenizer in memory says of itself
}
"""Files of the packages that parse JSON themselves."""


def test_values_are_those_of_json() -> None:
    value = {"a": [1, -2.5, 1e3, True, None, "\u00e9\n\U0001f600"], "b": {"c": {}}, "": 2**64 - 1}
    for content in (json.dumps(value), json.dumps(value, ensure_ascii=False).encode(), b"\xef\xbb\xbf" + b"[1]"):
        assert parse_json(content, "a.json") == (value if content != b"\xef\xbb\xbf[1]" else [1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON .*line 1 column 1"),
        ('{"a": 1,\n "b": }', "not JSON .*line 2 column 7"),
        (b'{"a": "\xff"}', "not JSON .*position 7"),
        ("[1] [2]", "not JSON .*Extra data"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' twice"),
        ("[NaN]", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("[1e999]", "1e999 is not a finite number"),
        (f"[{1 << 64}]", "a number of 20 digits, where at most 64 bits"),
        (f"[{'9' * 5000}]", "not JSON"),
        (r'["\ud83d"]', "surrogates not allowed"),
        ("[" * 200_000, "more than 100 levels of nesting"),
        ('{"a":' * 101 + "1" + "}" * 101, "more than 100 levels of nesting"),
        ("[" + "[]," * 1_600_000 + "1]", "3,200,001 values in JSON, where at most 3,000,000"),
        (" " * (49 << 20), "bytes of a JSON file, where at most"),
    ],
)
def test_anything_else_is_an_error_of_one_line_that_begins_with_its_file(content: str | bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        parse_json(content, "a.json")
    assert str(caught.value).startswith("a.json: ")
    assert "\n" not in str(caught.value)


def test_strings_hide_brackets_from_the_depth() -> None:
    for text in ("[" * 1000, '\\"' + "[" * 1000, '{"' * 500, "\\" * 999 + "[" * 200):
        assert parse_json(json.dumps([text] * 3), "a") == [text] * 3
    assert parse_json("[" * 100 + "]" * 100, "a")
    with limits(json_depth=300):
        assert parse_json("[" * 300 + "]" * 300, "a")


def test_a_string_without_an_end_takes_linear_time() -> None:
    with pytest.raises(FormatError, match="not JSON"):
        parse_json("[]," * 101 + '"' + '\\"' * 5_000_000, "a")


def test_rows_of_data_may_hold_missing_and_long_numbers() -> None:
    values = parse_json('{"a": NaN, "b": 1e999, "c": -Infinity, "d": 123456789012345678901234}', "a", is_row=True)
    assert values == {"a": None, "b": None, "c": None, "d": 123456789012345678901234}


def test_an_object_is_wanted() -> None:
    with pytest.raises(FormatError, match="a: not a JSON object"):
        parse_object("[1]", "a")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    with limits(json_bytes=7), pytest.raises(FormatError, match="8 bytes of a JSON file, where at most 7"):
        read_json(path)


def json_calls(path: Path) -> list[Any]:
    """Return the calls of json.load, json.loads and JSONDecoder in a file, and imports of their names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[Any] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("load", "loads", "JSONDecoder"):
            found += [node] if ast.unparse(node.value) in ("json", "orjson", "ujson") else []
        elif isinstance(node, ast.ImportFrom) and node.module == "json":
            found += [name for name in node.names if name.name in ("load", "loads", "JSONDecoder")]
    return found


def test_json_of_files_is_read_by_the_strict_reader_alone() -> None:
    parsing = {
        str(path.relative_to(ROOT))
        for package in ("clara_search", "indexer", "trainer")
        for path in (ROOT / package).rglob("*.py")
        if json_calls(path)
    }
    assert parsing == ALLOWED
