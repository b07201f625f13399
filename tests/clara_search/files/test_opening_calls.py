"""Nothing beside the gate opens a name that may come out of data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT

OPENS = {
    *(
        "fsspec.open",
        "fsspec.open_files",
        "fsspec.filesystem",
        "fsspec.core.url_to_fs",
        "url_to_fs",
        "get_fs_token_paths",
    ),
    *(
        f"clara_search.files.paths.{name}"
        for name in (
            "open_binary",
            "open_source",
            "read_bytes",
            "stat_file",
            "is_missing",
            "resolve_filesystem",
        )
    ),
    "clara_search.files.network.copies.open_cached_copy",
    "clara_search.files.listing.list_folder",
    *("av.open", "torch.load", "urlopen", "requests.get", "httpx.get"),
    *("from_pretrained", "snapshot_download", "hf_hub_download", "load_dataset", "lancedb.connect"),
}
"""Calls that may open whatever a name says: by the whole name of what is called, or by its last part."""

ALLOWED = {
    # Here a name is opened that was typed, or that the gate admitted before.
    "clara_search/files/paths.py": {"fsspec.open", "fsspec.core.url_to_fs", "url_to_fs"},
    "clara_search/files/network/copies.py": {"files.paths.open_binary"},  # of what shards.py names
    "clara_search/files/listing.py": {"files.paths.resolve_filesystem"},  # sources
    "clara_search/files/shards.py": {  # sources; Corpus compares what its cache names
        "files.paths.open_binary",
        "files.network.copies.open_cached_copy",
        "files.paths.open_source",
    },
    "clara_search/files/tables/columnar.py": {"files.paths.open_source"},  # sources
    "clara_search/files/tables/lines.py": {"files.paths.open_source"},  # sources
    "clara_search/datasets/recordings.py": {"files.paths.read_bytes"},  # `locate_row` or Corpus admitted it
    "clara_search/store/verify.py": {"files.paths.read_bytes", "files.paths.stat_file"},  # admitted a few lines above
    "clara_search/retrieval/output/playback.py": {
        "files.paths.open_binary",
        "files.paths.stat_file",
    },  # admitted a few lines above
    "indexer/embed/reuse.py": {"files.paths.is_missing"},  # of this machine: is it gone?
    "indexer/decode/prefetch.py": {"files.paths.stat_file"},  # items: their uri was admitted by what listed them
    "indexer/sources/formats/manifest.py": {"files.paths.stat_file"},  # a source
    "indexer/decode/read.py": {"files.paths.read_bytes"},  # items, as above
    "indexer/sources/formats/webdataset.py": {"files.paths.stat_file"},  # a source
    "indexer/sources/formats/folder.py": {  # sources, folders and files in them
        "files.listing.list_folder",
        "files.paths.open_binary",
    },
    "indexer/sources/pattern.py": {"files.listing.list_folder"},  # as above
    "indexer/write/prune.py": {"files.paths.is_missing"},  # in a source, or a source
    "indexer/write/scope.py": {"files.listing.list_folder"},  # sources
    "indexer/write/writer.py": {"files.paths.is_missing"},  # items
    "clara_search/store/connection.py": {"lancedb.connect"},  # the database that was typed
    "clara_search/store/versions.py": {"files.listing.list_folder", "files.paths.open_binary"},  # as above
    # Here a file of a folder of this machine, and never the network.
    "clara_search/audio/decode/ffmpeg.py": {"av.open"},  # bytes in memory
    "clara_search/models/clap_weights.py": {"from_pretrained"},
    "clara_search/models/clap.py": {"from_pretrained"},
    "clara_search/models/stored/pickled.py": {"torch.load"},
    "trainer/data/corpus.py": {"files.paths.stat_file"},  # paths of this machine
    "trainer/data/prepare.py": {"files.paths.stat_file"},  # files of a folder
    "trainer/data/shards.py": {"files.paths.stat_file"},  # paths of this machine
    "trainer/embeddings/file_hashes.py": {"files.paths.stat_file"},  # clips: `locate_recording` admitted them
    "trainer/data/teachers.py": {"from_pretrained"},
    "trainer/speech/projection.py": {"torch.load"},  # tensors alone, out of the folder of the run
    "trainer/speech/recognition.py": {"torch.load"},  # as above
    # Here the hub.
    "clara_search/models/hub.py": {"snapshot_download"},
}


def opening_calls(path: Path) -> set[str]:
    """Return which of OPENS the file at `path` calls, whatever they were imported as or hang on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    renamed = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    renamed |= {
        name.asname: name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
        if name.asname
    }
    calls = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            first, dot, rest = called.partition(".")
            called = f"{renamed.get(first, first)}{dot}{rest}"
            calls |= {name for name in OPENS if called == name or (not name.count(".") and called.endswith(f".{name}"))}
    return {name.removeprefix("clara_search.") for name in calls}


@pytest.mark.slow
def test_nothing_beside_the_gate_opens_what_may_be_a_name_out_of_data() -> None:
    """A new call has to be looked at: does its name come from the user, from the gate, or from data?"""
    calls_by_file = {
        str(path.relative_to(ROOT)): calls
        for package in ("clara_search", "indexer", "trainer")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (calls := opening_calls(path))
    }
    assert calls_by_file == ALLOWED


def test_the_search_for_opening_calls_sees_through_other_names(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("import fsspec as f\nfrom av import open as o\nf.open(1)\no(2)\nx.from_pretrained(3)\nopen(4)\n")
    assert opening_calls(path) == {"fsspec.open", "av.open", "from_pretrained"}
