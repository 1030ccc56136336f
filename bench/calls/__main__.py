"""Tool calls of an untrained model, under the grammar and free: how many parse, how many fit the tool's schema.

    python -m bench.calls [--calls 10000] [--free 300] [--tokens 56] [--at-once 24] [--seed 0]

The model has random weights (`tests.drawn`) and speaks at temperature 1.2, the tools are the seven real ones with
their own schemas. Every
call is drawn by the engine, then read by `Chat.parse` and checked by `jsonschema`. Writes bench/results/calls.json and
calls.png.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from jsonschema import Draft202012Validator

from engine.blas import preload
from engine.engine import Engine, EngineConfig
from engine.events import Finished
from engine.grammar import CallGrammar
from engine.sampling import Sampling
from tests.drawn import untrained
from tools.house import House
from tools.registry import TOOLSETS

RESULTS = Path(__file__).parent.parent / "results"
TEMPERATURE = 1.2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.calls")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--free", type=int, default=300, help="replies without the grammar, to compare")
    parser.add_argument("--tokens", type=int, default=56, help="longest reply")
    parser.add_argument("--at-once", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preload()
    report = anyio.run(_measure, options)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "calls.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _draw(report)
    print(json.dumps({key: value for key, value in report.items() if key != "command"}, indent=2))


def _tools(home: Path) -> list[dict[str, Any]]:
    house = House(home, (home,))
    made = [make(house) for makers in TOOLSETS.values() for make in makers]
    return [
        {"type": "function", "function": {"name": tool.name, "description": "", "parameters": tool.parameters}}
        for tool in made
    ]


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="soul-bench-") as folder:
        home = Path(folder)
        config = EngineConfig(home, model=str(untrained(home / "models")), hot_contexts=options.at_once)
        async with Engine.open(config) as engine:
            tools = _tools(home)
            grammar = engine.chat.call_grammar(tools, required=True)
            assert grammar is not None
            bound = await _run(engine, tools, grammar, options.calls, options)
            free = await _run(engine, tools, None, options.free, options)
    return {
        "command": "python -m bench.calls",
        "machine": f"{platform.system()} {platform.machine()}",
        "model": engine.info.name,
        "longest_reply": options.tokens,
        "temperature": TEMPERATURE,
        "with_grammar": bound,
        "free": free,
    }


async def _run(
    engine: Engine, tools: list[dict[str, Any]], grammar: CallGrammar | None, replies: int, options: argparse.Namespace
) -> dict[str, Any]:
    checks = {tool["function"]["name"]: Draft202012Validator(tool["function"]["parameters"]) for tool in tools}
    counted: Counter[str] = Counter()
    called: Counter[str] = Counter()
    seeds = iter(range(options.seed, options.seed + replies))
    tokens = 0
    started = time.perf_counter()

    async def caller(lane: int) -> None:
        nonlocal tokens
        context = f"caller-{lane}"
        for seed in seeds:
            await engine.start(context, [], lasting=False)
            ids = [*engine.chat.turn("user", f"Call a tool. {seed}"), *engine.chat.reply_start()]
            sampling = Sampling(max_tokens=options.tokens, temperature=TEMPERATURE, seed=seed, calls=grammar)
            async for event in engine.generate(context, ids, sampling):
                if isinstance(event, Finished):
                    tokens += len(event.ids)
                    _count(event)

    def _count(event: Finished) -> None:
        reply = engine.chat.parse(event.text, tools)
        counted["replies"] += 1
        counted["ended"] += event.reason == "stop"
        if reply.errors or len(reply.calls) != 1:
            return
        counted["parsed"] += 1
        (call,) = reply.calls
        called[call.name] += 1
        counted["fits"] += call.name in checks and checks[call.name].is_valid(call.arguments)

    async with anyio.create_task_group() as group:
        for lane in range(options.at_once):
            group.start_soon(caller, lane)
    seconds = time.perf_counter() - started
    return {
        **{key: counted[key] for key in ("replies", "ended", "parsed", "fits")},
        "by_tool": dict(sorted(called.items())),
        "tokens_per_second": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
    }


def _draw(report: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for row, key in enumerate(("free", "with_grammar")):
        data = report[key]
        for shade, share in enumerate(("parsed", "fits")):
            percent = 100 * data[share] / max(data["replies"], 1)
            place = row + 0.18 * (1 - 2 * shade)
            axes.barh(place, percent, height=0.32, color=("#7a9cc6", "#2f4b7c")[shade], label=share if row else None)
            axes.text(percent + 1, place, f"{percent:.2f} % of {data['replies']:,}", va="center", fontsize=8)
    axes.set(yticks=[0, 1], yticklabels=["free", "with the grammar"], xlim=(0, 130), xlabel="% of replies")
    axes.set_title("Calls of an untrained model", loc="left", fontsize=10)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "calls.png", dpi=140)


if __name__ == "__main__":
    main()
