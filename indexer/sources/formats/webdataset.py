"""WebDataset shards: tar files whose members with one key, the name without its suffix, are one example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.errors import ClaraError, FormatError
from clara_search.files.json_reader import parse_object
from clara_search.files.paths import FileStat, is_url, stat_file
from clara_search.files.shards import ByteRange, BytesSource, Member, group_members
from clara_search.files.tables import Row
from indexer.sources.base import Selection, SourceReader
from indexer.sources.columns import RESERVED_COLUMNS, plain_value, to_unicode
from indexer.sources.item import InMemoryBytes, Item
from indexer.sources.row import row_item


class ShardReader(SourceReader):
    """WebDataset shards; a recording is named as fsspec opens it, `tar://KEY.flac::SHARD`.

    A recording in a local shard is read when its turn comes; at a URL it is taken from the stream.
    """

    suffixes = frozenset({".tar"})

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the examples of a shard: a recording with the .json or .txt of its key, or a text alone.

        The rest of a shard that is cut off is an item with a problem.
        """
        stat = stat_file(path)
        skip = None if is_url(path) else AUDIO_SUFFIXES
        number = 0
        try:
            for number, (key, members) in enumerate(group_members(path, skip), start=1):
                yield _item(path, number, key, members, stat, selection.text_column or "text")
        except ClaraError as error:
            problem = str(error).removeprefix(f"{path}: ")
            yield Item(path, "text", f"{path}#L{number + 1}", number + 1, problem=problem, hides_more=True)


def _item(path: str, number: int, key: str, members: dict[str, Member], stat: FileStat, text_column: str) -> Item:
    audio = [suffix for suffix in members if suffix in AUDIO_SUFFIXES]
    name = f"tar://{key}{audio[0]}::{path}" if audio else f"tar://{key}::{path}"
    if len(audio) > 1:
        problem = f"has {len(audio)} recordings of one key: {', '.join(audio)}"
        return Item(path, "text", f"{path}#L{number}", number, problem=problem)
    try:
        values = _values(members)
    except ValueError as error:
        return Item(path, "text", f"{path}#L{number}", number, problem=f"{key}: {error}")
    if text_column != "text":
        values.pop("text", None)
    content: BytesSource | None = None
    if audio:
        member = members[audio[0]]
        content = (
            ByteRange(path, member.offset, member.size) if member.content is None else InMemoryBytes(member.content)
        )
    return row_item(path, Row(number, values, content, name), text_column, stat)


def _values(members: dict[str, Member]) -> dict[str, Any]:
    """Return the values in the .json and .txt of an example, as the columns of a manifest."""
    values: dict[str, Any] = {}
    if ".txt" in members:
        values["text"] = to_unicode((members[".txt"].content or b"").decode("utf-8", "replace").strip()) or None
    if ".json" in members:
        try:
            metadata = parse_object(members[".json"].content or b"", "its JSON", is_row=True)
        except FormatError as error:
            raise ValueError(str(error)) from error
        if isinstance(metadata.get("text"), list):  # the first of several captions
            metadata["text"] = next((text for text in metadata["text"] if isinstance(text, str)), None)
        values |= {_column(name): plain_value(value) for name, value in metadata.items()}
    # The recording is in the shard, wherever it came from.
    return {name: value for name, value in values.items() if name not in ("path", "url")}


def _column(name: str) -> str:
    """Return a key from JSON as a column name; names with a meaning of their own get the prefix "json_"."""
    name = to_unicode(name).replace(".", "_").replace("`", "_")
    is_taken = name in RESERVED_COLUMNS or name in ("start_s", "end_s") or name.startswith("_") or not name
    return f"json_{name}" if is_taken else name
