"""A click group that imports a command when it is called, and prints the errors of the library as one line."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

import click

from clara_search.commands.logs import log_error
from clara_search.commands.options import name_options
from clara_search.commands.output import guarded_streams
from clara_search.errors import ClaraError
from clara_search.files.network import access
from clara_search.files.redact import redact
from clara_search.text.printable import printable


class LazyGroup(click.Group):
    """A group of commands by name; a ClaraError becomes one line and exit code 1."""

    homes: ClassVar[Mapping[str, str]] = {}
    """For each command "module:attribute", in the order of `--help`."""

    options: ClassVar[Sequence[Callable[[click.Command], click.Command]]] = ()
    """Decorators that add options to each command, also to those of a group, or to those that need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name` and return the command, or None for an unknown name."""
        if cmd_name not in self.homes:
            return None
        module, attribute = self.homes[cmd_name].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            if not getattr(each, "has_group_options", False):
                for add in self.options if not isinstance(each, click.Group) else ():
                    add(each)
                each.has_group_options = True
        return command

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, as click does, with streams that show foreign text as what it is."""
        with guarded_streams():
            return super().main(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note what is typed, and parse it."""
        access.trust(*args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a ClaraError, or an OSError, becomes `Error: ...` on stderr and exit code 1."""
        try:
            return super().invoke(ctx)
        except ClaraError as error:
            line = printable(" ".join(name_options(redact(str(error))).split()))
            log_error(line)
            raise click.ClickException(line) from error
        except click.ClickException as error:
            log_error(error.format_message())
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone: click ends without a word
                raise
            reason = error.strerror or str(error) or type(error).__name__
            line = f"{error.filename}: {reason}" if error.filename else f"reading or writing failed ({reason})"
            line = printable(redact(line))
            log_error(line)
            raise click.ClickException(line) from error
