"""SQL filters over the columns of a table: parsed whole by LanceDB's parser, or refused with what is wrong.

LanceDB reads the first complete expression of a filter and ignores what follows: `language = 'de' AN count > 4` finds
all of `language = 'de'`. So every filter is passed in brackets, which its parser has to close. Whatever could close
them early or hide something (a bracket without its partner, a comment, a semicolon) is refused before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from clara_search.errors import DatabaseError, QueryError
from clara_search.store.lance_errors import is_lance_error, lance_reason, translate_read_errors

if TYPE_CHECKING:
    import pyarrow as pa

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--|/\*)
    |(?P<string>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`[^`]*`|[^\W\d]\w*)
    |(?P<number>\d\w*)
    |(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comma>,)
    |(?P<operator>::|<=|>=|<>|!=|\|\||[-+*/%=<>.^&|~!@\#])
    |(?P<foreign>.)""",
    re.VERBOSE | re.DOTALL,
)
_PARTNERS = {"(": ")", "[": "]", "{": "}"}
_TYPED_STRINGS = {"DATE", "TIME", "TIMESTAMP", "INTERVAL", "X"}
"""Words that may stand right before a quote; others begin strings of other rules, which a quote may not end."""

_COMPARISONS = {"=", "<", ">", "<=", ">=", "<>", "!="}
_MAX_OPERATORS = 200  # in an expression without AND and OR: the engine's stack overflows at some hundreds
_MAX_PREFIXES = 100
_EXACT_DIGITS = 15  # of a decimal that a float tells from all others
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAMAGE = re.compile(r"\bIO\b|[Nn]ot found: |No such file|[Cc]orrupt")
_SHOWN = 200


class _Token(NamedTuple):
    kind: str
    text: str


@contextmanager
def filtering(lance: Any, where: str | None) -> Iterator[str | None]:
    """Yield the filter to pass to LanceDB, and raise what it cannot use as an error of one line.

    Args:
        lance: The LanceDB table.
        where: An SQL filter; None for none.

    Yields:
        The filter in brackets, or None.

    Raises:
        QueryError: The filter is not one whole expression over the table's columns that is true or false.
        DatabaseError: The table's files are damaged.
    """
    prepared = None if where is None else prepare_filter(where, _schema(lance))
    try:
        yield prepared
    except BaseException as error:  # a panic is one
        if not is_lance_error(error):
            raise
        reason = lance_reason(error)
        if where is None or (_DAMAGE.search(reason) and _is_filter(where, lance)):
            raise DatabaseError(f"the table cannot be read, its files are damaged: {reason}") from error
        raise _refusal(where, _explain(reason, where, lance)) from error


def _schema(lance: Any) -> pa.Schema:
    with translate_read_errors():
        return lance.schema


def prepare_filter(where: str, schema: pa.Schema) -> str:
    """Return a filter for LanceDB that its parser has to read whole.

    Args:
        where: The filter.
        schema: The table's schema. Texts that are compared with its dates and times are read as such.

    Returns:
        The filter in brackets.

    Raises:
        QueryError: Brackets or quotes are not closed, or the filter holds something else than an expression.
    """
    tokens = _tokens(where)
    _check(where, tokens)
    return f"({''.join(_with_dates(tokens, schema))}\n)"


def sql_string(value: str) -> str:
    """Return `value` as a string literal for a filter."""
    return "'" + value.replace("'", "''") + "'"


def _tokens(where: str) -> list[_Token]:
    return [_Token(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(where)]


def _check(where: str, tokens: Sequence[_Token]) -> None:
    """Raise QueryError for what could end an expression before the end of the filter."""
    opened: list[tuple[str, int]] = []
    start, before = 0, _Token("space", "")
    for token in tokens:
        if token.kind == "comment":
            raise _refusal(where, f"comments are not allowed: {_shown(where[start:])} is left over")
        if token.kind == "foreign" and token.text in "'\"`":
            raise _refusal(where, f"the quote is not closed in {_shown(where[start:])}")
        if token.kind == "foreign":
            raise _refusal(where, f"{token.text!r} is not allowed: {_shown(where[start:])} is left over")
        if token.kind == "string" and before.kind == "name" and before.text.upper() not in _TYPED_STRINGS:
            raise _refusal(where, f"a blank is missing before {_shown(where[start:])}")
        if token.kind == "open":
            opened.append((token.text, start))
        elif token.kind == "close" and (not opened or _PARTNERS[opened.pop()[0]] != token.text):
            raise _refusal(where, f"{token.text!r} closes no bracket: {_shown(where[start:])} is left over")
        start, before = start + len(token.text), token
    if opened:
        raise _refusal(where, f"the bracket is not closed in {_shown(where[opened[-1][1] :])}")
    if not where.strip():
        raise _refusal(where, "it is empty")
    operators = 0
    for token in tokens:
        operators = 0 if token.text.upper() in ("AND", "OR") else operators + (token.kind == "operator")
        if operators > _MAX_OPERATORS:
            raise _refusal(where, f"it has an expression of more than {_MAX_OPERATORS} operators")


def _with_dates(tokens: Sequence[_Token], schema: pa.Schema) -> Iterator[str]:
    """Yield the texts of tokens; strings compared with a column of dates or times become literals of that type.

    Columns of types that LanceDB compares with no literal are converted: decimals are numbers, durations seconds, and
    times of a day texts.
    """
    import pyarrow as pa

    types = {field.name.lower(): field.type for field in schema if pa.types.is_date(field.type)}
    types |= {field.name.lower(): field.type for field in schema if pa.types.is_timestamp(field.type)}
    converted = {field.name.lower(): _conversion(field.type) for field in schema}
    places = [number for number, token in enumerate(tokens) if token.kind != "space"]
    keywords: dict[int, str] = {}
    for place, number in enumerate(places):
        if tokens[number].kind == "name" and (column := types.get(_unquoted(tokens[number].text).lower())):
            for compared in _compared_strings([tokens[other] for other in places], place):
                text = tokens[places[compared]].text
                is_day = pa.types.is_date(column) and len(text) <= len("'2024-12-31'")
                keywords[places[compared]] = "date " if is_day else "timestamp "
    for number, token in enumerate(tokens):
        conversion = converted.get(_unquoted(token.text).lower()) if token.kind == "name" else None
        yield keywords.get(number, "") + (conversion.format(token.text) if conversion else token.text)


def _conversion(kind: pa.DataType) -> str | None:
    """Return how a filter reads a column of a type that LanceDB compares with no literal; None for other types."""
    import pyarrow as pa

    if pa.types.is_decimal(kind) and kind.precision <= _EXACT_DIGITS:
        return "cast({} as double)"
    if pa.types.is_time(kind):
        return "cast({} as string)"
    if pa.types.is_duration(kind):
        return f"(cast({{}} as double) / {_UNITS[kind.unit]})"
    return None


def _compared_strings(tokens: Sequence[_Token], column: int) -> Iterator[int]:
    """Yield the numbers of the strings that the column at `column` is compared with; `tokens` without spaces."""

    def text(number: int) -> str:
        return tokens[number].text.upper() if 0 <= number < len(tokens) else ""

    def strings(*numbers: int) -> Iterator[int]:
        in_bounds = (number for number in numbers if 0 <= number < len(tokens))
        return (n for n in in_bounds if tokens[n].kind == "string" and text(n - 1) not in _TYPED_STRINGS)

    if text(column - 1) in _COMPARISONS:
        yield from strings(column - 2)
    after = column + 1 + (text(column + 1) == "NOT")
    if text(after) in _COMPARISONS:
        yield from strings(after + 1)
    elif text(after) == "BETWEEN":
        yield from strings(after + 1, *([after + 3] if text(after + 2) == "AND" else []))
    elif text(after) == "IN" and text(after + 1) == "(":
        end = next(number for number in range(after, len(tokens)) if tokens[number].text == ")")
        yield from strings(*range(after + 2, end))


def _unquoted(name: str) -> str:
    quote = name[0]
    return name[1:-1].replace(quote * 2, quote) if quote in '"`' else name


def _explain(reason: str, where: str, lance: Any) -> str:
    """Return what is wrong with a filter, from the engine's reason."""
    if "parser error" in reason and (rest := _left_over(where, lance)):
        return f"{_shown(rest)} is left over"
    if match := re.search(r"parser error: (.*?)\)?$", reason):
        return match[1]
    if match := re.search(r"No field named (\S+?)\.(?:\s|$)|Column (.+) does not exist", reason):
        return _unknown_column(_unquoted(match[1] or match[2]), where, _schema(lance))
    if match := re.search(r"literal \w+\((.*)\) and could not convert to literal of type '(.*?)'(?:,|$)", reason):
        return f"{match[1]} does not fit the column, which holds {match[2]}"
    if match := re.search(r"(Cast error: .*?|returns? a non-boolean|does not return a boolean)(?:,|\)|$)", reason):
        return match[1] if match[1].startswith("Cast") else "it is not true or false for a row: compare it with a value"
    return reason.replace(" SQL in lance", "")[:_SHOWN]


def _left_over(where: str, lance: Any) -> str:
    """Return what follows the longest part at the front of a filter that is a filter; "" where there is none."""
    tokens = _tokens(where)
    for count in range(len(tokens) - 1, max(len(tokens) - _MAX_PREFIXES, 0), -1):
        front = "".join(token.text for token in tokens[:count])
        if tokens[count - 1].kind != "space" and _is_filter(front, lance):
            return where[len(front) :].strip()
    return ""


def _is_filter(where: str, lance: Any) -> bool:
    try:
        lance.search().where(prepare_filter(where, _schema(lance))).explain_plan()
    except Exception as error:
        if not isinstance(error, QueryError) and not is_lance_error(error):
            raise
        return False
    return True


def _unknown_column(name: str, where: str, schema: pa.Schema) -> str:
    columns = [column for column in schema.names if column != "vector"]
    near = get_close_matches(name.lower(), columns, n=1)
    text = " (texts stand in single quotes)" if f'"{name}"' in where else ""
    listed = f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(columns)}"
    return f"there is no column {name!r}{text}; {listed}"


def _refusal(where: str, reason: str) -> QueryError:
    return QueryError(f"the filter {_shown(where)} cannot be used: {reason}")


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
