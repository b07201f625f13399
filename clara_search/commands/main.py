"""The command `clara-search`."""

from __future__ import annotations

import click

from clara_search.commands.lazy_group import LazyGroup
from clara_search.commands.options import limit_option
from clara_search.cpu import limit_threads


class Commands(LazyGroup):
    """The subcommands, each with its module."""

    homes = {  # noqa: RUF012 - a constant
        "index": "indexer.commands:index",
        "search": "clara_search.commands.search:search",
        "classify": "clara_search.commands.classify:classify",
        "ann": "clara_search.commands.ann:ann",
        "db": "clara_search.commands.db:db",
        "models": "clara_search.commands.models:models",
    }
    options = (limit_option,)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="clara-search")
def main() -> None:
    """Find moments in a pile of sound by text, by sound and by prompt."""
    limit_threads()


if __name__ == "__main__":
    main(prog_name="clara-search")
