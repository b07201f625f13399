"""Names of files as people spell them, and as the file system does."""

from __future__ import annotations

import os
import unicodedata


def existing_spelling(path: str) -> str:
    """Return how a file is spelt that `path` means: with composed or decomposed accents, with slashes of either kind.

    Only a path with such characters is looked up; it is returned as it is if nothing is there under any spelling.
    """
    if path.isascii() and "\\" not in path:
        return path
    if "://" in path or os.path.lexists(path):
        return path
    slashes = path.replace("\\", "/")
    for spelling in (
        *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")),
        *(slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes)),
    ):
        if os.path.lexists(spelling):
            return spelling
    return path
