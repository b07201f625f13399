"""The public names of the packages, and their docstrings: a change of either is seen here."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import textwrap

import docstring_parser
import pytest

PUBLIC_NAMES = {
    "clara_search": [
        "AudioError",
        "ClaraError",
        "Classification",
        "Classifier",
        "ConfigError",
        "Database",
        "DatabaseError",
        "DeviceError",
        "Encoder",
        "EncoderMismatch",
        "FormatError",
        "HeadClassifier",
        "Hit",
        "Hits",
        "Index",
        "MissingDependency",
        "NeighbourClassifier",
        "OutputError",
        "QueryError",
        "SourceError",
        "Table",
        "UnknownModel",
        "ZeroShotClassifier",
        "__version__",
        "index",
        "limits",
        "load_encoder",
        "open",
        "read_labels",
    ],
    "indexer": ["IndexResult", "Ray", "Recording", "export_embeddings", "import_embeddings", "index"],
}
PACKAGES = ("clara_search", "indexer")
DOCUMENTED = PACKAGES
"""The packages whose docstrings are checked."""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_hands_on_these_names(package):
    assert sorted(importlib.import_module(package).__all__) == PUBLIC_NAMES[package]


def exported():
    """Every exported function and class, once, by its full name."""
    objects = {}
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            item = getattr(importlib.import_module(package), name)
            is_object = inspect.isclass(item) or inspect.isfunction(item)
            if is_object and item.__module__.startswith(DOCUMENTED):
                objects[f"{item.__module__}.{item.__qualname__}"] = item
    return objects


def public_functions():
    """Exported functions, and the public methods and properties of exported classes, inherited ones included."""
    functions = {}
    for name, item in exported().items():
        if inspect.isfunction(item):
            functions[name] = item
            continue
        for base in item.__mro__:
            if not base.__module__.startswith(PACKAGES):
                continue
            for attribute, member in vars(base).items():
                member = getattr(member, "__func__", member)
                member = member.fget if isinstance(member, property) else getattr(member, "func", member)
                if not attribute.startswith("_") and inspect.isfunction(member):
                    functions[f"{base.__module__}.{base.__qualname__}.{attribute}"] = member
    return functions


def overrides(name):
    """Whether a method is documented in an exported base class, whose contract it keeps."""
    owner, _, attribute = name.rpartition(".")
    bases = exported()[owner].__mro__[1:] if owner in exported() else ()
    return any(attribute in vars(base) for base in bases if base.__module__.startswith(PACKAGES))


def parsed(item):
    assert item.__doc__, f"{item.__qualname__} has no docstring"
    return docstring_parser.parse(inspect.cleandoc(item.__doc__), style=docstring_parser.DocstringStyle.GOOGLE)


def described(docstring, section):
    return [entry.arg_name for entry in docstring.params if entry.args[0] == section]


def parameters(function):
    """The names of the parameters, starred as in a docstring."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    signature = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in signature if p.name not in ("self", "cls")]


def raised(function):
    """The names of the exceptions that the body of a function raises itself, not those of functions within it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    pending, names = list(tree.body), set()
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            names.add(node.exc.func.id)
        pending += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("name", public_functions())
def test_a_docstring_describes_arguments_results_and_errors(name):
    function = public_functions()[name]
    docstring = parsed(function)
    if overrides(name):
        return
    assert described(docstring, "param") == parameters(function), f"{name}: Args"
    if parameters(function) and function.__annotations__["return"] not in ("None", "Iterator[None]"):
        assert docstring.returns is not None, f"{name}: Returns or Yields"
    assert raised(function) <= {error.type_name for error in docstring.raises}, f"{name}: Raises"


@pytest.mark.parametrize("name", [name for name, item in exported().items() if inspect.isclass(item)])
def test_a_class_describes_its_fields_or_its_arguments(name):
    item = exported()[name]
    docstring = parsed(item)
    if dataclasses.is_dataclass(item):
        fields = [field.name for field in dataclasses.fields(item) if not field.name.startswith("_") and field.init]
        assert described(docstring, "attribute") == fields, f"{name}: Attributes"
    elif "__init__" in vars(item) and not getattr(item, "_is_protocol", False):
        assert described(docstring, "param") == parameters(item.__init__), f"{name}: Args"


def test_the_checks_see_a_wrong_docstring():
    def search(query: str, k: int) -> list[str]:
        """Search.

        Args:
            query: A text.

        Raises:
            KeyError: Never.
        """
        if k < 1:
            raise ValueError("k")
        return [query]

    assert described(parsed(search), "param") == ["query"] != parameters(search)
    assert raised(search) == {"ValueError"}
    assert parsed(search).returns is None
