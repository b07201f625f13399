"""What a command logs: to stderr with --verbose, and to a file with --log-file."""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from pathlib import Path

import click

from clara_search.commands.output import OneLineFormatter
from clara_search.errors import OutputError, first_line

_LOGGERS = ("clara_search", "indexer", "trainer")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _AboveBar(logging.StreamHandler):  # type: ignore[type-arg] # it is generic for type checkers alone
    """Writes to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()


def log_error(message: str) -> None:
    """Log an error to the files of --log-file only: the user sees it on the terminal already."""
    logger = logging.getLogger(__name__)
    for handler in logging.getLogger(_LOGGERS[0]).handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, "%s", (message,), None))


def _log_verbosely(context: click.Context, parameter: click.Parameter, count: int) -> None:
    if count:
        _add(context, _AboveBar(), logging.DEBUG if count > 1 else logging.INFO)


def _log_to_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    handler = WatchedFileHandler if sys.platform != "win32" else logging.FileHandler  # logrotate renames it
    try:
        _add(context, handler(path, encoding="utf-8"), logging.INFO)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({first_line(error)})") from error


def _add(context: click.Context, handler: logging.Handler, level: int) -> None:
    """Let a handler take the messages of this project from `level` on, until the program ends."""
    handler.setFormatter(OneLineFormatter(_FORMAT))
    handler.setLevel(level)
    loggers = [logging.getLogger(name) for name in _LOGGERS]

    def remove() -> None:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
        handler.close()

    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(min(level, logger.level or level))
    context.find_root().call_on_close(remove)  # after the error of the command is logged


def log_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add --verbose and --log-file to a command."""
    verbose = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=_log_verbosely, help="Log to stderr; -vv: more."
    )
    to_file = click.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        expose_value=False,
        callback=_log_to_file,
        help="Append a log to this file.",
    )
    return verbose(to_file(command))
