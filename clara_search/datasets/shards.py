"""Examples of WebDataset shards: of each key the recording, and the texts, labels and values that stand beside it.

An example that can be read in two ways is none: it has a problem that names its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.errors import FormatError
from clara_search.files.json_reader import parse_object
from clara_search.files.limits import ROW_BYTES
from clara_search.files.shards import Group, Member, Members, group_members

Recordings = Literal["read", "later", "none"]

_TEXT_KINDS = ("txt", "json", "cls")
_MAX_HELD = 1000
"""So many texts are held back until a recording follows; behind more, the shard counts as one of texts."""


@dataclass(frozen=True)
class ShardExample:
    """An example of a shard, or a problem of the shard.

    Attributes:
        key: Its key.
        name: Name of the member with its recording, its suffix in lower case; its key without one.
        audio: Its recording, None for a text alone.
        values: What stands beside it: the values of its .json, the text of its .txt as "text", the label of its .cls as
            "label".
        problem: Why it cannot be used.
        hides_more: Whether it stands for a part of the shard that cannot be read.
    """

    key: str
    name: str = ""
    audio: Member | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    hides_more: bool = False


def read_shard_examples(
    path: str | Path,
    audio_member: str | None = None,
    recordings: Recordings = "read",
    left_alone: Counter[str] | None = None,
) -> Iterator[ShardExample]:
    """Yield the examples of a shard in order.

    A key needs one recording. What ends in the suffix of a recording is one, so "0001.mix.wav" is the recording of key
    "0001". Where a key has several, `audio_member` chooses: "mix.wav" means the member with that suffix; "wav" means
    that each name ends with its key and ".wav", so that keys may have dots. A text without a recording is an example
    only in a shard that has none.

    Args:
        path: Path or URL of the shard.
        audio_member: Suffix of the recordings, without the dot before it; None: the only one of each key.
        recordings: Which recordings are read: all, only those that cannot be read "later", by their offset, or "none".
        left_alone: Counts the members of other kinds by suffix, and recordings that `audio_member` does not choose.

    Raises:
        FormatError: The file is no tar.
        SourceError: It cannot be read; `Unreachable` where it is a URL.
    """
    wanted = audio_member.strip("*.").lower() if audio_member else None
    held: list[ShardExample] | None = []
    is_of_recordings = False
    for group in group_members(path, _SKIPPED[recordings], left_alone):
        if left_alone is not None and group.problem is None:
            left_alone.update(suffix for suffix in group.members if not _is_used(suffix, wanted))
        for example in _examples(group, wanted):
            if example.problem is not None:
                yield example
            elif example.audio is not None:
                yield from map(_without_recording, held or ())
                held, is_of_recordings = [], True
                yield example
            elif is_of_recordings:
                yield _without_recording(example)
            elif held is None:
                yield example
            else:
                held.append(example)
                if len(held) > _MAX_HELD:
                    yield from held
                    held = None
    yield from held or ()


def _without_recording(example: ShardExample) -> ShardExample:
    problem = f"key {example.key!r}: has a text and no recording, in a shard of recordings"
    return ShardExample(example.key, problem=problem)


def _is_recording(suffix: str) -> bool:
    return f".{_kind(suffix)}" in AUDIO_SUFFIXES


_SKIPPED: Mapping[Recordings, Callable[[str, bool], bool] | None] = {
    "read": None,
    "later": lambda suffix, can_wait: can_wait and _is_recording(suffix),
    "none": lambda suffix, can_wait: _is_recording(suffix),
}


def _is_used(suffix: str, wanted: str | None) -> bool:
    """Tell whether a member is a recording that is wanted, or a text."""
    if not _is_recording(suffix):
        return _kind(suffix) in _TEXT_KINDS
    return wanted is None or suffix.endswith(f".{wanted}")


def _kind(suffix: str) -> str:
    return suffix.rpartition(".")[2]


def _stem(suffix: str) -> str:
    return suffix.rpartition(".")[0]


def _examples(group: Group, wanted: str | None) -> Iterator[ShardExample]:
    if group.problem is not None:
        yield ShardExample(group.key, problem=group.problem, hides_more=group.hides_more)
        return
    try:
        yield from list(_choose(group.key, group.members, wanted))
    except ValueError as error:
        yield ShardExample(group.key, problem=f"key {group.key!r}: {error}")


def _choose(key: str, members: Members, wanted: str | None) -> Iterator[ShardExample]:
    """Yield the recordings of a group with their texts. Raises ValueError where there are several readings."""
    audio = [suffix for suffix in members if _is_recording(suffix)]
    texts = [suffix for suffix in members if _kind(suffix) in _TEXT_KINDS]
    if not audio:
        if texts:
            yield ShardExample(key, key, None, _values(_texts_of(texts, members, {"", _stem(texts[0])}, set())))
        return
    chosen = audio if wanted is None else [suffix for suffix in audio if suffix.endswith(f".{wanted}")]
    listed = ", ".join(audio)
    if not chosen:
        raise ValueError(f"has no recording {wanted!r} (it has {listed})")
    if wanted is None and len(audio) > 1:
        raise ValueError(
            f"has {len(audio)} recordings ({listed}), since a key ends at the first dot of a name: name the one to use "
            f"by `audio_member`, such as {audio[0][1:]!r}, or what all of them end in, such as {_kind(audio[0])!r}, or "
            "give keys no dots"
        )
    for suffix in chosen:
        before = suffix[: -len(wanted) - 1] if wanted is not None else ""
        own = {before, _stem(suffix)} | ({""} if len(chosen) == 1 else set())
        others = {_stem(other) for other in audio if other != suffix}
        values = _values(_texts_of(texts, members, own, others - own))
        yield ShardExample(key + before, key + suffix, members[suffix], values)


def _texts_of(texts: list[str], members: Members, own: set[str], others: set[str]) -> dict[str, Member]:
    """Return the members with the texts of a recording, by kind.

    Args:
        texts: Suffixes of the texts of a group.
        members: Its members.
        own: What may stand before ".txt" in the suffix of a text of the recording.
        others: What stands there in that of a text of another recording.

    Raises:
        ValueError: Several texts may be meant, or one belongs to no recording.
    """
    mine = [suffix for suffix in texts if _stem(suffix) in own]
    if len({_kind(suffix) for suffix in mine}) < len(mine) or any(_stem(x) not in own | others for x in texts):
        raise ValueError(
            f"has {', '.join(texts)}, of which it is open what belongs to a recording: a key ends at the first dot of "
            "a name; give keys no dots, or say by `audio_member` what the names of all recordings end in"
        )
    return {_kind(suffix): members[suffix] for suffix in mine}


def _values(texts: Mapping[str, Member]) -> dict[str, Any]:
    """Return the values in the .json, .txt and .cls of an example. Raises ValueError where one is broken."""
    values: dict[str, Any] = {}
    for kind, member in texts.items():
        ROW_BYTES.check(member.size, f"its .{kind}", ValueError)
    if "json" in texts:
        try:
            values = parse_object(texts["json"].content or b"", "its JSON", is_row=True)
        except FormatError as error:
            raise ValueError(str(error)) from error
    if "txt" in texts and (text := _text(texts["txt"], "txt")):
        captions = values.get("text")
        captions = captions if isinstance(captions, list) else [captions] if captions else []
        captions = captions if text in captions else [*captions, text]
        values["text"] = captions[0] if len(captions) == 1 else captions
    if "cls" in texts and (label := _text(texts["cls"], "cls")):
        value = int(label) if label.isascii() and label.isdecimal() and str(int(label)) == label else label
        values["label" if values.get("label", value) == value else "cls"] = value
    return values


def _text(member: Member, kind: str) -> str:
    try:
        return (member.content or b"").decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"its .{kind} is not UTF-8 ({error.reason})") from error
