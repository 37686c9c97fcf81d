"""The command `walstore`: look at a log, check it, mend its torn tail. One module a command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits with its code (see exits)."""
    try:
        # Inside, so that Ctrl-C while modules are loaded is no traceback either.
        from walstore.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
