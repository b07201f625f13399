"""The options of commands by the arguments of the library that they set, and those that allow data more."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from clara_search.errors import ConfigError
from clara_search.files.limits import limits, parse_limit
from clara_search.files.network import access

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = {
    "allow_private": "--allow-private",
    "allow_protocol": "--allow-protocol",
    "audio_member": "--audio-member",
    "column_types": "--column-type",
    "columns": "--column",
    "data": "--data",
    "device": "--device",
    "encoding": "--encoding",
    "fetch": "--fetch",
    "init": "--init",
    "label_column": "--label-column",
    "limit": "--limit",
    "model": "--model",
    "multi_label": "--multi-label",
    "overrides": "--set",
    "path_column": "--path-column",
    "relative_to": "--relative-to",
    "repair": "--repair",
    "table": "--table",
    "text_column": "--text-column",
    "transcribe": "--transcribe",
    "trust": "--trust",
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
"""On every command, which a `LazyGroup` sees to: holds until the command ends."""


def _allow_private(context: click.Context, parameter: click.Parameter, is_allowed: bool) -> None:
    if is_allowed:
        context.with_resource(access.allow(private=True))


def _allow_protocols(context: click.Context, parameter: click.Parameter, protocols: tuple[str, ...]) -> None:
    try:
        context.with_resource(access.allow(protocols=protocols))
    except ConfigError as error:
        raise click.BadParameter(str(error), context, parameter) from error


_NETWORK_OPTIONS = (
    click.option(
        "--allow-private",
        is_flag=True,
        expose_value=False,
        callback=_allow_private,
        help="Let manifests and tables name hosts of this machine and of private networks.",
    ),
    click.option(
        "--allow-protocol",
        multiple=True,
        metavar="PROTOCOL",
        expose_value=False,
        callback=_allow_protocols,
        help="Let manifests and tables name URLs of it too, such as sftp; repeatable.",
    ),
    click.option(
        "--trust",
        multiple=True,
        metavar="URL",
        expose_value=False,
        help="A host or bucket, as s3://NAME, that manifests and tables may name as if you had; repeatable.",
    ),  # as every URL that is typed
)


def network_options(command: Command) -> Command:
    """Add the options of commands that open URLs out of data; they hold until the command ends."""
    for option in reversed(_NETWORK_OPTIONS):
        command = option(command)
    return command


def network_options_for_data(command: click.Command) -> click.Command:
    """Add the options to a command that reads manifests or shards wherever they are: by --data, or a SOURCE."""
    names = {name for parameter in command.params for name in parameter.opts}
    reads = bool({"--data", "source"} & names)
    return network_options(command) if reads and "--trust" not in names else command


def parse_pairs(option: str, form: str, texts: tuple[str, ...]) -> dict[str, str]:
    """Return the names and values of an option that is given as NAME=VALUE."""
    pairs = dict[str, str]()
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise click.BadParameter(f"expected {form}, got {text!r}", param_hint=option)
        pairs[name] = value
    return pairs
