"""Examples: labelled or captioned recordings, whatever layout they come from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from clara_search.files.shards import ByteRange


@dataclass(frozen=True)
class Example:
    """A recording, or a segment of one, with its text and metadata.

    Attributes:
        key: Unique within its source.
        audio: A path, a URL, or the bytes of the encoded file (never samples).
        text: Transcript of speech or caption of a sound.
        language: Code of the language that is spoken; "zxx" for none.
        text_language: Code of the text's language; where it differs from `language`, the text is a gloss.
        kind: "speech", "sound" or "music".
        label: A short class such as "digit:7", or None.
        source: Name of the collection it comes from.
        speaker: Name of the speaker or player, or None.
        licence: Licence, in the collection's words.
        split: "train", "valid" or "test", or None where the collection has no splits.
        alternatives: Further texts of the same meaning.
        stored: The part of a shard that holds the bytes of `audio`, or None.
        start_s: Start of the segment in seconds, None for the start of the recording.
        end_s: End of the segment in seconds, None for the end of the recording.
    """

    key: str
    audio: Path | str | bytes
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
    start_s: float | None = None
    end_s: float | None = None


_OF_THE_RECORDING = ("key", "audio", "stored", "start_s", "end_s")
METADATA_FIELDS = tuple(field.name for field in fields(Example) if field.name not in _OF_THE_RECORDING)
"""Fields of an `Example` that stand beside the audio in a manifest's row or a shard's JSON."""
