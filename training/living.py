"""Memory over two flushes, through the real server: what was told is asked for when it has left the view.

A fresh home, the real `soul` daemon and an MCP client over stdio. Knows what is told and what is right; does not know
how the Director remembers it.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextContent

from tools.invoke_agent import own_words
from training.facts import fact, question
from training.phrases import CHATTER
from training.scenes import stated
from training.vocabulary import CITIES, Vocabulary

SOUL = Path(sys.executable).parent / "soul"
FACTS = 20
FLUSHES = 2
CONTEXT = 4_096
MOST_CHATTER = 120
"""Pieces of small talk after which the pressure should have come long ago."""
WAIT_S = 300


async def remembered(home: Path, model: Path, seed: int) -> list[bool]:
    """Which of the facts are answered right, from notebook or recall, after the window was let go twice.

    Raises:
        RuntimeError: the pressure did not come, or a tool reports an error.
    """
    environment = {
        **os.environ,
        "SOUL_HOME": str(home),
        "SOUL_MODEL": str(model),
        "SOUL_DOWNLOAD": "false",
        "SOUL_CONTEXT_TOKENS": str(CONTEXT),
    }
    words = Vocabulary(random.Random(f"living {seed}"), "held_out")
    facts = list({one.key: one for one in (fact(words) for _ in range(2 * FACTS))}.values())[:FACTS]
    flushes = 0

    async def says(client: Client, text: str) -> str:
        nonlocal flushes
        let_go = False

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            nonlocal let_go
            let_go = let_go or (message or "").startswith("letting go")

        result = await client.call_tool(
            "invoke_agent",
            {"task": text, "wait_s": WAIT_S},
            progress_callback=heard,
            read_timeout_seconds=2 * WAIT_S,
        )
        answer = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        if result.is_error:
            raise RuntimeError(answer)
        flushes += let_go
        return answer

    def chatter() -> str:
        return words.rng.choice(CHATTER["held_out"]).format(p=words.person(), c=words.of(CITIES))

    try:
        parameters = StdioServerParameters(command=str(SOUL), args=["serve"], env=environment)
        async with Client(parameters, mode="legacy", read_timeout_seconds=2 * WAIT_S) as client:
            for one in facts:
                await says(client, one.said)
                await says(client, chatter())
            for _ in range(MOST_CHATTER):
                if flushes >= FLUSHES:
                    break
                await says(client, chatter())
            else:
                raise RuntimeError(f"The window was let go {flushes} times only.")
            return [one.value in stated(own_words(await says(client, question(words, one)))) for one in facts]
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.run_process([str(SOUL), "stop"], env=environment, check=False)
