"""Labels: typed, in text files and in tables; a mistyped file name is an error."""

from __future__ import annotations

import pytest

from clara_search.classification.labels import read_labels
from clara_search.errors import FormatError, SourceError


@pytest.mark.parametrize(
    ("typed", "labels"),
    [
        ("dog, rain", ["dog", "rain"]),
        ('"dog, small",rain, "a ""b"""', ["dog, small", "rain", 'a "b"']),
        ("{},{0},{x!r}", ["{}", "{0}", "{x!r}"]),
        ("a\nb,c", ["a\nb", "c"]),
        ('5" pipe,x', ['5" pipe', "x"]),
        ("yes/no,maybe", ["yes/no", "maybe"]),
        ("dog", ["dog"]),
        ("a,,b", ["a", "", "b"]),
        ("e.g.", ["e.g."]),
        ("St. Bernard", ["St. Bernard"]),
        ("version 1.2", ["version 1.2"]),
        (",".join(f"n{i}" for i in range(1000)), [f"n{i}" for i in range(1000)]),
    ],
)
def test_typed_labels_are_separated_by_commas(typed, labels):
    assert read_labels(typed) == labels


@pytest.mark.parametrize("name", ["labels.txt", "labels.csv", "LABELS.TSV", "some/labels", "labels.tx", "a\\b"])
def test_a_single_label_that_looks_like_a_path_is_a_mistyped_one(name):
    with pytest.raises(SourceError, match="no such file"):
        read_labels(name)


@pytest.mark.parametrize(
    ("name", "content", "column", "labels"),
    [
        ("l.txt", b"\xef\xbb\xbfdog, small\r\n\r\n  rain \r\ndog, small\r\n", None, ["dog, small", "rain"]),
        ("l.txt", "dog\nRegen\n".encode("utf-16"), None, ["dog", "Regen"]),
        ("l", b"{}\n{0}", None, ["{}", "{0}"]),
        ("l.csv", b"\xef\xbb\xbflabel\ndog\nrain\n", None, ["dog", "rain"]),
        ("l.csv", b'path,label\na.wav,"dog, small"\nb.wav,rain\nc.wav,rain\nd.wav,\n', None, ["dog, small", "rain"]),
        ("l.csv", b"index,mid,display_name\n0,/m/1,Speech\n1,/m/2,Dog\n", None, ["Speech", "Dog"]),
        ("l.csv", b"label;name\n1;dog\n2;rain\n", "name", ["dog", "rain"]),
        ("l.tsv", b"Category\tn\ndog\t1\nrain\t2\n", None, ["dog", "rain"]),
        ("l.jsonl", b'{"label": 1}\n{"label": "x"}\n', None, ["1", "x"]),
    ],
)
def test_a_file_holds_labels_a_line_or_in_a_column(tmp_path, name, content, column, labels):
    (tmp_path / name).write_bytes(content)
    assert read_labels(str(tmp_path / name), column) == labels


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        (b"dog\nrain\n", None, "no column of labels; it has dog: name one with `label_column`"),
        (b"label,name\n1,a\n", "mood", "no column 'mood'; it has label, name"),
        (b"label\n\n", None, "has no labels"),
        (b"", None, "has no"),
        (b"label\nd\xff\n", None, "line 2: not UTF-8"),
    ],
)
def test_a_table_without_such_labels_is_an_error(tmp_path, content, column, message):
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_labels(str(tmp_path / "l.csv"), column)
