"""WebDataset shards: tar files whose members with one key, the name up to its first dot, are one example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clara_search.datasets.shards import Recordings, ShardExample, read_shard_examples
from clara_search.errors import ClaraError
from clara_search.files.paths import FileStat, is_url, stat_file
from clara_search.files.shards import SHARD_SUFFIXES, ByteRange, BytesSource, Member, is_shard
from clara_search.files.tables import Row
from indexer.sources.base import Selection, SourceReader
from indexer.sources.columns import ColumnType, value_type, widen
from indexer.sources.item import InMemoryBytes, Item, Survey
from indexer.sources.row import row_item


class ShardReader(SourceReader):
    """WebDataset shards; a recording is named as fsspec opens it, `tar://KEY.flac::SHARD`.

    A recording in a local, plain shard is read when its turn comes; at a URL, or in a compressed one, it is taken from
    the stream.
    """

    suffixes = frozenset(SHARD_SUFFIXES)

    def accepts(self, path: str) -> bool:
        """Tell whether a file or URL has the name of a shard."""
        return is_shard(path)

    def survey(self, path: str, selection: Selection) -> Survey:
        """Count the examples of a shard of this machine and type their further columns, without their recordings."""
        if is_url(path):
            return Survey(None, {})
        count, types = 0, dict[str, ColumnType]()
        for item in self._items(path, selection, "none"):
            count += 1
            for name, value in item.columns.items():
                widen(types, name, value_type(value))
        return Survey(count, types)

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the examples of a shard: a recording with what stands beside it, or a text alone.

        An example that is ambiguous, and a part of the shard that cannot be read, is an item with a problem.
        """
        yield from self._items(path, selection, "read" if is_url(path) else "later")

    def _items(self, path: str, selection: Selection, recordings: Recordings) -> Iterator[Item]:
        stat = stat_file(path)
        number = 0
        try:
            examples = read_shard_examples(path, selection.audio_member, recordings, selection.left_alone)
            for number, example in enumerate(examples, start=1):
                yield _item(path, number, example, stat, selection)
        except ClaraError as error:
            problem = str(error).removeprefix(f"{path}: ")
            yield Item(path, "text", f"{path}#L{number + 1}", number + 1, problem=problem, hides_more=True)


def _item(path: str, number: int, example: ShardExample, stat: FileStat, selection: Selection) -> Item:
    if example.problem is not None:
        uri = f"{path}#L{number}"
        return Item(path, "text", uri, number, problem=example.problem, hides_more=example.hides_more)
    content = None if example.audio is None else _content(path, example.audio)
    row = Row(number, _own_names(example.values), content, f"tar://{example.name}::{path}")
    return row_item(path, row, selection.columns, stat, selection.column_types)


def _content(path: str, audio: Member) -> BytesSource | InMemoryBytes:
    if audio.content is not None or audio.offset is None:
        return InMemoryBytes(audio.content or b"")
    return ByteRange(path, audio.offset, audio.size)


def _own_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an example, where names of recordings and segments are the source's own.

    The recording is in the shard, wherever it came from, and whole, whatever it was cut from.
    """
    taken = ("path", "url", "start_s", "end_s")
    return {f"source_{name}" if name in taken else name: value for name, value in values.items()}
