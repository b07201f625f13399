"""What a labelled or captioned recording is, whatever layout it came from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple


class ByteRange(NamedTuple):
    """Where the encoded bytes of a recording lie: in the file or URL `place`, `size` bytes from `offset`."""

    place: str
    offset: int
    size: int


@dataclass(frozen=True)
class Example:
    """One recording and what is known of it.

    Attributes:
        key: unique within its source.
        audio: a path, or the bytes of the encoded file (never samples).
        text: a transcript of speech or a caption of a sound.
        language: code of the language that is spoken; "zxx" where nobody speaks.
        text_language: code of the text's language; where it differs from `language`, the text is a gloss.
        kind: "speech", "sound" or "music".
        label: a short class such as "digit:7", where there is one.
        source: the collection it comes from.
        speaker: who speaks or plays, where known.
        licence: as the collection states it.
        split: "train", "valid" or "test", where the collection says.
        alternatives: further texts that say the same.
        stored: where the bytes of `audio` lie, when they come from a shard.
    """

    key: str
    audio: Path | bytes
    text: str
    language: str = "und"
    text_language: str = "und"
    kind: str = "sound"
    label: str | None = None
    source: str = ""
    speaker: str | None = None
    licence: str = ""
    split: str | None = None
    alternatives: tuple[str, ...] = ()
    stored: ByteRange | None = None


METADATA_FIELDS = tuple(field.name for field in fields(Example) if field.name not in ("key", "audio", "stored"))
"""The members of an Example that stand beside the audio in a manifest row or a shard's JSON."""
