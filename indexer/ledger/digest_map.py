"""A hash table of 64-bit digests in flat arrays: tens of bytes for each of millions of items."""

from __future__ import annotations

import hashlib
import re
from array import array

_MIN_SLOTS = 1024


_HEX = re.compile(r"[0-9a-f]+")


def hex_digest(text: str) -> str:
    """Return the blake2b digest of `text` as 32 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest(text: str) -> int:
    """Return the first 64 bits of the digest of `text` as a number, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()[:8]) or 1


def short_digest(hex_digits: str) -> int:
    """Return the first 64 bits of hex digits as a number; 0 only if there are none.

    Text that is no hex digits, out of a damaged ledger, gets a number that no digest has but by chance.
    """
    if not hex_digits:
        return 0
    return int(hex_digits[:16], 16) or 1 if _HEX.fullmatch(hex_digits[:16]) else digest(hex_digits)


class DigestMap:
    """Maps a digest to `width` numbers of 64 bits. Several threads may read, one may write."""

    def __init__(self, width: int = 1):
        self._count = 0
        self._width = width
        self._allocate(_MIN_SLOTS)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return self._keys[self._slot(key)] != 0

    def get(self, key: int) -> tuple[int, ...] | None:
        """Return the numbers of `key`, or None if it is missing."""
        slot = self._slot(key)
        return tuple(column[slot] for column in self._columns) if self._keys[slot] else None

    def put(self, key: int, *values: int) -> None:
        """Set the numbers of `key`."""
        slot = self._slot(key)
        if not self._keys[slot]:
            self._count += 1
            self._keys[slot] = key
        for column, value in zip(self._columns, values, strict=True):
            column[slot] = value
        if 3 * self._count > 2 * len(self._keys):
            self._grow()

    def _slot(self, key: int) -> int:
        """Return the slot of `key`, or the free slot where it would be inserted."""
        keys, mask = self._keys, len(self._keys) - 1
        slot = key & mask
        while keys[slot] and keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _allocate(self, slots: int) -> None:
        self._keys = array("Q", bytes(8 * slots))
        self._columns = [array("Q", bytes(8 * slots)) for _ in range(self._width)]

    def _grow(self) -> None:
        keys, columns = self._keys, self._columns
        self._allocate(2 * len(keys))
        for old, key in enumerate(keys):
            if key:
                slot = self._slot(key)
                self._keys[slot] = key
                for column, before in zip(self._columns, columns, strict=True):
                    column[slot] = before[old]
