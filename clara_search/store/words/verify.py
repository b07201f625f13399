"""Verify the word index of a table."""

from __future__ import annotations

from clara_search.errors import DatabaseError
from clara_search.store.table import ROW_ID, Table
from clara_search.store.verify import Finding
from clara_search.store.words import index
from clara_search.store.words.tokens import query_words

_PROBES = 4
_PROBED_ROWS = 1000


def verify_words(table: Table, repair: bool) -> Finding:
    """Check the word index of a table: that it covers its rows, and finds texts by their words.

    Args:
        table: The table.
        repair: Whether to build it anew if it is damaged.

    Returns:
        The result of the check "words".

    Raises:
        DatabaseError: It cannot be built.
    """
    if not index.exists(table):
        return Finding(table.name, "words", True, "there is no word index")
    problem = _problem(table)
    if problem is None:
        later = index.unindexed_rows(table)
        detail = f"{table.count() - later} rows, {later} later ones are read" if later else f"{table.count()} rows"
        return Finding(table.name, "words", True, detail)
    if repair:
        index.build(table)
    return Finding(table.name, "words", repair, f"{problem}{': built anew' if repair else ''}", repair)


def _problem(table: Table) -> str | None:
    if not index.is_built(table):
        return "the word index is of another version"
    try:
        for row, text in _sample(table):
            words = query_words(text)[:1]
            if words and row not in index.match(table, words, table.count())[0].tolist():
                return f"the word index does not find {words[0][0]!r}, which a row has"
    except DatabaseError as error:
        return str(error)
    return None


def _sample(table: Table) -> list[tuple[int, str]]:
    rows = table._lance.search().select([index.COLUMN]).with_row_id(True).where(f"{index.COLUMN} IS NOT NULL")
    found = rows.limit(_PROBED_ROWS).to_arrow()
    step = max(found.num_rows // _PROBES, 1)
    return list(zip(found[ROW_ID].to_pylist(), found[index.COLUMN].to_pylist(), strict=True))[::step]
