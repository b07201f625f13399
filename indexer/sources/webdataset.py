"""WebDataset shards: tar files whose members of one name, but for the suffix, are one example; read as streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.readers import Member, group_members
from clara_search.errors import FormatError, SourceError
from clara_search.files.paths import FileStat, is_url, stat_file
from indexer.sources.item import ByteRange, ColumnType, Content, InMemoryBytes, Item, Survey
from indexer.sources.manifest import RESERVED_COLUMNS, item_of, type_of, wider_type
from indexer.sources.row import Row, plain_value, to_unicode


def survey(place: str, text_column: str | None = None) -> Survey:
    """Count the examples of a shard and type what their JSON says. Of a URL nothing is known before its end."""
    if is_url(place):
        return Survey(None, {})
    count, columns = 0, dict[str, ColumnType]()
    for item in items(place, text_column):
        count += 1
        for name, value in item.columns.items():
            columns[name] = wider_type(columns.get(name), type_of(value))
    return Survey(count, columns)


def items(place: str, text_column: str | None = None) -> Iterator[Item]:
    """Yield the examples of a shard: a recording, with what stands in the .json or .txt of its name, or a text alone.

    A recording is called as fsspec opens it: `tar://KEY.flac::SHARD`. Of a shard on this machine it is read when its
    turn comes, of a URL it is taken from the stream. What is cut off at the end of a shard is an item with a problem.
    """
    status = stat_file(place)
    skip = None if is_url(place) else AUDIO_SUFFIXES
    number = 0
    try:
        for number, (key, members) in enumerate(group_members(place, skip), start=1):
            yield _item(place, number, key, members, status, text_column or "text")
    except (FormatError, SourceError) as error:
        here = f"{place}#L{number + 1}"
        problem = str(error).removeprefix(f"{place}: ")
        yield Item(place, "text", here, number + 1, problem=problem, hides_more=True)


def _item(place: str, number: int, key: str, members: dict[str, Member], status: FileStat, text_column: str) -> Item:
    audio = [suffix for suffix in members if suffix in AUDIO_SUFFIXES]
    name = f"tar://{key}{audio[0]}::{place}" if audio else f"tar://{key}::{place}"
    if len(audio) > 1:
        problem = f"has {len(audio)} recordings of one name: {', '.join(audio)}"
        return Item(place, "text", f"{place}#L{number}", number, problem=problem)
    try:
        values = _values(members)
    except ValueError as error:
        return Item(place, "text", f"{place}#L{number}", number, problem=f"{key}: {error}")
    if text_column != "text":
        values.pop("text", None)
    content: Content | None = None
    if audio:
        member = members[audio[0]]
        content = (
            ByteRange(place, member.offset, member.size) if member.content is None else InMemoryBytes(member.content)
        )
    return item_of(place, Row(number, values, content, name), text_column, status)


def _values(members: dict[str, Member]) -> dict[str, Any]:
    """Return what the .json and .txt of an example say, as the columns of a manifest."""
    values: dict[str, Any] = {}
    if ".txt" in members:
        values["text"] = to_unicode((members[".txt"].content or b"").decode("utf-8", "replace").strip()) or None
    if ".json" in members:
        try:
            found = json.loads(members[".json"].content or b"")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its JSON is broken ({error})") from error
        if not isinstance(found, dict):
            raise ValueError("its JSON is no object")
        if isinstance(found.get("text"), list):  # the first of several captions
            found["text"] = next((text for text in found["text"] if isinstance(text, str)), None)
        values |= {_column(name): plain_value(value) for name, value in found.items()}
    # Where the recording lies is said by the shard.
    return {name: value for name, value in values.items() if name not in ("path", "url")}


def _column(name: str) -> str:
    """Return a name from JSON as a table can have it: what means something else there gets a "json_" in front."""
    name = to_unicode(name).replace(".", "_").replace("`", "_")
    is_taken = name in RESERVED_COLUMNS or name in ("start_s", "end_s") or name.startswith("_") or not name
    return f"json_{name}" if is_taken else name
