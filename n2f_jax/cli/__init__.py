"""The ``n2f`` command: flags, one call of the package, one printed result for each subcommand."""
