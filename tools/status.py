"""status: what is going on in the house, for a model to read; the same survey as soul://status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from engine.errors import SoulError
from tools.contract import READS, SoulTool
from tools.house import House

if TYPE_CHECKING:
    from agents.agents import Agents
    from agents.plans import Plan
    from memory.flushes import Flush
    from memory.memory import Memory

DESCRIPTION = (
    "What is going on: parts and how far they have loaded, model, memory, mounted corpora, open work orders and jobs."
)


def tool(house: House) -> SoulTool:
    """The tool, bound to its house."""

    async def status() -> str:
        return in_words(await survey(house))

    return SoulTool.make(
        house,
        status,
        title="Status",
        description=DESCRIPTION,
        annotations=READS,
        recorded=False,
    )


async def survey(house: House) -> dict[str, Any]:
    """Everything worth knowing, as JSON data. Never waits for a part that is not there, never fails because of one."""
    parts: dict[str, Any] = {
        part.name: {"state": part.state, "progress": part.progress, "loaded_s": part.loaded_s}
        for part in (house.memory, house.engine, house.agents)
    }
    found: dict[str, Any] = {
        "version": house.version,
        "home": str(house.home),
        "up_s": round(time.time() - house.started, 1),
        "parts": parts,
    }
    engine = house.engine.peek()
    if engine is not None:
        info = engine.info
        found["model"] = {
            "name": info.name,
            "parameters": info.parameters,
            "context_tokens": info.context_tokens,
            "trained": info.trained,
            "trusted": info.trusted,
            "notice": info.notice,
            "fingerprint": info.fingerprint,
        }
        found["beside"] = [
            {"name": one.info.name, "bytes": one.info.bytes, "kv_bytes": one.kv_bytes, "idle": one.idle}
            for one in engine.companions.engines[1:]
        ]
        state = engine.status()
        unsaved = [one.name for one in state.contexts if one.save_error]
        found["kv"] = {
            "strategy": state.kv_strategy,
            "hot_bytes": state.kv_bytes,
            "written_bytes": state.kv_written_bytes,
            "not_durable": unsaved,
            "error": state.kv_error,
        }
    memory, agents = house.memory.peek(), house.agents.peek()
    for name, ask in (("memory", _memory), ("agents", _agents)):
        holder = memory if name == "memory" else agents
        if holder is None:
            continue
        try:
            found[name] = await ask(holder)  # type: ignore[operator]
        except SoulError as error:
            found[name] = {"error": str(error)}
    return found


async def _memory(memory: Memory) -> dict[str, Any]:
    notebook = await memory.notebook.current()
    return {
        "packets": await memory.packets.count(),
        "vectors_owed": await memory.packets.owed(),
        "embedder": memory.embedder.id if memory.embedder is not None else None,
        "mounted": list(await memory.corpora.mounted("director")),
        "corpora": [info.name for info in await memory.corpora.list()],
        "notebook": {"version": notebook.version, "tokens": notebook.tokens},
        "self_version": (await memory.selves.current()).version,
        "self_proposals": [str(proposal.id) for proposal in await memory.selves.pending()],
    }


async def _agents(agents: Agents) -> dict[str, Any]:
    flush = await agents.director.last_flush()
    return {
        "flush": _flush(flush) if flush is not None else None,
        "jobs_running": agents.jobs.running,
        "waiting_for_director": agents.director.waiting,
        "orders": [
            {"id": str(order.id), "state": order.state, "task": order.task[:120]}
            for order in await agents.orders.unfinished()
        ],
        "findings": [
            {"check": one.check, "wrong": one.wrong, "words": one.words, "since": one.since.isoformat()}
            for one in agents.controller.findings
        ],
        "plans": [await _plan(agents, plan) for plan in await agents.planner.plans.unfinished()],
    }


async def _plan(agents: Agents, plan: Plan) -> dict[str, Any]:
    steps = await agents.planner.plans.steps(plan.id)
    done = sum(step.state == "done" for step in steps)
    return {"id": str(plan.id), "state": plan.state, "goal": plan.goal[:120], "steps": len(steps), "done": done}


def _flush(flush: Flush) -> dict[str, Any]:
    facts = ("state", "cause", "turns", "tokens", "version", "author", "why")
    return {**{name: getattr(flush, name) for name in facts}, "created": flush.created.isoformat()}


def in_words(found: dict[str, Any]) -> str:
    """The survey as lines of text."""
    lines = [f"Soul {found['version']}, up {found['up_s']:.0f} s, home {found['home']}"]
    lines += [f"{name}: {part['progress']}" for name, part in found["parts"].items()]
    if model := found.get("model"):
        size = f"{model['parameters'] / 1e6:,.1f}M parameters, context {model['context_tokens']:,} tokens"
        lines.append(f"model: {model['name']}, {size}")
        if model["notice"]:
            lines.append(f"notice: {model['notice']}")
    for other in found.get("beside", ()):
        size = f"{other['bytes'] / 1e9:.2f} GB, caches {other['kv_bytes'] / 1e9:.2f} GB"
        lines.append(f"model beside it: {other['name']}, {size}{', idle' if other['idle'] else ''}")
    if (kv := found.get("kv")) and (kv["error"] or kv["not_durable"]):
        lines.append(f"not durable: {kv['error'] or ', '.join(kv['not_durable'])} (see `soul agents`)")
    if memory := found.get("memory"):
        lines += _memory_in_words(memory)
    if agents := found.get("agents"):
        lines += _agents_in_words(agents)
    return "\n".join(lines)


def _memory_in_words(memory: dict[str, Any]) -> list[str]:
    if "error" in memory:
        return [f"memory: {memory['error']}"]
    owed = f", {memory['vectors_owed']} vectors owed" if memory["vectors_owed"] else ""
    notebook = memory["notebook"]
    written = f"version {notebook['version']}, {notebook['tokens']:,} tokens"
    return [
        f"memory: {memory['packets']:,} packets{owed}, embedder {memory['embedder'] or 'none (keyword only)'}",
        f"mounted: {', '.join(memory['mounted']) or 'none'} (corpora: {', '.join(memory['corpora']) or 'none'})",
        f"notebook: {written}; self: version {memory['self_version']}",
        *(f"self proposal waiting for a decision: {id}" for id in memory["self_proposals"]),
    ]


def _agents_in_words(agents: dict[str, Any]) -> list[str]:
    if "error" in agents:
        return [f"agents: {agents['error']}"]
    return [
        f"jobs running: {agents['jobs_running']}, waiting for the Director: {agents['waiting_for_director']}",
        *([flush_in_words(agents["flush"])] if agents["flush"] else []),
        *(f"work order {order['id']} {order['state']}: {order['task']}" for order in agents["orders"]),
        *(_finding_in_words(one) for one in agents["findings"] if one["wrong"]),
        *(
            f"plan {plan['id']} {plan['state']}, {plan['done']} of {plan['steps']} done: {plan['goal']}"
            for plan in agents["plans"]
        ),
    ]


def _finding_in_words(one: dict[str, Any]) -> str:
    since = one["since"][:16].replace("T", " ")
    return f"check {one['check']} is wrong since {since}: {' '.join(one['words'].split())[:200]}"


def flush_in_words(flush: dict[str, Any]) -> str:
    """The latest flush in one line."""
    what = f"{flush['turns']} turns, {flush['tokens']:,} tokens, for {flush['cause']}"
    by = f" by {flush['author']}" if flush["author"] else ""
    because = f" because {flush['why']}" if flush["why"] else ""
    if flush["state"] != "done":
        return f"window: being let go ({flush['state']}; {what}){because}; the next turn goes on with it"
    when = flush["created"][:16].replace("T", " ")
    return f"window: last let go {when} ({what}); notebook version {flush['version']}{by}{because}"
