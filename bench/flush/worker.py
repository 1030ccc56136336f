"""One process that lets the Director answer without end over a database, to be killed at any moment.

Arguments: home, database URL, model folder, number of the first question, how many questions (0: no end). Says what it
does on stdout, one line each: `ready`, `asked N`, `flush`, `answered N`.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import anyio
import structlog

from agents.agent import Task
from agents.agents import Agents
from agents.toolbox import Toolbox
from agents.turn import Progress, TurnLimits
from engine.engine import Engine, EngineConfig
from memory.database import Database, DatabaseConfig
from memory.memory import Memory

CONTEXT_TOKENS = 3072
FILLER = "We talked about the weather in the mountains and about the sea. " * 8


def say(line: str) -> None:
    """A line that the other process has when this one is killed behind it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def told(progress: Progress) -> None:
    """Only the beginning of a flush is of interest."""
    if progress.stage.startswith("letting go of the window: ") and "turns" in progress.stage:
        say("flush")


async def main(home: Path, url: str, model: str, first: int, number: int) -> None:
    """Asks `number` questions, each in a session of its own name."""
    config = EngineConfig(home, model=model, download=False, context_tokens=CONTEXT_TOKENS)
    async with (
        Database.open(DatabaseConfig(home=home, url=url, pool_size=2)) as database,
        Memory.open(database, None) as memory,
        Engine.open(config) as engine,
    ):

        async def ready(_seconds: float) -> Engine:
            return engine

        async with Agents.open(memory, ready, Toolbox(), home, limits=TurnLimits(tokens=64)) as agents:
            say("ready")
            for question in count(first) if not number else range(first, first + number):
                say(f"asked {question}")
                text = f"Question {question}: we decided on number {question}. {FILLER}"
                await agents.director.answer(Task(text, (), "", "person", f"turn {question}"), told)
                say(f"answered {question}")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
