"""Filters are parsed whole or refused with the rest, in every place that takes one."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clara_search.errors import DatabaseError, QueryError
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from clara_search.store.filters import prepare_filter
from tests.tables import INFO, rows, unit_vectors

N = 60
LANGUAGES = ["de", "en", "es"]
NAMES = ["plain", "it's", 'say "hi"', "a\\b", "--x", "/*y*/", "(", ";", "Straße 😀", " AND "]


def day(number):
    return datetime.date(2024, 1, 1 + number % 20)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    table = Database(tmp_path_factory.mktemp("filters") / "db", create=True).create_table("corpus", INFO)
    noon = [datetime.datetime.combine(day(n), datetime.time(12)) for n in range(N)]
    table.upsert(
        rows(
            unit_vectors(N),
            language=[LANGUAGES[n % 3] for n in range(N)],
            name=[NAMES[n % 10] for n in range(N)],
            count=list(range(N)),
            verified=[n % 2 == 0 for n in range(N)],
            price=[n / 4 for n in range(N)],
            day=[day(n) for n in range(N)],
            recorded=noon,
            recorded_utc=pa.array(noon, pa.timestamp("us", "UTC")),
            tags=[["x", "y"] if n % 4 == 0 else ["y"] for n in range(N)],
            place=[{"room": n % 5} for n in range(N)],
            **{"Mixed Name": ["A" if n < 7 else "B" for n in range(N)]},
        )
    )
    return table


VALID = {
    "language = 'de'": lambda n: n % 3 == 0,
    " language\n=\t'de'  \n": lambda n: n % 3 == 0,
    "language = 'de' AND count > 30 OR verified": lambda n: (n % 3 == 0 and n > 30) or n % 2 == 0,
    "language = 'de' and(count > 30 or verified)": lambda n: n % 3 == 0 and (n > 30 or n % 2 == 0),
    "NOT verified": lambda n: n % 2,
    "((((count > 4))))": lambda n: n > 4,
    "COUNT > 4": lambda n: n > 4,
    "count BETWEEN 3 AND 5": lambda n: 3 <= n <= 5,
    "count NOT BETWEEN 3 AND 5": lambda n: not 3 <= n <= 5,
    "count IN (1, 2, 300)": lambda n: n in (1, 2),
    "language NOT IN ('de', 'en')": lambda n: n % 3 == 2,
    "language LIKE 'e_' AND language NOT LIKE '%s'": lambda n: n % 3 == 1,
    "language ILIKE 'D%'": lambda n: n % 3 == 0,
    "upper(language) = 'DE'": lambda n: n % 3 == 0,
    "regexp_like(language, '^e')": lambda n: n % 3,
    "language || '!' = 'de!'": lambda n: n % 3 == 0,
    "coalesce(language, 'de') = 'de'": lambda n: n % 3 == 0,
    "count % 7 = 3": lambda n: n % 7 == 3,
    "count + 1 - -1 > 50": lambda n: n + 2 > 50,
    "price * 2 >= 10.5": lambda n: n / 2 >= 10.5,
    "cast(count AS string) = '7'": lambda n: n == 7,
    "count::string = '7'": lambda n: n == 7,
    "language IS NOT NULL AND price IS NOT NULL": lambda n: True,
    "true": lambda n: True,
    "`Mixed Name` = 'A'": lambda n: n < 7,
    "\"Mixed Name\" = 'A'": lambda n: n < 7,
    "place.room = 3": lambda n: n % 5 == 3,
    "place['room'] = 3": lambda n: n % 5 == 3,
    "array_has(tags, 'x')": lambda n: n % 4 == 0,
    "array_length(tags) = 1": lambda n: n % 4,
    "tags[1] = 'x'": lambda n: n % 4 == 0,
    "day >= '2024-01-10'": lambda n: n % 20 >= 9,
    "'2024-01-10' <= day": lambda n: n % 20 >= 9,
    "day BETWEEN '2024-01-02' AND '2024-01-04' AND verified": lambda n: 1 <= n % 20 <= 3 and n % 2 == 0,
    "day IN ('2024-01-02', date '2024-01-04')": lambda n: n % 20 in (1, 3),
    "day NOT IN ('2024-01-02')": lambda n: n % 20 != 1,
    "day = date '2024-01-02'": lambda n: n % 20 == 1,
    "recorded > '2024-01-10'": lambda n: n % 20 >= 9,
    "recorded > '2024-01-10 12:00:00'": lambda n: n % 20 > 9,
    "recorded_utc >= '2024-01-10T12:00:00Z'": lambda n: n % 20 >= 9,
    "recorded > timestamp '2024-01-10 00:00:00'": lambda n: n % 20 >= 9,
    "date_part('day', day) = 3": lambda n: n % 20 == 2,
    "end_s - start_s > 0.5 AND start_s < 60": lambda n: True,
    **{f"name = '{name.replace(chr(39), chr(39) * 2)}'": lambda n, name=name: NAMES[n % 10] == name for name in NAMES},
}


@pytest.mark.parametrize("where", VALID)
def test_a_filter_finds_the_rows_that_pass(table, where):
    expected = [number for number in range(N) if VALID[where](number)]
    assert sorted(table.scan(["count"], where)["count"].to_pylist()) == expected
    assert table.count(where) == len(expected)


HOSTILE = {
    "language = 'de' AN kind = 'audio'": "\"AN kind = 'audio'\" is left over",
    "count > 4 verified": "'verified' is left over",
    "count > 4 LIMIT 1": "'LIMIT 1' is left over",
    "count > 4 ORDER BY count": "'ORDER BY count' is left over",
    "count > 4 AS x": "'AS x' is left over",
    "count > 4; drop": "'; drop' is left over",
    "count > 4;": "';' is left over",
    "count > 4 -- x": "'-- x' is left over",
    "count > 4 -- x\n": "left over",
    "count > 4 /* x */": r"'/\* x \*/' is left over",
    "count > /* x */ 4": "comments are not allowed",
    "count > 4 # x": "'# x' is left over",
    "count > 4\0": "left over",
    "count > 4, 5": "not supported",
    "(count > 4": r"not closed in '\(count > 4'",
    "count > 4)": r"'\)' is left over",
    "count > 4) OR (count < 3": r"'\) OR \(count < 3' is left over",
    "(count > 4) trailing": "'trailing' is left over",
    "tags[1)": r"'\)' closes no bracket",
    "count > 4 AND": "'AND' is left over",
    "count > 4 AND language": "boolean|true or false|Bool",
    "language = 'de": "quote is not closed",
    'language = "de"': r"no column 'de' \(texts stand in single quotes\)",
    "language = $$de$$": "not allowed",
    "language = N'de'": "a blank is missing",
    "language = E'de\\' OR 1=1 --'": "a blank is missing",
    "count > ?": "not allowed",
    "count > :x": "not allowed",
    "langauge = 'de'": "no column 'langauge'; did you mean 'language'",
    "starts_with(lang, 'd')": "no column 'lang'; did you mean 'language'",
    "loudness > 3": "no column 'loudness'; the columns are id, kind, uri",
    "count = 'abc'": '"abc" does not fit the column, which holds Int64',
    "language = 4": "4 does not fit the column",
    "day > '2024-13-01'": "Cannot cast string '2024-13-01'",
    "count": "not true or false",
    "language": "not true or false",
    "sum(count) > 3": "Not supported",
    "nothing(count) > 3": "nothing",
    "count IN (SELECT 1)": "not supported",
    "CASE WHEN count > 4 THEN true ELSE false END": "not supported",
    "": "it is empty",
    " \n": "it is empty",
    "language = '\ud800'": "surrogates",
    "count > " + "1+" * 5000 + "1": "more than 200 operators",
    "(" * 3000 + "verified" + ")" * 3000: "cannot be used",
}


@pytest.mark.parametrize("where", HOSTILE, ids=lambda where: repr(where[:40]))
def test_what_is_no_whole_filter_is_refused_with_the_rest(table, where):
    for read in (table.count, table.row_ids, lambda where: list(table.batches(["id"], where))):
        with pytest.raises(QueryError, match=HOSTILE[where]) as raised:
            read(where)
    assert "\n" not in str(raised.value)


def test_every_place_that_takes_a_filter_refuses_one_that_is_not_whole(table, encoder):
    where = "language = 'de' AN kind = 'audio'"
    index = Index(table, encoder=encoder)
    for use in (
        lambda: index.search("dog", where=where),
        lambda: index.search_vectors(unit_vectors(1), where=where),
        lambda: list(index.classify(["a", "b"], where=where)),
        lambda: table.ids_and_vectors(where),
    ):
        with pytest.raises(QueryError, match="left over"):
            use()


PARTS = ["count > 4", "language = 'de'", " AND ", " OR ", "(", ")", " -- ", "/*", "*/", "'", '"', "`", ";", "\n", " x "]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*PARTS, " LIMIT 1", "[", "]", "\\", "''"]), max_size=7).map("".join))
def test_an_accepted_filter_and_its_negation_share_no_row(table, where):
    try:
        prepared = prepare_filter(where, table.schema)
        found = table.count(where)
    except QueryError:
        return
    assert found + table._lance.count_rows(f"NOT {prepared}") == N
    assert table._lance.count_rows(f"false AND {prepared} AND false") == 0
    assert table._lance.count_rows(f"true OR {prepared} OR true") == N


def test_damaged_files_are_not_blamed_on_the_filter(tmp_path):
    database = Database(tmp_path / "db", create=True)
    database.create_table("corpus", INFO).upsert(rows(unit_vectors(5)))
    for path in (database.path / "corpus.lance" / "data").iterdir():
        path.unlink()
    with pytest.raises(DatabaseError, match="damaged"):
        database.table().scan(["id", "text"], "language = 'en'")


def test_many_values_are_compared_by_in(table):
    listed = ", ".join(map(str, np.arange(0, 100_000, 2)))
    assert table.count(f"count IN ({listed})") == N / 2
