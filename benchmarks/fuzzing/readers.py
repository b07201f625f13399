"""The readers that are fuzzed: what each starts from, and how much of the product each case goes through."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fuzzing import seeds
from benchmarks.fuzzing.mutations import repair_ogg, repair_tar

Files = dict[str, bytes]
"""A case: the content of each file, by its path in the case's folder."""


@dataclass(frozen=True)
class Reader:
    """A reader of foreign files.

    Attributes:
        name: Its name.
        write_seeds: Writes folders of good files.
        read: Reads the files of a case, given its folder, and uses what they hold.
        targets: The files of a seed that are changed: their paths match this.
        repair: Makes checksums right, which whoever means harm does as well.
    """

    name: str
    write_seeds: Callable[[Path], None]
    read: Callable[[Path], None]
    targets: str = r".*"
    repair: Callable[[Files], Files] = dict


def read_audio(folder: Path) -> None:
    """Decode the recordings."""
    from clara_search.audio.decode import decode_audio

    for path in _files(folder):
        decode_audio(path, 16_000)


def read_source(folder: Path) -> None:
    """List the sources and read what they hold themselves, as indexing does."""
    from clara_search.errors import ClaraError
    from indexer.sources.base import Selection
    from indexer.sources.registry import find_reader

    for path in sorted(folder.iterdir()):
        reader = find_reader(str(path))
        reader.survey(str(path), Selection())
        for item in reader.items(str(path), Selection()):
            _ = item.key, item.details
            if "\n" in (item.problem or ""):
                raise ValueError(f"a problem of several lines: {item.problem}")
            if item.content is not None:
                try:
                    item.content.read()
                except ClaraError:  # costs the item, not the source
                    continue


def read_dataset_copy(folder: Path) -> None:
    """Count what each declared dataset whose layout the files have lists, and read its moments."""
    from clara_search.datasets.completeness import check_dataset
    from clara_search.datasets.declarations.catalogue import DATASETS
    from clara_search.datasets.layouts import read_dataset

    dataset = DATASETS[next(folder.iterdir()).name]
    check_dataset(dataset, folder / dataset.name)
    for row in read_dataset(dataset, folder / dataset.name):
        if "\n" in row.name:
            raise ValueError("a name of several lines")


def read_model(folder: Path) -> None:
    """Load a model, and embed a text and a recording."""
    from clara_search.models.registry import describe_model, load_encoder

    describe_model(folder / "model")
    encoder = load_encoder(folder / "model", device="cpu", precision="fp32")
    encoder.encode_text(["a high tone", "é" * 100])
    encoder.encode_audio([np.full(8000, 0.1, np.float32)])


def read_tokenizer(folder: Path) -> None:
    """Load a tokenizer and encode texts."""
    from clara_search.text.tokenizer import Tokenizer
    from clara_search.text.tokenizer_files import encode, load_tokenizer

    texts = ["a high tone", "  é\u0301\x00 日本" * 50, "", "x" * 3000]
    path = folder / "tokenizer.json"
    list(encode(load_tokenizer(path), texts))
    if (folder / "tokenizer.json").read_bytes().find(b"<|pad|>") >= 0:
        Tokenizer.load(path).encode(texts, ["en", None, "xx", "de"], 32)


def read_checkpoint(folder: Path) -> None:
    """Load a checkpoint of a released model."""
    from clara_search.models.clara.convert import load_released
    from clara_search.models.stored.pickled import read_checkpoint as read_pickled

    read_pickled(folder / "a.ckpt")
    try:
        load_released(folder / "a.ckpt")
    except Exception as error:
        if type(error).__name__ != "FormatError":
            raise


def read_head(folder: Path) -> None:
    """Load a head and classify vectors."""
    from clara_search.classification.head_files import load_head, load_head_encoder

    head = load_head(folder / "head")
    load_head_encoder(folder / "head", head)
    vectors = np.full((3, head.config.dim), head.config.dim**-0.5, np.float32)
    head.probabilities(vectors, vectors)


def read_index(folder: Path) -> None:
    """Search a table by its index, and read its calibration."""
    from clara_search.retrieval.ann import index as ann
    from clara_search.retrieval.calibration import files as calibrations
    from clara_search.retrieval.searcher import Searcher
    from clara_search.store.database import Database

    table = Database(folder / "db").table()
    calibrations.read(table)
    searcher = Searcher(table)
    ann.status(table)
    queries = np.full((2, table.info.dim), table.info.dim**-0.5, np.float32)
    searcher.search(searcher.snapshot(), queries, 3)


def read_database(folder: Path) -> None:
    """Search a table, show its rows, read its ledger, and verify it."""
    from clara_search.retrieval.searcher import Searcher
    from clara_search.store.database import Database
    from clara_search.store.verify import verify
    from indexer.ledger.failures import failed_sources, failures, notes
    from indexer.ledger.reconcile import open_ledger

    database = Database(folder / "db")
    for name in database.table_names():
        table = database.table(name)
        searcher = Searcher(table)
        snapshot = searcher.snapshot()
        queries = np.full((1, table.info.dim), table.info.dim**-0.5, np.float32)
        for ranked in searcher.search(snapshot, queries, 3, exact=True):
            snapshot.rows(ranked.positions)
        _ = failures(database, name), failed_sources(database, name), notes(database, name)
        list(open_ledger(database, table)[0].scan())
        from benchmarks.stand_ins import ProjectionEncoder

        list(verify(database, name, encoder=ProjectionEncoder(), sample_size=2))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _repair_index(files: Files) -> Files:
    """Return the files of a database with the checksums of its index's files as they are."""
    repaired = dict(files)
    for path in files:
        if not path.endswith("meta.json"):
            continue
        try:
            meta = json.loads(files[path])
            folder = path.rpartition("/")[0]
            for name in meta["checksums"]:
                content = files.get(f"{folder}/{name}", b"")
                meta["checksums"][name] = hashlib.sha256(content).hexdigest()
            repaired[path] = json.dumps(meta).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return repaired


def _each(suffix: str, repair: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda files: {
        name: repair(content) if re.search(suffix, name) else content for name, content in files.items()
    }


READERS: Mapping[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader("manifest", seeds.manifests, read_source),
        Reader("dataset", seeds.dataset_copies, read_dataset_copy),
        Reader("tar", seeds.tars, read_source, repair=_each(r"\.tar$", repair_tar)),
        Reader("audio", seeds.audio, read_audio, repair=_each(r"\.(ogg|opus)$", repair_ogg)),
        Reader("model", seeds.models, read_model, r".*(config\.json|\.safetensors)"),
        Reader("tokenizer", seeds.tokenizer_files, read_tokenizer),
        Reader("checkpoint", seeds.checkpoints, read_checkpoint),
        Reader("head", seeds.heads, read_head),
        Reader("ann", seeds.databases, read_index, r"db/(_ann|_calibration)/.*", _repair_index),
        Reader("database", seeds.databases, read_database, r"db/(corpus|_ledger_corpus)\.lance/.*"),
    )
}
