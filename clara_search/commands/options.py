"""The options of commands by the arguments of the library that they set, and the one that raises limits."""

from __future__ import annotations

import re

import click

from clara_search.errors import ConfigError
from clara_search.files.limits import limits, parse_limit

OPTIONS = {
    "audio_member": "--audio-member",
    "data": "--data",
    "device": "--device",
    "fetch": "--fetch",
    "init": "--init",
    "limit": "--limit",
    "model": "--model",
    "overrides": "--set",
    "repair": "--repair",
    "table": "--table",
}
"""Errors of the library name arguments in backticks, such as `model`; a command prints --model instead."""

_ARGUMENT = re.compile(r"`(\w+)`")


def name_options(message: str) -> str:
    """Return an error message of the library with options in place of the arguments in backticks."""
    return _ARGUMENT.sub(lambda match: OPTIONS.get(match[1], match[0]), message)


def _set_limits(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> None:
    try:
        context.with_resource(limits(**dict(map(parse_limit, texts))))
    except ConfigError as error:
        raise click.BadParameter(str(error), context, parameter) from error


limit_option = click.option(
    "--limit",
    multiple=True,
    metavar="NAME=VALUE",
    expose_value=False,
    is_eager=True,
    callback=_set_limits,
    help="Read larger files: raise a limit, as its error says; repeatable.",
)
"""On every command that reads files of other people: holds until the command ends."""
