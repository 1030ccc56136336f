"""`soul budget FOLDER`: what a model and its contexts take of this machine's memory, without loading anything.

Knows arguments and tables; the figures are `engine.budget`'s. Needs no daemon.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from server.console import OUT, print_json, table

FORMATS = ("fp16", "q8", "k8v4")
CONTEXTS = (4_096, 16_384, 32_768, 131_072)


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `budget`."""
    says = "what a model and its contexts take of this machine's memory"
    one = commands.add_parser("budget", help=says, description=says, parents=[common])
    one.set_defaults(run=budget, parser=one)
    one.add_argument("folder", metavar="FOLDER", help="a model folder; config.json is enough")
    one.add_argument("--memory-gb", type=float, help="plan for a machine with this much memory instead of this one")
    one.add_argument("--agents", type=int, default=1, help="how many contexts of the full length at once")
    one.add_argument("--json", action="store_true")


def figures(folder: Path, memory_bytes: int | None, agents: int) -> dict[str, Any]:
    """Everything `soul budget` shows, as data. Raises InvalidInput."""
    from engine.budget import Budget, KvFormat

    plan = Budget.of(folder, memory_bytes)
    formats: tuple[KvFormat, ...] = ("fp16", "q8", "k8v4")
    longest = plan.shape.context_tokens
    lengths = sorted({*(length for length in CONTEXTS if length < longest), longest})
    return {
        "model_type": plan.shape.model_type,
        "weight_bytes": plan.weight_bytes,
        "weights_estimated": not any(folder.glob("model*.safetensors")),
        "memory_bytes": plan.memory_bytes,
        "usable_bytes": plan.usable_bytes,
        "agents": agents,
        "context_tokens": longest,
        "zone_without_context": plan.zone(),
        "kv_bytes_per_token": {kv: plan.shape.kv_bytes_per_token(kv) for kv in formats},
        "fitting_tokens": {kv: plan.fitting_tokens(kv) for kv in formats},
        "green_tokens": {kv: plan.fitting_tokens(kv, up_to="green") for kv in formats},
        "contexts": [
            {
                "tokens": length,
                **{
                    kv: {
                        "bytes": agents * length * plan.shape.kv_bytes_per_token(kv),
                        "zone": plan.zone(agents * length, kv),
                    }
                    for kv in formats
                },
            }
            for length in lengths
        ],
    }


def budget(home: str, given: argparse.Namespace) -> None:
    """`soul budget FOLDER`."""
    memory = round(given.memory_gb * 1e9) if given.memory_gb else None
    found = figures(Path(given.folder).expanduser(), memory, max(1, given.agents))
    if given.json:
        print_json(found)
        return
    estimated = ", estimated from config.json" if found["weights_estimated"] else ""
    OUT.print(f"{found['model_type']}: weights {found['weight_bytes'] / 1e9:.1f} GB{estimated}", markup=False)
    OUT.print(
        f"memory {found['memory_bytes'] / 1e9:.1f} GB, usable {found['usable_bytes'] / 1e9:.1f} GB; "
        f"without any context: {found['zone_without_context']}"
    )
    rows = [
        ("per token", *(f"{found['kv_bytes_per_token'][kv] / 1e6:.3f} MB" for kv in FORMATS)),
        *(
            (
                f"{found['agents']} x {one['tokens']:,} tokens",
                *(f"{one[kv]['bytes'] / 1e9:.2f} GB, {one[kv]['zone']}" for kv in FORMATS),
            )
            for one in found["contexts"]
        ),
        ("tokens up to green", *(f"{found['green_tokens'][kv]:,}" for kv in FORMATS)),
        ("tokens that fit", *(f"{found['fitting_tokens'][kv]:,}" for kv in FORMATS)),
    ]
    OUT.print(table(("KV cache", *FORMATS), rows))
