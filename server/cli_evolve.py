"""`soul evolve`: the whole cycle, unattended.

Knows the settings and who is at work; the cycle is `evolution.heartbeat`'s.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from engine.errors import Unavailable
from server import paths
from server.calling import call
from server.console import OUT
from server.logs import warnings_to_stderr


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `evolve`."""
    says = "dream, integrate, gate and promote, unattended; stops at the first doubt and leaves a report"
    one = commands.add_parser("evolve", help=says, description=says, parents=[common])
    one.set_defaults(run=evolve, parser=one)
    one.add_argument("--dream", default="", metavar="WORDS", help="given to `soul dream`, in one argument")
    one.add_argument("--now", action="store_true", help="whatever the power, and whoever is at work")


def evolve(home: str, given: argparse.Namespace) -> int:
    """`soul evolve`; exit status 1 where nothing was promoted."""
    warnings_to_stderr()
    from evolution.heartbeat import Conditions, beat, run_command
    from server.settings import load

    settings = load(home).settings
    conditions = Conditions(
        settings.evolve_minutes, settings.evolve_disk_gb, settings.evolve_power_unknown or given.now
    )
    morning = beat(
        Path(home),
        conditions,
        (lambda: "") if given.now else (lambda: busy(home)),
        run_command(paths.script(), Path(home)),
        shlex.split(given.dream),
    )
    OUT.print(morning.markdown(), markup=False, soft_wrap=True)
    return 0 if morning.promoted is not None else 1


def busy(home: str) -> str:
    """Who is at work in the daemon, in words; "" when nobody is, or no daemon runs."""
    try:
        survey = call(home, "survey", start=False)
    except Unavailable:
        return ""
    agents = survey.get("agents") or {}
    working = int(agents.get("jobs_running", 0)) + int(agents.get("waiting_for_director", 0))
    return f"The Director is at work ({working} jobs)." if working else ""
