"""Errors name arguments in the library, and options where a command prints them."""

import ast
from pathlib import Path

import click
import pytest

from clara_search.commands.main import Commands
from clara_search.commands.options import OPTIONS, name_options
from tests.helpers import ROOT
from trainer.__main__ import Trainer

REMEDIES = {
    "clara_search/models/hub.py",
    "clara_search/store/connection.py",
    "clara_search/store/keyed_table.py",
    "trainer/sounds/packages.py",
}
"""Modules whose errors have a whole command line as remedy."""


def options_of(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in parameter.opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            names |= options_of(command.get_command(context, name))
    return names


def messages(path: Path) -> list[str]:
    """Texts in the `raise` statements of a module."""
    raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    constants = [node for error in raised for node in ast.walk(error) if isinstance(node, ast.Constant)]
    return [node.value for node in constants if isinstance(node.value, str)]


def test_arguments_in_backticks_become_options():
    assert (
        name_options("no model: name one as `model`, not as `mood`") == "no model: name one as --model, not as `mood`"
    )


def test_every_option_that_errors_name_exists():
    pytest.importorskip("pytorch_lightning", reason="commands of the trainer need it")
    assert set(OPTIONS.values()) <= options_of(Commands("clara-search")) | options_of(Trainer("trainer"))


def test_the_library_speaks_of_arguments():
    for package in ("clara_search", "indexer", "trainer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if "commands" in name or name in REMEDIES:
                continue
            assert [message for message in messages(path) if " --" in f" {message}"] == [], name
