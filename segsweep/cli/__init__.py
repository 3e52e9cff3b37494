"""The command line. `main` is what the `segsweep` command calls."""

from segsweep.cli.app import app, main

__all__ = ["app", "main"]
