"""How long a killed process takes to go on: five contexts saved, `kill -9`, then a new process to its first token."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.kv.timing import spread

CHILD = """
import sys, time
began = time.perf_counter()
from engine.blas import preload
preload()
import anyio
from pathlib import Path
from bench.kv.turns import config, prompt, say
from engine.engine import Engine

async def main(home, model, tokens):
    imported = time.perf_counter()
    async with Engine.open(config(Path(home), Path(model))) as engine:
        opened = time.perf_counter()
        for n in range(5):
            if not engine.exists(f"{n}"):
                await say(engine, f"{n}", prompt(n, int(tokens)), 1)
                await engine.saved(f"{n}")
        finished, first = await say(engine, "4", [7], 1)
        now = time.perf_counter()
        print("FIGURES", finished.cached_tokens, imported - began, opened - imported, first, now - began, flush=True)
        await engine.saved("4")
        print("READY", flush=True)
        sys.stdin.readline()

anyio.run(main, *sys.argv[1:])
"""


def run(model: Path, tokens: int, rounds: int, home: Path) -> dict[str, Any]:
    """Seconds in the new process: imports, opening the engine, the resumed turn, and all of it from the outside."""
    _once(model, tokens, home)
    names = ("imports_s", "open_s", "first_token_s", "inside_s", "process_to_token_s")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        cached, *found = _once(model, tokens, home)
        assert cached >= tokens
        for name, seconds in zip(names, found, strict=True):
            times[name].append(seconds)
    return {"contexts": 5, "tokens": tokens, **{name: spread(one) for name, one in times.items()}}


def _once(model: Path, tokens: int, home: Path) -> Sequence[float]:
    """One process that is killed when it has answered and saved."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home), str(model), str(tokens)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    found: list[float] = []
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["FIGURES"]:
            found = [*(float(one) for one in words[1:]), time.perf_counter() - began]
        if words[:1] == ["READY"]:
            process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert found and process.returncode == -9
    return found
