"""The subcommands of `clara-search`, one a file. They import click at the top and everything heavy when they run."""
