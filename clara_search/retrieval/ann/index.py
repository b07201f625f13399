"""Approximate indices over a table: FAISS, built on request, tuned to a measured recall, checked when loaded.

An index is derived: it lies in `_ann/<table>/` of the database, can be dropped and built again, and never changes what
is found but for its recall. It remembers the state of each row it covers; rows that were added or replaced since are
searched exactly and merged, rows that were replaced or deleted never come back from it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clara_search.errors import DatabaseError, QueryError
from clara_search.files import confined
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.faiss_engine import flat_index, ivf_index, search
from clara_search.retrieval.ann.files import (
    FORMAT_VERSION,
    META_FILE,
    MOST_META_BYTES,
    OWN_FILE,
    ROW_COLUMNS,
    AnnMeta,
    Kind,
    folder_of,
    meta_path,
    read_files,
    write_files,
)
from clara_search.retrieval.exact import RowPositions, cosines, rank_scores, top_k
from clara_search.retrieval.snapshot import ROW_ID, UPDATED_AT, Snapshot
from clara_search.store.table import Table

MEASURED_K = 10
"""Recall is measured at this many hits."""

_IVF_FROM_ROWS = 20_000  # below, comparing with every row takes a few milliseconds
_MEASURED_QUERIES = 256
_SEED = 0
_TIE = 1e-5  # scores this near are equal: two ways to multiply round differently


@dataclass(frozen=True)
class AnnStatus:
    """An index beside the table as it is now."""

    meta: AnnMeta
    covered: int
    added: int
    """Rows added or replaced since: they are searched exactly."""
    gone: int
    """Rows of the index that were replaced or deleted since."""

    def as_dict(self) -> dict[str, Any]:
        """Return what `ann status --json` prints."""
        meta = asdict(self.meta)
        del meta["checksums"]
        return {**meta, "covered": self.covered, "added": self.added, "gone": self.gone}


def build(table: Table, kind: Kind | Literal["auto"] = "auto", target_recall: float = 0.95) -> AnnStatus:
    """Build the index of `table`, in place of one that is there, and return its status.

    "flat" holds every vector and is exact; "ivf" looks into the nearest `nprobe` of its lists, with the smallest power
    of two that reaches `target_recall`; "auto" takes flat for small tables. Raises QueryError for an empty table.
    """
    if not 0 < target_recall <= 1:
        raise QueryError(f"the target recall must lie between 0 and 1, got {target_recall}")
    snapshot = Snapshot.read(table, vectors=True)
    vectors = snapshot.vectors
    assert vectors is not None
    if not len(snapshot):
        raise QueryError(f"table '{table.name}' is empty: there is nothing to build an index over")
    chosen: Kind = ("ivf" if len(snapshot) >= _IVF_FROM_ROWS else "flat") if kind == "auto" else kind
    index = ivf_index(vectors) if chosen == "ivf" else flat_index(vectors)
    queries = _held_out(snapshot)
    nprobe, recall = _tune(index, snapshot, queries, target_recall)
    rows = snapshot.columns.select(list(ROW_COLUMNS))
    folder = confined.make_folder(table.connection.path, folder_of(table))
    with table.connection.lock(f"_ann_{table.name}"):
        checksums = write_files(folder, index, rows)
        meta = AnnMeta(
            format_version=FORMAT_VERSION,
            kind=chosen,
            fingerprint=table.info.fingerprint,
            table_version=snapshot.version,
            rows=len(snapshot),
            lists=index.nlist if chosen == "ivf" else 0,
            nprobe=nprobe if chosen == "ivf" else 0,
            target_recall=target_recall,
            recall=recall,
            measured_with=snapshot.columns["kind"][int(queries[0])].as_py(),
            measured_queries=len(queries),
            checksums=checksums,
        )
        # The index exists from here on, whole: whoever reads sees the old one or the new one.
        written = folder / f"{uuid.uuid4().hex}.tmp"
        written.write_text(json.dumps(asdict(meta), indent=1), encoding="utf-8")
        confined.rename(table.connection.path, written, meta_path(table))
        confined.delete_files(table.connection.path, folder, OWN_FILE, keep={*checksums, META_FILE})
    return AnnStatus(meta, covered=len(snapshot), added=0, gone=0)


def status(table: Table) -> AnnStatus | None:
    """Return the status of the index of `table`, or None where it has none. Raises DatabaseError if it is damaged."""
    index = load(table)
    if index is None:
        return None
    coverage = index.coverage(Snapshot.read(table, vectors=False))
    covered = int((coverage.positions >= 0).sum())
    return AnnStatus(index.meta, covered, added=len(coverage.uncovered), gone=index.meta.rows - covered)


def drop(table: Table) -> bool:
    """Delete the index of `table`, damaged or not, and return whether there was one.

    Files that no index wrote stay, with a warning. Raises DatabaseError where the folder is, or holds, a link.
    """
    root, folder = table.connection.path, folder_of(table)
    if not confined.check_tree(root, folder).is_dir():
        return False
    with table.connection.lock(f"_ann_{table.name}"):
        confined.delete_file(root, meta_path(table))  # first: no index is there that lacks its files
        if not confined.delete_files(root, folder, OWN_FILE):
            confined.remove_folder(root, folder)
    return True


def version_token(table: Table) -> bytes | None:
    """Return what changes whenever the index of `table` is built or dropped; None where there is none."""
    return confined.read_bytes(table.connection.path, meta_path(table), MOST_META_BYTES)


def load(table: Table) -> AnnIndex | None:
    """Return the index of `table`, or None where it has none. Raises DatabaseError if it is damaged."""
    while (before := version_token(table)) is not None:
        try:
            return AnnIndex(*read_files(table, before))
        except DatabaseError:
            if version_token(table) == before:  # otherwise another process replaced it while it was read
                raise
    return None


@dataclass(frozen=True)
class Coverage:
    """How an index and a snapshot go together."""

    positions: RowPositions
    """For each row of the index its position in the snapshot, -1 where it was replaced or deleted."""
    uncovered: RowPositions
    """The positions in the snapshot that the index does not know."""


@dataclass(frozen=True)
class AnnIndex:
    """A FAISS index in memory and the rows it covers."""

    meta: AnnMeta
    faiss_index: Any
    rows: pa.Table

    def coverage(self, snapshot: Snapshot) -> Coverage:
        """Find each row of the index in `snapshot`, in the very state in which it was indexed."""
        positions = snapshot.positions(self.rows[ROW_ID].to_numpy().astype(np.int64))
        found = np.flatnonzero(positions >= 0)
        now = snapshot.columns.take(pa.array(positions[found]))
        then = self.rows.take(pa.array(found))
        # Id and content guard against another table of the same name, whose row ids begin again.
        for name in (UPDATED_AT, "id", "content_hash"):
            same = pc.equal(now[name], then[name]).to_numpy().astype(bool)
            positions[found[~same]] = -1
        is_covered = np.zeros(len(snapshot), dtype=bool)
        is_covered[positions[positions >= 0]] = True
        return Coverage(positions, np.flatnonzero(~is_covered))

    def search(
        self, queries: Embeddings, k: int, snapshot: Snapshot, coverage: Coverage
    ) -> list[tuple[RowPositions, npt.NDArray[np.float64]]]:
        """Return the positions in `snapshot` of the best `k` for each of `queries` (q, d), best first, and scores.

        `snapshot` needs its vectors where `coverage` leaves rows uncovered.
        """
        labels, scores = self._nearest(queries, k, coverage.positions >= 0)
        if len(coverage.uncovered):
            assert snapshot.vectors is not None
            added = cosines(queries, snapshot.vectors[coverage.uncovered])
        else:
            added = np.zeros((len(queries), 0), dtype=np.float32)
        results = []
        for label, score, added_score in zip(labels, scores, added, strict=True):
            real = label >= 0
            positions = np.concatenate([coverage.positions[label[real]], coverage.uncovered])
            results.append(rank_scores(positions, np.concatenate([score[real], added_score]), k, snapshot.order))
        return results

    def _nearest(
        self, queries: Embeddings, k: int, live: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        wanted = min(k, int(live.sum()))
        if not wanted:
            return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        among = None if live.all() else live
        scores, labels = search(self.faiss_index, queries, wanted, self.meta.nprobe, among)
        short = np.flatnonzero((labels < 0).any(axis=1))
        if len(short):  # the probed lists hold fewer than k rows: look into all
            scores[short], labels[short] = search(self.faiss_index, queries[short], wanted, self.meta.lists, among)
        return labels, scores


def _held_out(snapshot: Snapshot) -> RowPositions:
    """Return the positions of the rows to measure recall with: texts where there are any, for people ask in words.

    Text and audio lie in different parts of the space, and an index that finds the neighbours of recordings can miss
    those of texts.
    """
    texts = np.flatnonzero(snapshot.kind_is("text"))
    pool = texts if len(texts) else np.arange(len(snapshot))
    generator = np.random.default_rng(_SEED)
    return np.sort(generator.choice(pool, size=min(_MEASURED_QUERIES, len(pool)), replace=False))


def _tune(index: Any, snapshot: Snapshot, held_out: RowPositions, target_recall: float) -> tuple[int, float]:
    """Return the smallest power of two for nprobe that reaches the target, and recall@10 with it.

    A query is a row of the table: it finds itself, which says nothing, so it is left out of both answers. What scores
    as high as the last of the exact answer is as good as it: which of two equal rows is found decides nothing.
    """
    vectors = snapshot.vectors
    assert vectors is not None
    queries = vectors[held_out]
    k = min(MEASURED_K + 1, len(snapshot))
    exact = top_k(queries, vectors, k, snapshot.order)
    truth = [scores[found != own] for (found, scores), own in zip(exact, held_out.tolist(), strict=True)]
    lists = getattr(index, "nlist", 1)
    nprobe = 1
    while True:
        answers = zip(*search(index, queries, k, nprobe), truth, held_out.tolist(), strict=True)
        shares = [
            min(np.sum(scores[(labels >= 0) & (labels != own)] >= true.min() - _TIE) / len(true), 1.0)
            for scores, labels, true, own in answers
            if len(true)
        ]
        recall = float(np.mean(shares)) if shares else 1.0
        if recall >= target_recall or nprobe >= lists:
            return nprobe, recall
        nprobe = min(nprobe * 2, lists)
