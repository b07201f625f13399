"""Patterns with `*`, `?`, `[...]` and `**`, on this machine and in stores."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import has_magic

from clara_search.errors import ClaraError, SourceError
from clara_search.files.gate import RefusedUri, admit_entry
from clara_search.files.listing import FolderEntry, list_folder
from clara_search.files.paths import is_url, normalize_path
from clara_search.files.redact import without_credentials
from indexer.sources.formats.folder import listing_error, refresh_listing, unlisted_item, unnamed_item
from indexer.sources.item import Item


class Pattern:
    """A path or URL with `*`, `?` and `[...]` in its parts; `**` stands for any number of folders.

    Attributes:
        base: the folder or URL that holds all matches.
    """

    def __init__(self, pattern: str):
        self._pattern = normalize_path(pattern)
        head, self._separator, self._tail = self._pattern.partition("::")
        parts = head.split("/")
        first = next(number for number, part in enumerate(parts) if has_magic(part))
        base = "/".join(parts[:first])
        # If the first part is magic, "s3:/" is left of "s3://*", and nothing of "/*".
        self._prefix = without_credentials(f"{base}/")
        self._public_tail = without_credentials(self._tail)
        self.base = (base if first > (2 if is_url(pattern) else 1) else f"{base}/") + self._separator + self._tail
        self._parts = parts[first:]

    @classmethod
    def parse(cls, name: str) -> Pattern | None:
        """Return the pattern that `name` is, or None if it names one file or folder.

        In a URL `?` and `[...]` stand for themselves, unless it has a `*` too.
        """
        head = name.partition("::")[0]
        return cls(name) if (("*" in head) if is_url(name) else has_magic(name)) else None

    def matches(self, name: str) -> bool:
        """Tell whether the pattern matches a path or URL (without credentials), also of a file that is gone."""
        head, _, tail = name.partition("::")
        if tail != self._public_tail or not head.startswith(self._prefix):
            return False
        *folders, last = head.removeprefix(self._prefix).split("/")
        states = self._start()
        for folder in folders:
            states = self._after(states, folder)
        return self._is_match(states, last, is_folder=False)

    def expand(self) -> list[str | Item]:
        """Return the matching paths or URLs, sorted, then an item with a problem for each folder that hides some.

        Raises:
            SourceError: nothing matches, or `base` cannot be listed.
        """
        if is_url(self.base):
            refresh_listing(self.base)
        matches, problems = list[str](), list[Item]()
        waiting = [(self.base, self._start())]
        while waiting:
            folder, states = waiting.pop()
            try:
                entries = list_folder(folder)
            except (OSError, ClaraError) as error:
                if folder == self.base and isinstance(error, FileNotFoundError) and not is_url(folder):
                    break
                if folder == self.base:
                    raise listing_error(folder, error) from error
                problems.append(unlisted_item(self._pattern, folder, error))
                continue
            for entry in entries:
                if not entry.name:
                    problems.append(unnamed_item(self._pattern, entry))
                    continue
                is_match = self._is_match(states, entry.name, entry.is_folder)
                deeper = self._after(states, entry.name) if entry.is_folder else None
                if not (is_match or deeper):
                    continue
                try:
                    path = admit_entry(folder, entry.name)
                except RefusedUri as error:
                    problems.append(Item(self._pattern, "audio", entry.path, problem=str(error)))
                    continue
                if is_match:
                    matches.append(path)
                if deeper and not _leads_back(folder, entry):
                    waiting.append((path, deeper))
        if not matches and not problems:
            raise SourceError(f"no file matches {self._pattern!r}")
        return [*sorted(matches), *problems]

    def _start(self) -> frozenset[int]:
        return self._with_skipped({0})

    def _after(self, states: frozenset[int], folder: str) -> frozenset[int]:
        """Return the parts that may come next below a folder of this name, which `states` may match."""
        return self._with_skipped(
            {state if self._parts[state] == "**" else state + 1 for state in states if self._fits(state, folder)}
        )

    def _with_skipped(self, states: set[int]) -> frozenset[int]:
        """Return the `states` that are parts, with the parts after a `**`, which also stands for no folder."""
        for state, part in enumerate(self._parts[:-1]):
            if part == "**" and state in states:
                states.add(state + 1)
        return frozenset(state for state in states if state < len(self._parts))

    def _is_match(self, states: frozenset[int], name: str, is_folder: bool) -> bool:
        last = len(self._parts) - 1
        # Below "**" the files are enough.
        return last in states and self._fits(last, name) and not (is_folder and self._parts[last] == "**")

    def _fits(self, state: int, name: str) -> bool:
        part = self._parts[state]
        if name.startswith(".") and not part.startswith("."):
            return False
        return part == "**" or fnmatchcase(name, part)


def _leads_back(folder: str, entry: FolderEntry) -> bool:
    """Tell whether an entry is a link to a folder that contains it."""
    if not entry.is_link or is_url(folder):
        return False
    target = os.path.realpath(entry.path)
    return f"{os.path.realpath(folder)}/".startswith(f"{target}/")
