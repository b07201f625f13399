"""Commands as a user types them: their output, JSON lines and errors."""

from __future__ import annotations

import json

from click.testing import CliRunner

from clara_search.commands.main import main


def run(*arguments, code=0, stdin=None):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, result.output
    return result


def json_lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_one_line_error(result, *parts):
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    for part in parts:
        assert part in line
