"""Pruning: remove the rows of recordings that are gone from the sources, after a complete listing only."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from clara_search.errors import ClaraError
from clara_search.files.paths import is_missing, is_url
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap
from indexer.ledger.entry import LedgerEntry
from indexer.ledger.ledger import Ledger
from indexer.ledger.reconcile import Orphans
from indexer.write.scope import PruneScope

_REQUEST_THREADS = 16
_MAX_UNANSWERED = 16
"""Number of failed requests after which no further request is sent to a store."""


@dataclass
class Listing:
    """The items that a run listed.

    Attributes:
        keys: digests of the items' keys.
        sources: the sources of the items.
        unlisted: number of folders and shards that could not be listed to their end.
    """

    keys: DigestMap = field(default_factory=lambda: DigestMap(1))
    sources: set[str] = field(default_factory=set)
    unlisted: int = 0


@dataclass(frozen=True)
class PruneResult:
    """The result of pruning.

    Attributes:
        rows: number of rows removed.
        unanswered: number of recordings that stay because their store did not answer.
    """

    rows: int = 0
    unanswered: int = 0


def prune_rows(
    corpus: Table, ledger: Ledger, orphans: Orphans, scope: PruneScope, listing: Listing, failures_only: bool = False
) -> PruneResult:
    """Remove rows and ledger entries of items in `scope` that were not listed, or only the failed ones among them.

    After an incomplete listing nothing is removed. A file that vanished from a folder or a store must also be missing
    when it is requested by name.

    Args:
        corpus: the table to remove rows from.
        ledger: its ledger, whose entries go with the rows.
        orphans: row ids by URI of rows that have no ledger entry.
        scope: the sources that this run may prune.
        listing: the items of this run.
        failures_only: whether only entries of failed items without rows are removed.

    Raises:
        SourceError: a folder or store is unreachable as a whole.
    """
    if listing.unlisted:
        return PruneResult()
    proofs = dict[str, list[LedgerEntry]]()
    for entry in ledger.unlisted(listing.keys):
        if not failures_only or (entry.failed and not entry.windows):
            proof = scope.proof_of_absence(entry)
            if proof is not None:
                proofs.setdefault(proof, []).append(entry)
    lost = dict[str, list[str]]()
    for uri, ids in orphans.items() if not failures_only else ():
        if scope.covers(uri) and (url := scope.url_of(uri)) is not None:
            lost[url] = ids
    gone = proofs.pop("", [])
    absent, unanswered = _find_missing({*proofs, *lost})
    gone += [entry for proof, entries in proofs.items() if proof in absent for entry in entries]
    # An entry without rows can go without an answer.
    gone += [entry for proof in unanswered & proofs.keys() for entry in proofs[proof] if not entry.windows]
    remaining = {proof for proof in unanswered if proof in lost or any(entry.windows for entry in proofs[proof])}
    ids = [id_ for entry in gone for id_ in entry.row_ids]
    ids += [id_ for url, rows in lost.items() if url in absent for id_ in rows]
    if not failures_only:
        scope.check_listed((entry.file for entry in gone), listing.sources)
    scope.check()  # the files of an unmounted folder only look gone
    if any(is_url(proof) for proof in absent):
        scope.check_stores()
    with corpus.connection.commit_lock(corpus.name):
        removed = corpus.delete_ids(ids)
        ledger.forget([entry.key for entry in gone])
    return PruneResult(removed, len(remaining))


def _find_missing(paths: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return those of `paths` that are missing, and those whose store did not answer."""
    unanswered, urls = set[str](), list[str]()

    def check(path: str) -> bool:
        try:
            return is_missing(path)
        except (OSError, ValueError, ClaraError):  # ValueError: a NUL in the name
            unanswered.add(path)
            return False

    def check_store(url: str) -> bool:
        if len(unanswered) < _MAX_UNANSWERED:
            return check(url)
        unanswered.add(url)
        return False

    absent = set[str]()
    for path in paths:
        if is_url(path):
            urls.append(path)
        elif check(path):
            absent.add(path)
    if urls:
        with ThreadPoolExecutor(_REQUEST_THREADS) as threads:
            absent.update(url for url, is_absent in zip(urls, threads.map(check_store, urls), strict=True) if is_absent)
    return absent, unanswered
