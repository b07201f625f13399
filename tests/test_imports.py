"""Which module may know which, what --help may load, and what the wheel may hold."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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

# Each line knows those above it: errors <- audio <- features <- models <- encoder <- search; store <- ann <- search.
# A name stands for all the modules of its folder that have no line of their own.
ORDER = [
    {"errors", "lazy", "machine", "redact"},
    {"places"},
    {"gate"},
    {"config", "audio", "metrics", "class_metrics", "calibration", "languages", "datasets"},
    {"tokenizer"},
    {"features"},
    {"models.layers", "models.phones"},
    {"models.clara"},
    {"models"},
    {"encoder"},
    {"durable", "confined"},
    {"keyed"},
    {"store"},
    {"exact", "prompts", "head", "classify", "faiss_engine", "scoring"},
    {"snapshot"},
    {"ann_files"},
    {"ann"},
    {"search", "verify"},
    {"__init__"},
    {"commands.common", "commands.lazy"},
    {"commands"},
    {"cli"},
]


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


def rank(name):
    """The line of `name` in ORDER, or of its folder."""
    lines = {known: number for number, names in enumerate(ORDER) for known in names}
    return lines.get(name, lines.get(name.split(".")[0]))


def test_modules_of_the_library_import_in_one_direction():
    names = {
        path: ".".join(path.relative_to(ROOT / "clara_search").with_suffix("").parts)
        for path in modules("clara_search")
    }
    for path, name in names.items():
        assert rank(name) is not None, f"{name} has no place in ORDER"
        for imported in imports_of(path):
            other = imported.removeprefix("clara_search.")
            if imported != other and other in names.values():
                assert rank(other) <= rank(name), f"{name} imports {other}"


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


def test_the_package_hands_on_what_it_names():
    code = "import clara_search\nfor name in clara_search.__all__: getattr(clara_search, name)"
    assert "lancedb" not in loaded_after(code)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = __import__("clara_search").nothing


SUBCOMMANDS = ["", *Commands.homes, "ann build", "ann status", "ann drop", "db info", "db verify"]
SUBCOMMANDS += ["models list", "models show"]


def test_help_loads_nothing_heavy():
    calls = [f"main({[*command.split(), '--help']!r}, standalone_mode=False)" for command in SUBCOMMANDS]
    assert loaded_after("\n".join(["from clara_search.cli import main", *calls])) == set()


def test_every_command_is_where_it_is_said_to_be():
    for group in (Commands("a"), Benchmarks("b")):
        for name in group.homes:
            assert group.get_command(None, name).name == name
        assert group.get_command(None, "nothing") is None


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
