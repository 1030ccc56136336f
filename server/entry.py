"""The console script `soul`: branches to the bridge or the daemon before anything heavy is imported.

Knows which command lines need no argument parser; everything else is `server.cli`'s.
"""

from __future__ import annotations

import os
import sys

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-,")


def main() -> int:
    """Runs `soul` with the arguments of the process; the exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"] and sys.platform != "win32":
        order = bridge_order(arguments[1:])
        if order is not None:
            from server.bridge import run

            return run(*order)
    if arguments[:1] == ["daemon"] and len(arguments) == 1:
        from server.daemon import main as daemon

        return daemon()
    from server.cli import main as cli

    return cli(arguments)


def bridge_order(arguments: list[str]) -> tuple[str | None, bool, str] | None:
    """Home, read-only and toolsets of a `soul serve` that is a bridge; None when the full parser must look.

    The variables SOUL_READ_ONLY and SOUL_TOOLSETS of the client's configuration count here and not only in the
    daemon, which was perhaps started by another client.
    """
    home: str | None = None
    read_only = os.environ.get("SOUL_READ_ONLY", "").lower() in ("1", "true", "yes", "on")
    toolsets = os.environ.get("SOUL_TOOLSETS", "").replace(" ", "")
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--read-only":
            read_only = True
        elif name in ("--home", "--toolsets"):
            value = value if equals else next(rest, "")
            if not value:
                return None
            home, toolsets = (value, toolsets) if name == "--home" else (home, value.replace(" ", ""))
        else:
            return None
    return (home, read_only, toolsets) if _PLAIN.issuperset(toolsets) else None
