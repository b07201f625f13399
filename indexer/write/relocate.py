"""Relocation: recordings that were moved, named anew in a table and its ledger, without embedding them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from clara_search.errors import DatabaseError
from clara_search.files.paths import normalize_path, split_member
from clara_search.files.redact import without_credentials
from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.filters import sql_string
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap, digest
from indexer.ledger.ledger import Ledger
from indexer.ledger.reconcile import open_ledger
from indexer.write.kept import renamed_id, renamed_rows


@dataclass(frozen=True)
class RelocateResult:
    """Counts of a relocation.

    Attributes:
        rows: Rows with another name, or that would have one.
        items: Entries of the ledger with another name or source.
        present: Rows among them that were there under their new name already, with the same content: one of each stays.
        old: A name among them, as it was.
        new: That name, as it is now.
    """

    rows: int = 0
    items: int = 0
    present: int = 0
    old: str = ""
    new: str = ""


@dataclass(frozen=True)
class Prefix:
    """A path or URL, and the one that takes its place at the front of names."""

    old: str
    new: str

    @classmethod
    def parse(cls, old: str | Path, new: str | Path) -> Prefix:
        """Return the prefix of two paths or URLs, made absolute and without credentials.

        Raises:
            DatabaseError: They are equal, or `new` is in `old`.
        """
        prefix = cls(*(without_credentials(normalize_path(path)) for path in (old, new)))
        if prefix.old == prefix.new:
            raise DatabaseError(f"{prefix.old}: is relocated to itself")
        if prefix.move(prefix.new) is not None:
            raise DatabaseError(f"{prefix.new}: is in {prefix.old}: relocate to a name outside first, and from there")
        return prefix

    def move(self, name: str) -> str | None:
        """Return the new name of a recording, text or source; None for one that is not below the old path."""
        if (member := split_member(name)) is not None:
            shard = self._move(member[1])
            return None if shard is None else f"tar://{member[0]}::{shard}"
        return self._move(name)

    def where(self, column: str) -> str:
        """Return an SQL filter of the rows whose `column` `move` changes."""
        inside = [f"{column} = {sql_string(self.old)}"]
        inside += [f"starts_with({column}, {sql_string(self.old + follower)})" for follower in self._followers]
        shards = [f"ends_with({column}, {sql_string(f'::{self.old}')})"]
        shards += [f"strpos({column}, {sql_string(f'::{self.old}{follower}')}) > 0" for follower in self._followers]
        return f"({' OR '.join(inside)} OR (starts_with({column}, 'tar://') AND ({' OR '.join(shards)})))"

    @property
    def _followers(self) -> tuple[str, ...]:
        """What may stand behind the path in the name of a file of the folder, or a line of the manifest."""
        return ("",) if self.old.endswith("/") else ("/", "#")

    def _move(self, name: str) -> str | None:
        if name == self.old:
            return self.new
        if not name.startswith(tuple(self.old + follower for follower in self._followers)):
            return None
        rest = name.removeprefix(self.old)
        return self.new.rstrip("/") + ("" if rest.startswith(("/", "#")) else "/") + rest


def relocate_rows(
    database: Database | str | Path,
    old: str | Path,
    new: str | Path,
    table: str = DEFAULT_TABLE,
    *,
    dry_run: bool = False,
) -> RelocateResult:
    """Name the recordings and texts below `old` as those below `new`, where they are now; vectors stay as they are.

    A relocation that was killed is completed by the same call. Neither path is opened.

    Args:
        database: The database, its folder or its URL.
        old: The path or URL of a folder, file, manifest or shard, as it was when it was indexed.
        new: Its path or URL now.
        table: Name of the table.
        dry_run: Count only.

    Returns:
        The counts.

    Raises:
        DatabaseError: Nothing of the table is below `old`, or another recording has a name that one of them would get.
    """
    prefix = Prefix.parse(old, new)
    database = database if isinstance(database, Database) else Database(database)
    corpus = database.table(table)
    if corpus.info.relative_to:
        raise DatabaseError(
            f"table '{table}' has names relative to {corpus.info.relative_to!r} from the database: move both together"
        )
    open_ledger(database, corpus)  # completes what was killed
    with database.commit_lock(table):
        ledger = Ledger(database, corpus)
        result, present = _check(corpus, ledger, prefix)
        if dry_run:
            return result
        # In this order: entries without their rows are mended when the ledger is opened, wherever this is killed.
        ledger.relocate(f"{prefix.where('uri')} OR {prefix.where('source')}", prefix.move)
        for batch in corpus.pin().batches(corpus.schema.names, prefix.where("uri")):
            rows = renamed_rows(pa.Table.from_batches([batch]), lambda uri: prefix.move(uri) or uri)
            corpus.upsert(rows.filter([digest(id_) not in present for id_ in rows["id"].to_pylist()]))
        corpus.delete_where(prefix.where("uri"))
        ledger.forget_where(prefix.where("uri"))
        return result


def _check(corpus: Table, ledger: Ledger, prefix: Prefix) -> tuple[RelocateResult, DigestMap]:
    """Return what would be moved, and the ids of rows that are there already, from which nothing has to be moved.

    Raises:
        DatabaseError: Something else is in the way, or there is nothing to move.
    """
    contents, present = DigestMap(1), DigestMap(0)
    rows, items, example = 0, 0, ("", "")
    for batch in corpus.batches(["id", "uri", "start_s", "end_s", "content_hash"], prefix.where("uri")):
        for row in batch.to_pylist():
            moved = prefix.move(row["uri"])
            if moved is None or prefix.move(moved) is not None:
                raise DatabaseError(f"{row['uri']}: lies in {prefix.old} more than once: relocate a deeper folder")
            new_id = renamed_id(row["id"], row["uri"], moved, (row["start_s"], row["end_s"]))
            contents.put(digest(new_id), digest(row["content_hash"]))
            example = example if rows else (row["uri"], moved)
            rows += 1
    for entry in ledger.scan(f"{prefix.where('uri')} OR {prefix.where('source')}"):
        items += 1
        if (moved := prefix.move(entry.uri)) is None and prefix.move(entry.source) is None:
            raise DatabaseError(f"{entry.uri}: lies in {prefix.old} more than once: relocate a deeper folder")
        example = example if any(example) else (entry.uri, moved or entry.uri)
    if not rows and not items:
        raise DatabaseError(f"{prefix.old}: nothing in table '{corpus.name}' has a name below it")
    for batch in corpus.batches(["id", "uri", "content_hash"]):
        for row in batch.to_pylist():
            content = contents.get(digest(row["id"]))
            if content is not None and content != (digest(row["content_hash"]),):
                raise DatabaseError(
                    f"{row['uri']}: is there already with other content: delete one of the two first; nothing was moved"
                )
            if content is not None:
                present.put(digest(row["id"]))
    return RelocateResult(rows, items, len(present), *example), present
