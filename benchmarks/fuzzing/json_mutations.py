"""Changes of JSON: values of other types and sizes, keys twice, nesting, and JSON that is none."""

from __future__ import annotations

import json
import random
from typing import Any

_RAW = "@raw@"
_RAW_VALUES: tuple[str, ...] = (
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 400,
    "-0",
    "1e-400",
    "[" * 200 + "]" * 200,
    '{"a":' * 90 + "1" + "}" * 90,
)
_RAW_VALUES += (str((1 << 63) - 1), str(1 << 64), '"\\ud800"', '"' + "x" * 70_000 + '"', "tru", "'a'", "0x10")
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    1e308,
    1e-9,
    1 << 31,
    10**9,
    "",
    "a",
    "\x00",
    "\x1b[2J\n",
)
_VALUES += ("../../x", "/dev/zero", "\u202egpj.", [], {}, [[]], [None], {"": None}, ["a", 1], {"a": {"b": []}}, "1")
_VALUES += ("a" * 4096, list(range(5000)))


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Return JSON, or one line of JSON lines, with one value changed; other content is returned as it is.

    Args:
        content: JSON, or JSON lines.
        rng: Decides everything.

    Returns:
        What need not be JSON any more.
    """
    try:
        return _mutate_document(content, rng)
    except ValueError:
        lines = content.splitlines(keepends=True)
        if len(lines) < 2:
            return content
        number = rng.randrange(len(lines))
        try:
            lines[number] = _mutate_document(lines[number], rng) + b"\n"
        except ValueError:
            return content
        return b"".join(lines)


def _mutate_document(content: bytes, rng: random.Random) -> bytes:
    document = [json.loads(content)]
    container, key = rng.choice(_slots(document))
    value = container[key]
    kind = rng.random()
    raw = rng.choice(_RAW_VALUES)
    if kind < 0.25:
        container[key] = _RAW
    elif kind < 0.7:
        container[key] = rng.choice(_VALUES)
    elif kind < 0.78 and isinstance(container, dict):
        del container[key]
    elif kind < 0.84 and isinstance(container, dict):
        container[rng.choice((key.upper(), key + "\n", "", "x" * 300, "\u202e" + key))] = value
    elif kind < 0.9:
        container[key] = [value] * rng.choice((1, 2, 200))
    elif isinstance(value, int):
        container[key] = value * rng.choice((-1, 10, 1000, 10**6)) + rng.choice((-1, 0, 1))
    else:
        container[key] = {"x": value}
    text = json.dumps(document[0], ensure_ascii=rng.random() < 0.5) if document else ""
    text = text.replace(json.dumps(_RAW), raw)
    if kind >= 0.97 and text.startswith("{"):  # a key twice
        text = text[:-1] + "," + text[1:]
    return text.encode("utf-8", "surrogatepass")


def _slots(document: list[Any]) -> list[tuple[Any, Any]]:
    """Return all places of values: a container, and a key in it."""
    slots = list[tuple[Any, Any]]()
    waiting: list[Any] = [document]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else list(range(min(len(container), 50)))
        slots += [(container, key) for key in keys]
        waiting += [container[key] for key in keys if isinstance(container[key], (dict, list))]
    return slots
