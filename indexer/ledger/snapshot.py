"""What a ledger knew when a run began, small enough to be sent to worker processes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from indexer.ledger.digest_map import DigestMap, digest, hex_digest, short_digest
from indexer.sources.item import Item


class LedgerSnapshot:
    """Read-only snapshot of a ledger: about 50 bytes an item, picklable for worker processes.

    Args:
        items: stamp, signature and transcriber of each item, as digests.
        contents: the sorted contents that are done.
        retry_failed: whether failed items are tried again.
        spoken: the sorted contents of recordings that are transcribed; None: nothing is to be transcribed.
    """

    def __init__(
        self,
        items: DigestMap,
        contents: npt.NDArray[np.uint64],
        retry_failed: bool,
        spoken: npt.NDArray[np.uint64] | None = None,
    ):
        self._items = items
        self._contents = contents
        self._retry_failed = retry_failed
        self._spoken = spoken

    def is_untouched(self, item: Item, stamp: str) -> bool:
        """Tell whether the item is done and its file unchanged, so that it need not be read."""
        known = self._items.get(digest(item.key))
        is_same = bool(stamp) and known is not None and known[0] == short_digest(stamp) and known[1] != 0
        return is_same and not self.lacks_transcript(item)

    def would_fail_again(self, item: Item, stamp: str) -> bool:
        """Tell whether the item failed because of its file, and the file is unchanged."""
        known = self._items.get(digest(item.key))
        return not self._retry_failed and bool(stamp) and known is not None and known[:2] == (short_digest(stamp), 0)

    def is_done(self, item: Item, content_hash: str) -> bool:
        """Tell whether the item is done with this content and its present columns."""
        known = self._items.get(digest(item.key))
        return known is not None and known[1] == short_digest(signature(item, content_hash))

    def has_failed(self, item: Item) -> bool:
        """Tell whether the item failed in its last run."""
        known = self._items.get(digest(item.key))
        return known is not None and known[1] == 0

    def has_content(self, content_hash: str) -> bool:
        """Tell whether a recording or text with this content is done, under any URI."""
        return _holds(self._contents, content_hash)

    def has_transcript(self, content_hash: str) -> bool:
        """Tell whether a recording with this content is transcribed, under any URI."""
        return self._spoken is not None and _holds(self._spoken, content_hash)

    def lacks_transcript(self, item: Item) -> bool:
        """Tell whether the item is to be transcribed and is not yet."""
        if self._spoken is None or not item.lacks_text:
            return False
        known = self._items.get(digest(item.key))
        return known is None or known[2] == 0

    def __contains__(self, key: str) -> bool:
        return digest(key) in self._items


def _holds(contents: npt.NDArray[np.uint64], content_hash: str) -> bool:
    wanted = np.uint64(short_digest(content_hash))
    index = int(np.searchsorted(contents, wanted))
    return index < len(contents) and bool(contents[index] == wanted)


def signature(item: Item, content_hash: str) -> str:
    """Return a digest that changes with the content of an item or its columns."""
    return hex_digest(f"{content_hash} {item.details}")
