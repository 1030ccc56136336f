"""`soul dream`: plans and trains in this very process, with progress on stderr.

Knows arguments and tables; needs no daemon.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import InvalidInput
from server.cli_evolution import add_model, anchor_of, known_hashes
from server.cli_golden import buffer_of_cluster
from server.console import OUT, print_json, progress_bar
from server.logs import warnings_to_stderr


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `dream`."""
    says = "train an adapter on the golden log; the same command goes on with one that was broken off"
    one = commands.add_parser("dream", help=says, description=says, parents=[common])
    one.set_defaults(run=dream, parser=one)
    one.add_argument("--buffer", metavar="FILE", help="chats in JSON lines (default: golden/training_buffer.jsonl)")
    one.add_argument("--cluster", type=int, metavar="C", help="only this cluster (`soul golden cluster`)")
    one.add_argument("--name", help="of the adapter (default: made of what goes in)")
    one.add_argument("--targets", choices=("attention", "all-linear"), default="all-linear", help="which layers change")
    one.add_argument("--on", choices=("anchor", "current", "last"), help="what it begins on (default: last)")
    one.add_argument("--rank", type=int, default=32)
    one.add_argument("--rate", type=float, default=1e-4, help="the learning rate")
    one.add_argument("--steps", type=int, default=200)
    one.add_argument("--batch", type=int, default=4, help="samples in a step")
    one.add_argument("--every", type=int, default=20, help="steps between two checkpoints")
    one.add_argument("--longest", type=int, default=1024, help="tokens of a sample; the rest is cut")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--hold", type=float, default=20.0, help="how hard it holds on to what it begins on; 0 lets go")
    add_model(one)
    one.add_argument("--remote", metavar="URL", help="dream there: ssh://user@host:port/home")
    one.add_argument("--remote-python", default="python3", metavar="PATH", help="the Python that soul is installed in")
    one.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")
    one.add_argument("--json", action="store_true")


def dream(home: str, given: argparse.Namespace) -> None:
    """`soul dream`."""
    warnings_to_stderr()
    from evolution.dream import dream as run
    from evolution.dream import last_of, prepare
    from evolution.generations import Generations
    from evolution.lock import evolving
    from evolution.remote import Where, dream_there
    from evolution.training import Numbers

    numbers = Numbers(
        rank=given.rank,
        rate=given.rate,
        batch=given.batch,
        steps=given.steps,
        every=given.every,
        seed=given.seed,
        hold=given.hold,
    )
    folder = Path(home)
    buffer = Path(given.buffer).expanduser() if given.buffer else folder / "golden" / "training_buffer.jsonl"
    whole = given.cluster is None and given.buffer is None
    if given.cluster is not None:
        if given.buffer:
            raise InvalidInput("A cluster is one of the golden log.", "Leave out --buffer or --cluster.")
        buffer = buffer_of_cluster(folder, given.cluster)
    where = Where.of(given.remote, given.remote_python) if given.remote else None
    if where and given.on == "current":
        raise InvalidInput("The far side has no generation of this home.", "Dream with --on last or --on anchor.")
    with progress_bar() as report:
        model, settings = anchor_of(home, given.model, report)
        on = Generations(folder).current() if given.on == "current" else 0
        last = last_of(folder) if (given.on or ("last" if whole else "anchor")) == "last" else None
        one = prepare(
            folder, model, buffer, numbers, given.targets, given.longest, known_hashes(home), on, last, here=not where
        )
        if given.dry_run:
            _show(asdict(one.plan), given.json)
            return
        name = given.name or one.plan.name
        with evolving(folder, "dream"):
            if where:
                wish = given.model or settings.model
                wish = None if wish and Path(wish).expanduser().is_dir() else wish  # a folder of this machine alone
                words = {"model": wish, "scope": given.targets, "longest": given.longest}
                made = dream_there(one, name, where, settings.ssh, buffer, words, report)
            else:
                made = run(one, name, report)
    if given.json:
        print_json({"name": made.name, **made.manifest})
        return
    loss = made.manifest["held_out_loss"]
    OUT.print(
        f"adapter {made.name}: held-out loss {loss['before']:.3f} before, {loss['after']:.3f} after", markup=False
    )
    if made.manifest["stopped"]:
        OUT.print(f"stopped early: {made.manifest['stopped']}; step {made.manifest['kept_step']} was kept")


def _show(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    OUT.print(f"{plan['samples']} samples to learn from, {plan['held_out']} held out", markup=False)
    if plan["doubles"] or plan["too_long"]:
        OUT.print(f"left out: {plan['doubles']} doubles, {plan['too_long']} whose prompt alone is too long")
    OUT.print(f"{plan['tokens']:,} tokens, {plan['memory_bytes'] / 1e9:.2f} GB, at best {plan['seconds']:,.0f} s")
    if plan["resumes_at"]:
        OUT.print(f"goes on at step {plan['resumes_at']}")
