"""Every command that README and docs show exists, with every option it is given."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from benchmarks.__main__ import main as benchmarks
from clara_search.commands.main import main as clara_search
from tests.docs.test_code import PAGES
from tests.helpers import ROOT
from trainer.__main__ import main as trainer

PROGRAMS = {"clara-search": clara_search, "python -m trainer": trainer, "python -m benchmarks": benchmarks}
CARD = ROOT / "clara_search" / "weights" / "clara-small" / "README.md"
EXTENDING = ROOT / "CONTRIBUTING.md"


def shown_commands() -> list[str]:
    """Return the command lines in indented blocks and in backticks, continuation lines joined."""
    commands = []
    for page in [*PAGES, EXTENDING]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        names = "|".join(map(re.escape, PROGRAMS))
        commands += re.findall(rf"^ {{4,}}(?:torchrun \S+ \S+ -m trainer|{names})(?: .*)?$", text, re.MULTILINE)
        commands += re.findall(rf"`((?:{names}) [^`]+)`", text)
    return [re.sub(r"torchrun \S+ \S+ -m trainer", "python -m trainer", line.strip()) for line in commands]


def resolve(line: str) -> tuple[click.Command, list[str]]:
    """Return the command of a line, and the words behind its name."""
    program = next(name for name in PROGRAMS if line.startswith(name))
    command: click.Command = PROGRAMS[program]
    words = shlex.split(line[len(program) :].split(" #")[0].split(" | ")[0])
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.get_command(click.Context(command), words[0])
        assert child is not None, f"{program} has no command {words[0]!r}"
        command, words = child, words[1:]
    return command, words


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_a_command_in_the_docs_exists_with_its_options(line: str) -> None:
    command, words = resolve(line)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in words:
        if re.fullmatch(r"-{1,2}[a-z][a-z-]*", word.partition("=")[0]):
            assert word.partition("=")[0] in known, f"{line}: no option {word}"


def test_the_docs_show_every_program() -> None:
    assert {name for name in PROGRAMS for line in shown_commands() if line.startswith(name)} == set(PROGRAMS)
