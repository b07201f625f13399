"""Transcripts: what a recording says, word by word, with the times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from clara_search.audio.windows import Window
from clara_search.store.schema import SPOKEN_WORDS

if TYPE_CHECKING:
    import pyarrow as pa

_TIME_DECIMALS = 3
_PROBABILITY_DECIMALS = 4


class Word(NamedTuple):
    """A word of a transcript.

    Attributes:
        word: as it is written, with the blank before it where the language has blanks.
        start_s: start in seconds from the start of the recording.
        end_s: end in seconds.
        probability: how probable the transcriber found it.
    """

    word: str
    start_s: float
    end_s: float
    probability: float

    def shifted(self, seconds: float) -> Word:
        """Return the word, later by `seconds`."""
        return self._replace(start_s=self.start_s + seconds, end_s=self.end_s + seconds)


@dataclass(frozen=True)
class Transcript:
    """What a recording, or a segment of one, says.

    Attributes:
        transcriber: name and fingerprint of the model.
        language: code of the language; None where nothing is said.
        words: the words by time.
    """

    transcriber: str
    language: str | None = None
    words: Sequence[Word] = ()

    @classmethod
    def of_rows(cls, transcriber: str, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Return the transcript in the rows of a recording."""
        words: set[Word] = set()
        language = None
        for row in rows:
            if row.get(SPOKEN_WORDS):
                language = row["language"]
                words.update(Word(**word) for word in row[SPOKEN_WORDS])
        return cls(transcriber, language, sorted(words, key=lambda word: (word.start_s, word.end_s)))

    def within(self, window: Window) -> dict[str, Any]:
        """Return `text`, `language` and the spoken words of a window's row: those whose middle is in the window."""
        words = [word for word in self.words if window.start_s <= (word.start_s + word.end_s) / 2 < window.end_s]
        text = "".join(word.word for word in words).strip()
        if not text:
            return {"text": None, "language": None, SPOKEN_WORDS: None}
        return {"text": text, "language": self.language, SPOKEN_WORDS: [_stored(word) for word in words]}


def _stored(word: Word) -> dict[str, Any]:
    return {
        "word": word.word,
        "start_s": round(word.start_s, _TIME_DECIMALS),
        "end_s": round(word.end_s, _TIME_DECIMALS),
        "probability": round(word.probability, _PROBABILITY_DECIMALS),
    }


def spoken_words_type() -> pa.DataType:
    """Return the type of the column of spoken words."""
    import pyarrow as pa

    times = {name: pa.float64() for name in ("start_s", "end_s", "probability")}
    return pa.list_(pa.struct([pa.field("word", pa.string()), *(pa.field(*field) for field in times.items())]))
