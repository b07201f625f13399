"""Which functions may delete and rename files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from clara_search.files import confined
from tests.helpers import ROOT

CHANGES = {"unlink", "rmtree", "rename", "replace", "rmdir", "removedirs", "remove", "renames", "move"}

ALLOWED = {
    ("clara_search/models/clara/checkpoint.py", "save_model", "unlink"),
    # The user names the folder or the file; what is replaced or deleted is what the function has written or read.
    ("trainer/probing/run.py", "_write", "unlink"),
    ("trainer/runtime/folder.py", "check_recipe_unchanged", "unlink"),
    ("trainer/data/shards.py", "_remove", "unlink"),
    ("clara_search/retrieval/ann/files.py", "write_files", "unlink"),
    # A name of ours beside a lock that this process holds.
    ("clara_search/files/holder.py", "forget_holder", "unlink"),
    ("clara_search/files/atomic.py", "atomic_path", "replace"),
    ("clara_search/files/atomic.py", "atomic_files", "replace"),
    ("clara_search/files/atomic.py", "atomic_folder", "rename"),
    ("clara_search/files/atomic.py", "atomic_path", "unlink"),
}


def changing_calls(path: Path) -> Iterator[tuple[str, str]]:
    """Yield function and method of each call that deletes or renames a file."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            name = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in CHANGES:
                owner = child.func.value.id if isinstance(child.func.value, ast.Name) else ""
                of_module = owner in {"os", "shutil"}
                # Others of these names: str.replace takes two, dataclasses.replace and datetime.replace keywords.
                method = child.func.attr != "replace" or (len(child.args) == 1 and not child.keywords)
                if owner != "confined" and (of_module or (method and child.func.attr not in {"remove", "move"})):
                    yield function, child.func.attr
            yield from visit(child, name)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), "")


def test_files_are_deleted_and_renamed_where_that_is_known_to_be_safe() -> None:
    calls = {
        (str(path.relative_to(ROOT)), *call)
        for package in ("clara_search", "indexer", "trainer")
        for path in (ROOT / package).rglob("*.py")
        if path != Path(confined.__file__)
        for call in changing_calls(path)
    }
    assert calls == ALLOWED
