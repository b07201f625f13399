"""The subcommands of `clara-search`, one a file. Heavy modules are imported when a command runs."""
