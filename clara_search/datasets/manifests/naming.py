"""Finding out which column of a manifest is what: named by the user, or recognised by its name and its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clara_search.audio.decode.formats import SNIFF_BYTES, looks_like_audio
from clara_search.datasets.manifests.columns import Layout, ManifestColumns
from clara_search.datasets.manifests.names import (
    DURATION_NAMES,
    END_NAMES,
    MAYBE_PATH_NAMES,
    NAMELESS,
    NUMBERED_TEXT,
    PATH_NAMES,
    SPOKEN_NAMES,
    START_NAMES,
    STEM_NAMES,
    TEXT_NAMES,
    are_audio_names,
    are_texts,
    are_times,
    sample,
    squash,
)
from clara_search.errors import ConfigError
from clara_search.files.tables import Block, Cell
from clara_search.files.tables.columnar import is_audio_struct, is_binary
from clara_search.files.tables.samples import Samples

if TYPE_CHECKING:
    import pyarrow as pa

Say = Callable[[str], None]
"""Called with a line about a manifest that its user should know."""


class Naming:
    """What the columns of one manifest are. What one block shows holds for the later ones.

    Args:
        where: The manifest, for messages.
        columns: What the user named.
        say: Called once with each line.
        are_stems: Tells whether values are names of recordings without their suffix.
    """

    def __init__(
        self, where: str, columns: ManifestColumns, say: Say, are_stems: Callable[[Sequence[Any]], bool] | None = None
    ) -> None:
        self._are_stems = are_stems
        self._where = where
        self._columns = columns
        self._say = say
        self._said = set[str]()
        self._layouts = dict[tuple[str, ...], Layout]()
        self._paths: tuple[str, ...] = ()
        self._contents = set[str]()
        self._binary = set[str]()
        self._texts: tuple[str, ...] = ()
        self.names = dict[str, None]()
        """All columns, as renamed, in order."""
        self.suspects = dict[str, str]()
        """Columns of other names that hold names of audio files, each with one of them."""

    @property
    def has_recordings(self) -> bool:
        """Whether a column names or holds recordings."""
        return bool(self._contents or not {*self._paths}.isdisjoint(self.names))

    @property
    def has_texts(self) -> bool:
        """Whether a column holds texts."""
        return not {*self._texts}.isdisjoint(self.names)

    def layout(self, block: Block) -> Layout:
        """Return what the columns of a block are, judging by some of its rows.

        Raises:
            ConfigError: Several columns could name the recordings.
        """
        known = self._layouts.get(block.names)
        if known is not None and (known.paths or known.contents or not self._may_be_found(block.names)):
            return known
        layout = self._find(self._rename(block.names), block)
        self._layouts[block.names] = layout
        return layout

    def tell(self, line: str) -> None:
        """Say a line about the manifest, once."""
        if line not in self._said:
            self._said.add(line)
            self._say(f"{self._where}: {line}")

    def check_named(self) -> None:
        """Raise ConfigError if the manifest lacks a column that the user named."""
        named = (("path_column", self._columns.path), ("text_column", self._columns.text))
        missing = [(option, name) for option, name in named if name and name not in self.names]
        missing += [("columns", old) for new, old in self._columns.renamed.items() if new not in self.names]
        if missing:
            option, name = missing[0]
            listed = ", ".join(self.names) or "none"
            raise ConfigError(f"{self._where}: has no column '{name}', as `{option}` says (it has {listed})")

    def _may_be_found(self, names: tuple[str, ...]) -> bool:
        """Tell whether a later block may show that a column is recordings after all."""
        return any(squash(name) in MAYBE_PATH_NAMES for name in names) or bool(self._binary.intersection(names))

    def _rename(self, names: tuple[str, ...]) -> tuple[str, ...]:
        new_names = {old: new for new, old in self._columns.renamed.items()}
        renamed = [new_names.get(name, "" if NAMELESS.fullmatch(name) else name) for name in names]
        for position, name in enumerate(renamed):
            if name in self._columns.renamed and names[position] == name:  # its name is another column's now
                renamed[position] = f"source_{name}"
                self.tell(f"the column '{name}' is kept as 'source_{name}'")
        if ignored := [name for name, new in zip(names, renamed, strict=True) if not new]:
            self.tell(f"{len(ignored)} column(s) without a name ({', '.join(map(repr, ignored))}) ignored")
        self.names.update(dict.fromkeys(filter(None, renamed)))
        return tuple(renamed)

    def _find(self, names: tuple[str, ...], block: Block) -> Layout:
        samples = {name: sample(block.rows, position) for position, name in enumerate(names) if name}
        position_of = {name: position for position, name in enumerate(names) if name}
        if self._columns.path != "":
            self._find_contents(samples, dict(zip(names, block.types or (), strict=False)))
            self._find_paths(samples)
        self._find_texts(samples)
        of = {name: [position_of[name]] for name in names if name}
        paths = [position for name in self._paths for position in of.get(name, ())]
        contents = [position_of[name] for name in names if name in self._contents]
        texts = [position for name in self._texts for position in of.get(name, ())]
        language = next((position_of[name] for name in names if name.lower() == "language"), None)
        start, end, duration = self._find_segment(samples, position_of)
        used = {*paths, *contents, *texts, language, start, end}
        further = [(position, name) for position, name in enumerate(names) if name and position not in used]
        further = [(position, name) for position, name in further if name not in self._binary]
        return Layout(tuple(paths), tuple(contents), tuple(texts), language, start, end, duration, tuple(further))

    def _find_contents(self, samples: Mapping[str, Sequence[Any]], types: Mapping[str, pa.DataType]) -> None:
        """Find the columns that hold recordings, and those that hold other bytes."""
        decoded = [name for name, values in samples.items() if any(isinstance(value, Samples) for value in values)]
        self._contents.update(name for name in decoded if self._columns.path in (None, name))
        self._binary.update(name for name in decoded if name not in self._contents)
        for name, kind in types.items():
            if name in self._contents or not (is_audio_struct(kind) or is_binary(kind)):
                continue
            cells = [value for value in samples.get(name, ()) if isinstance(value, Cell)]
            is_recording = is_audio_struct(kind) or any(looks_like_audio(cell.head(SNIFF_BYTES)) for cell in cells[:4])
            if is_recording and self._columns.path in (None, name):
                self._contents.add(name)
                self._binary.discard(name)
                continue
            self._binary.add(name)
            if cells:
                self.tell(f"the column '{name}' holds bytes that are no audio, and is left out")
        if len(self._contents) > 1:
            listed = " and ".join(map(repr, sorted(self._contents)))
            raise ConfigError(
                f"{self._where}: the columns {listed} each hold recordings: choose one with `path_column`"
            )

    def _find_paths(self, samples: Mapping[str, Sequence[Any]]) -> None:
        if self._contents:  # a name beside a recording is where it came from
            self._paths = ("path",)
            return
        if self._columns.path is not None:
            self._paths = (self._columns.path,)
            return
        if self._paths:
            return
        squashed = {name: squash(name) for name in samples}
        shown = [name for name, values in samples.items() if are_audio_names(values)]
        candidates = [name for name, short in squashed.items() if short in PATH_NAMES]
        candidates += [name for name in shown if squashed[name] in MAYBE_PATH_NAMES]
        if not candidates and self._are_stems is not None:
            named = (*MAYBE_PATH_NAMES, *STEM_NAMES)
            candidates = [n for n, short in squashed.items() if short in named and self._are_stems(samples[n])]
            shown += candidates
        if "path" in candidates:
            self._paths = ("path", *(["url"] if "url" in candidates else []))
        elif len(candidates) > 1:
            likely = [name for name in candidates if name in shown]
            if len(likely) != 1:
                listed = " and ".join(map(repr, likely or candidates))
                raise ConfigError(
                    f"{self._where}: the columns {listed} could each name the recordings: choose one with `path_column`"
                )
            self._paths = tuple(likely)
        else:
            self._paths = tuple(candidates)
        others = [name for name in candidates if name not in self._paths]
        if others:
            kept = ", ".join(map(repr, others))
            self.tell(f"recordings are named by the column '{self._paths[0]}'; {kept} is kept beside it")
        for name in shown if not self._paths else ():
            self.suspects.setdefault(name, next(filter(None, samples[name])))

    def _find_texts(self, samples: Mapping[str, Sequence[Any]]) -> None:
        if self._columns.text is not None:
            self._texts = (self._columns.text,)
            return
        if self._texts:
            return
        free = {name: squash(name) for name in samples if name not in self._paths and name not in self._contents}
        free = {name: short for name, short in free.items() if are_texts(samples[name]) or short in SPOKEN_NAMES}
        candidates = [name for name, short in free.items() if short in TEXT_NAMES]
        candidates.sort(key=lambda name: (name != "text", TEXT_NAMES.index(free[name])))
        numbered = [name for name, short in free.items() if NUMBERED_TEXT.fullmatch(short)]
        if len(numbered) > 1 and "text" not in candidates:
            self._texts = tuple(numbered)
            return
        self._texts = tuple(candidates[:1])
        if len(candidates) > 1:
            others = ", ".join(map(repr, candidates[1:]))
            self.tell(f"the texts are in the column '{candidates[0]}'; {others} is kept beside it (`text_column`)")

    def _find_segment(
        self, samples: Mapping[str, Sequence[Any]], position_of: Mapping[str, int]
    ) -> tuple[int | None, int | None, int | None]:
        """Return the positions of a segment's start, end and duration.

        `start_s`, `end_s` and `offset` count alone. Other names are a segment only in pairs, beside a recording, and
        if they hold numbers: `start` alone is often a time in another recording.
        """
        start, end, duration = position_of.get("start_s"), position_of.get("end_s"), None
        if start is not None or end is not None or not self.has_recordings:
            return start, end, None
        times = {squash(name): name for name, values in reversed([*samples.items()]) if are_times(values)}
        start_name = next((times[name] for name in START_NAMES if name in times), None)
        end_name = next((times[name] for name in END_NAMES if name in times), None)
        duration_name = next((times[name] for name in DURATION_NAMES if name in times), None)
        if start_name is None or (end_name is None and duration_name is None and squash(start_name) != "offset"):
            return None, None, None
        start = position_of[start_name]
        if end_name is not None:
            end = position_of[end_name]
        elif duration_name is not None:
            duration = position_of[duration_name]
        return start, end, duration
