"""Which module may know which, what --help may load, and what the wheel may hold."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import clara_search
from benchmarks.__main__ import Benchmarks
from clara_search.commands.main import Commands

ROOT = Path(__file__).parent.parent
SIBLINGS = {"clara_search", "indexer", "trainer", "benchmarks", "tests"}
HEAVY = {"torch", "numpy", "lancedb", "pyarrow", "faiss", "soundfile", "soxr", "tokenizers"}

MAY_IMPORT = {
    "clara_search": {"clara_search"},
    "indexer": {"clara_search", "indexer"},
    "trainer": {"clara_search", "trainer"},
    "benchmarks": {"clara_search", "indexer", "trainer", "benchmarks"},
}

# A room is a file or a folder at the top of a package. Each imports from the lines above its own, never from its own.
FLOORS = {
    "clara_search": [
        {"errors", "_lazy", "cpu", "system", "metrics"},
        {"config", "files"},
        {"audio", "text"},
        {"datasets", "models"},
        {"store", "classification"},
        {"retrieval"},
        {"commands"},
    ],
    "indexer": [
        {"transcript"},
        {"sources", "runtime"},
        {"ledger"},
        {"decode"},
        {"embed", "transcribe"},
        {"write", "ray_executor"},
        {"pipeline", "import_export"},
        {"summary"},
        {"commands"},
    ],
    "trainer": [
        {"config", "phones"},
        {"data", "runtime"},
        {"losses", "evaluation", "sounds"},
        {"embeddings", "pretraining"},
        {"probing", "speech"},
        {"commands"},
        {"__main__"},
    ],
    "benchmarks": [
        {"command", "examples", "hardware", "memory", "stand_ins"},
        {"report", "demo"},
        {"fuzzing"},
        {"tasks"},
        {"__main__"},
    ],
}
MOST_FILES = 15
MOST_LINES = 300


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imports_of(path, at_runtime=True):
    """The modules that the file at `path` imports anywhere, also inside functions, but not for its types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in list(ast.walk(tree)):
        if at_runtime and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_in_one_direction(package):
    for path in modules(package):
        known = {name.split(".")[0] for name in imports_of(path, at_runtime=False)} & SIBLINGS
        assert known <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {known - MAY_IMPORT[package]}"


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_within(package):
    """The modules of a package, each with those that it imports; a folder's `__init__` only hands names on."""
    names = {name_of(path): path for path in modules(package) if path.name != "__init__.py"}
    return {
        name: {other for other in imports_of(path, at_runtime=False) if other in names and other != name}
        for name, path in names.items()
    }


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_in_one_direction(package):
    floors = {room: number for number, rooms in enumerate(FLOORS[package]) for room in rooms}
    graph = imports_within(package)
    assert {name.split(".")[1] for name in graph} == set(floors)
    for name, imported in graph.items():
        room = name.split(".")[1]
        for other in imported:
            other_room = other.split(".")[1]
            assert other_room == room or floors[other_room] < floors[room], f"{name} imports {other}"


@pytest.mark.parametrize("package", FLOORS)
def test_no_modules_import_each_other_in_a_circle(package):
    assert list(TopologicalSorter(imports_within(package)).static_order())


@pytest.mark.parametrize("package", [*FLOORS, "tests"])
def test_folders_and_files_stay_small_enough_to_read(package):
    for folder in {path.parent for path in modules(package)}:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, f"{folder.relative_to(ROOT)} needs rooms of its own"
    for path in modules(package):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines: is it two ideas?"


def python(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    ).stdout


def loaded_after(code):
    """The heavy packages that `code` loads in a fresh interpreter."""
    loaded = python("-c", f"{code}\nimport sys\nprint('\\nLOADED', *sys.modules)")
    return HEAVY & set(loaded.rsplit("LOADED", 1)[1].split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import clara_search") == set()


@pytest.mark.slow
def test_the_package_hands_on_what_it_names():
    code = "import clara_search\nfor name in clara_search.__all__: getattr(clara_search, name)"
    assert "lancedb" not in loaded_after(code)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = __import__("clara_search").nothing


@pytest.mark.parametrize("package", ["clara_search", "indexer"])
def test_dir_shows_the_public_names_and_nothing_else(package):
    module = __import__(package)
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_the_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+", clara_search.__version__)
    built = python("-c", "import setuptools; setuptools.setup()", "--version").splitlines()[-1]
    assert built == clara_search.__version__


SUBCOMMANDS = ["", *Commands.homes, "ann build", "ann status", "ann drop", "db info", "db verify"]
SUBCOMMANDS += ["models list", "models show"]


def test_help_loads_nothing_heavy():
    calls = [f"main({[*command.split(), '--help']!r}, standalone_mode=False)" for command in SUBCOMMANDS]
    assert loaded_after("\n".join(["from clara_search.commands.main import main", *calls])) == set()


def test_every_command_is_where_it_is_said_to_be():
    for group in (Commands("a"), Benchmarks("b")):
        for name in group.homes:
            assert group.get_command(None, name).name == name
        assert group.get_command(None, "nothing") is None


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_the_indexer_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "runs", "demo-data", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clara_search", "indexer"}
    for package in ("clara_search", "indexer"):
        assert {str(path.relative_to(ROOT)) for path in modules(package)} <= set(names)
    assert "clara_search/py.typed" in names
    weights = ROOT / "clara_search" / "weights"
    bundled = {str(path.relative_to(ROOT)) for path in weights.rglob("*") if path.is_file()}
    assert bundled <= set(names)
