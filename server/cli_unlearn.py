"""`soul unlearn`: builds anew without what was struck or forgotten since it was learned.

Knows arguments and words; needs no daemon, since the golden log's file says what is still wanted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from server.console import OUT, print_json
from server.logs import warnings_to_stderr


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `unlearn`."""
    says = "remove adapters that learned from what was struck or forgotten; shows them unless --yes is given"
    one = commands.add_parser("unlearn", help=says, description=says, parents=[common])
    one.set_defaults(run=unlearn, parser=one)
    one.add_argument("--yes", action="store_true", help="do it")
    one.add_argument("--json", action="store_true")


def unlearn(home: str, given: argparse.Namespace) -> None:
    """`soul unlearn`."""
    warnings_to_stderr()
    from dataclasses import asdict

    from evolution.generations import Generations
    from evolution.lock import evolving
    from evolution.unlearning import eaten, remove, wanted

    folder = Path(home)
    with evolving(folder, "unlearn"):
        found = eaten(folder, wanted=wanted(folder / "golden" / "training_buffer.jsonl"))
        if given.yes:
            remove(folder, found)
    current = Generations(folder).current()
    if given.json:
        print_json({"done": given.yes, "current": current, **asdict(found)})
        return
    if not found.adapters:
        OUT.print("nothing was learned that is not in the golden log any more")
        return
    OUT.print(f"{found.memories} memories that are not in the golden log any more were learned by:")
    OUT.print(f"adapters: {', '.join(found.adapters)}", markup=False)
    OUT.print(f"generations: {', '.join(map(str, found.generations)) or 'none'}")
    if not given.yes:
        OUT.print("Nothing was changed. The same with --yes removes the adapters and retires the generations.")
        return
    OUT.print("The adapters are gone. `soul dream` learns what is left; `soul integrate --gate` builds without them.")
    if current in found.generations:
        OUT.print(f"Generation {current} is still in force: promote another one, or the anchor: soul promote 0")
