"""The resources: what a client may read without a call: self, notebook, corpora, single memories, agents, status."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from agents.outfit import card
from engine.errors import Forbidden, NotFound, SoulError
from tools.check import identifier
from tools.house import House
from tools.status import survey

if TYPE_CHECKING:
    from engine.engine import Engine

JSON = "application/json"
TEXT = "text/plain"


def add_resources(server: MCPServer[Any], house: House) -> None:
    """Registers all resources on `server`."""

    @server.resource(
        "soul://self", name="self", description="The self in force: the Soul's own system prompt.", mime_type=TEXT
    )
    async def the_self() -> str:
        async def read() -> str:
            now = await (await house.memory.get()).selves.current()
            return f"[version {now.version}, {now.created:%Y-%m-%d %H:%M}, by {now.author}]\n\n{now.content}"

        return await _read(read)

    @server.resource("soul://notebook", name="notebook", description="The notebook as it stands.", mime_type=TEXT)
    async def the_notebook() -> str:
        async def read() -> str:
            now = await (await house.memory.get()).notebook.current()
            return f"[version {now.version}, {now.tokens:,} tokens]\n\n{now.content or '(empty)'}"

        return await _read(read)

    @server.resource(
        "soul://corpora", name="corpora", description="All corpora, and which are mounted.", mime_type=TEXT
    )
    async def the_corpora() -> str:
        async def read() -> str:
            infos = await (await house.memory.get()).corpora.list()
            blocks = [("[mounted] " if info.mounted else "") + card(info) for info in infos]
            return "\n\n".join(blocks) or "No corpus yet. `soul corpus add NAME PATH` makes one."

        return await _read(read)

    @server.resource(
        "soul://memory/{id}", name="memory", description="One memory, whole, with its origin.", mime_type=TEXT
    )
    async def one_memory(id: str) -> str:
        async def read() -> str:
            packet = await (await house.memory.get()).packets.get(identifier(id, "id", "recall gives them."))
            if packet.private:
                raise Forbidden("This memory is private.", "A person reads it: `soul recall --private`.")
            where = (
                f"corpus {packet.corpus}" if packet.corpus else f"agent {packet.agent}, session {packet.session or '-'}"
            )
            head = f"[{packet.kind}, {packet.time:%Y-%m-%d %H:%M:%S}, origin {packet.origin or '-'}, {where}]"
            meta = json.dumps(dict(packet.metadata), ensure_ascii=False, default=str)
            return f"{head}\n{meta}\n\n{packet.prose}"

        return await _read(read)

    @server.resource(
        "soul://orders/{id}",
        name="order",
        description="One work order with attempts, reviews and vector.",
        mime_type=JSON,
    )
    async def one_order(id: str) -> str:
        async def read() -> str:
            orders = (await house.agents.get()).orders
            key = identifier(id, "id", "invoke_agent(agent='hands') gives them.")
            order, attempts = await orders.get(key), await orders.attempts(key)
            return _json({**vars(order), "attempts": [vars(attempt) for attempt in attempts]})

        return await _read(read)

    @server.resource("soul://plans/{id}", name="plan", description="One plan and how far it is.", mime_type=TEXT)
    async def one_plan(id: str) -> str:
        async def read() -> str:
            from tools.plans import plan_text

            agents = await house.agents.get()
            key = identifier(id, "id", "invoke_agent(agent='architect') gives them.")
            return await plan_text(agents, await agents.planner.plans.get(key))

        return await _read(read)

    @server.resource(
        "soul://agents", name="agents", description="Who can be invoked, and what they are doing.", mime_type=JSON
    )
    async def the_agents() -> str:
        engine, agents = house.engine.peek(), house.agents.peek()
        director = {
            "name": "director",
            "role": "director",
            "runs_on": "mlx",
            "model": engine.info.name if engine else house.engine.progress,
            "context_tokens": engine.info.context_tokens if engine else None,
            "tokens_held": len(engine.ids("director")) if engine and engine.exists("director") else 0,
            "waiting": agents.director.waiting if agents else None,
            "working_memory": [vars(one) for one in engine.store.list()] if engine else [],
        }
        hands = {"name": "hands", "role": "hands", "runs_on": "client", "orders_close_with": "report_outcome"}
        listed: list[dict[str, Any]] = [director, hands]
        if agents is not None:
            try:
                specs = agents.outside.roster().specs
                listed += [spec.model_dump() for name, spec in specs.items() if name != "director"]
            except SoulError as error:
                listed.append({"error": str(error)})
        return _json(listed)

    @server.resource(
        "soul://generations", name="generations", description="The weights in force and their lineage.", mime_type=JSON
    )
    async def the_generations() -> str:
        async def read() -> str:
            from evolution.generations import Generations

            generations = Generations(house.home)
            info = (await house.engine.get(0)).info
            kept = [
                {
                    "generation": one.number,
                    "in_force": one.number == generations.current(),
                    "served": info.path == generations.folder(one.number),
                    "made": one.made,
                    "adapters": list(one.adapters),
                    "recipe": one.recipe,
                    "gate": one.verdict or "not judged",
                }
                for one in generations.all()
            ]
            served = {"model": info.name, "fingerprint": info.fingerprint}
            return _json({"served": served, "in_force": generations.current() or "anchor", "generations": kept})

        return await _read(read)

    @server.resource(
        "soul://budget",
        name="budget",
        description="Memory: weights, KV bytes per token, contexts that fit.",
        mime_type=JSON,
    )
    async def the_budget() -> str:
        async def read() -> str:
            engine = await house.engine.get(0)
            return _json(await anyio.to_thread.run_sync(_budget, engine))

        return await _read(read)

    @server.resource("soul://status", name="status", description="What is going on, as data.", mime_type=JSON)
    async def the_status() -> str:
        async def read() -> str:
            return _json(await survey(house))

        return await _read(read)


async def _read(read: Callable[[], Awaitable[str]]) -> str:
    try:
        return await read()
    except NotFound as error:
        raise ResourceNotFoundError(str(error)) from error
    except SoulError as error:
        raise ResourceError(str(error)) from error


def _budget(engine: Engine) -> dict[str, Any]:
    from engine.budget import Budget, KvFormat

    budget = Budget.of(engine.info.path, float32=engine.info.dtype == "float32")
    status = engine.status()
    formats: tuple[KvFormat, ...] = ("fp16", "q8", "k8v4")
    return {
        "model": engine.info.name,
        "memory_bytes": budget.memory_bytes,
        "usable_bytes": budget.usable_bytes,
        "weight_bytes": budget.weight_bytes,
        "kv_bytes_now": status.kv_bytes,
        "kv_form": status.kv_form,
        "kv_strategy": status.kv_strategy,
        "kv_written_bytes": status.kv_written_bytes,
        "kv_error": status.kv_error,
        "zone": status.zone,
        "kv_bytes_per_token": {name: budget.shape.kv_bytes_per_token(name) for name in formats},
        "fitting_tokens": {name: budget.fitting_tokens(name) for name in formats},
    }


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1, default=str)
