"""`soul gate`: writes the probes, and judges a generation in this very process.

Knows arguments and tables; needs no daemon.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput
from server.cli_evolution import add_model, anchor_of, known_hashes
from server.console import OUT, progress_bar
from server.logs import warnings_to_stderr

if TYPE_CHECKING:
    from evolution.anchor import Report
    from evolution.gate import Limits, Verdict
    from server.settings import Settings


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `gate`."""
    says = "judge a generation against the anchor and those before it; `gate init` writes the probes"
    one = commands.add_parser("gate", help=says, description=says, parents=[common])
    one.set_defaults(run=gate, parser=one)
    one.add_argument("number", metavar="init|N", help="`init`, or the number of a generation")
    one.add_argument("--buffer", metavar="FILE", help="the golden log (default: golden/training_buffer.jsonl)")
    add_model(one)


def gate(home: str, given: argparse.Namespace) -> int:
    """`soul gate init|N`; exit status 1 where the gate says no."""
    warnings_to_stderr()
    folder = Path(home)
    if given.number == "init":
        from evolution import probes

        made = probes.write(folder)
        OUT.print(f"{len(made)} files written to {probes.folder_of(folder)}", markup=False, soft_wrap=True)
        return 0
    if not given.number.isdigit():
        raise InvalidInput(f"{given.number!r} is no generation.", "Give `init` or a number: soul gate 1")
    from evolution.generations import Generations
    from evolution.lock import evolving

    with progress_bar() as report, evolving(folder, "gate"):
        model, settings = anchor_of(home, given.model, report)
        buffer = Path(given.buffer).expanduser() if given.buffer else None
        verdict = judged(home, int(given.number), model, buffer, settings, report)
    report_file = Generations(folder).folder(verdict.number) / "gate.md"
    OUT.print(report_file.read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    return 0 if verdict.passed else 1


def judged(home: str, number: int, model: Path, buffer: Path | None, settings: Settings, report: Report) -> Verdict:
    """Judges under the caller's lock, with the probes of the home and the limits of its settings."""
    from evolution import probes
    from evolution.gate import judge

    folder = Path(home)
    probes.write(folder)
    return judge(
        *(folder, number, model, buffer or folder / "golden" / "training_buffer.jsonl"),
        *(probes.read(folder), limits_of(settings)),
        known=known_hashes(home),
        report=report,
    )


def limits_of(settings: Settings) -> Limits:
    """The gate's limits as the settings have them."""
    from evolution.gate import Limits

    return Limits(
        perplexity=settings.gate_perplexity,
        kl=settings.gate_kl,
        canaries=settings.gate_canaries,
        tools=settings.gate_tools,
        refusals=settings.gate_refusals,
        gain=settings.gate_gain,
    )
