"""The house that every tool receives: its parts, and how far each one has come.

Knows how to wait for a part; does not know how a part is built (`server.building` does). Light to import, since the
handshake must be answered before MLX, Postgres or numpy are even imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import anyio

from engine.errors import SoulError, StillLoading, Unavailable

if TYPE_CHECKING:
    from agents.agents import Agents
    from engine.engine import Engine
    from memory.memory import Memory

T = TypeVar("T")
State = Literal["waiting", "loading", "ready", "failed", "closed"]

RETRY_AFTER_S = 5.0
"""A failed part is opened anew when somebody asks for it, but not more often than this."""


class Part(Generic[T]):
    """One long-loading part of the house: the database with memory, the engine, the agents.

    `run` owns the part's whole life in one task; `get` is what callers use. A part that failed to open is opened
    again when it is next asked for, so that a person who freed the disk need not restart anything.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: State = "waiting"
        self.detail = ""
        self.fraction: float | None = None
        self.error: SoulError | None = None
        self.loaded_s: float | None = None
        self._value: T | None = None
        self._changed = anyio.Event()
        self._wanted = anyio.Event()
        self._outdated = anyio.Event()
        self._failed_at = 0.0

    def report(self, detail: str, fraction: float | None = None) -> None:
        """Says how far loading has come; `fraction` is 0..1 where it is known."""
        self.detail = detail
        self.fraction = fraction

    @property
    def progress(self) -> str:
        """`loading, 40 %` or what else is true now, for a person."""
        if self.state == "loading" and self.fraction is not None:
            return f"loading, {self.fraction * 100:.0f} %" + (f" ({self.detail})" if self.detail else "")
        if self.state == "failed" and self.error is not None:
            return f"failed: {self.error}"
        return self.state + (f" ({self.detail})" if self.detail else "")

    def peek(self) -> T | None:
        """The part if it is ready, without waiting."""
        return self._value if self.state == "ready" else None

    async def get(self, wait_s: float = 10.0) -> T:
        """The part, waiting up to `wait_s` seconds for it.

        Raises:
            StillLoading: it is not there yet; the same call works later.
            Unavailable: it failed to open; the reason and its remedy are in the message.
        """
        if self.state == "failed" and time.monotonic() - self._failed_at >= RETRY_AFTER_S:
            self._wanted.set()
            self._set("waiting")
        with anyio.move_on_after(wait_s):
            while self.state in ("waiting", "loading"):
                await self._changed.wait()
        if self.state == "ready" and self._value is not None:
            return self._value
        if self.state == "failed" and self.error is not None:
            raise Unavailable(f"The {self.name} is not available: {self.error.fact}", self.error.remedy)
        if self.state == "closed":
            raise Unavailable(f"The {self.name} is shutting down.", "Call again; a new daemon starts by itself.")
        raise StillLoading(f"The {self.name} is still {self.progress}.", "Call again in a few seconds.")

    def reopen(self) -> None:
        """Closes a part that is ready and opens it anew. Who asks meanwhile waits; its users must be gone."""
        if self.state == "ready":
            self._value = None
            self._set("loading")
            self._outdated.set()

    async def run(self, open_part: Callable[[Part[T]], AbstractAsyncContextManager[T]]) -> None:
        """Opens the part and holds it until cancelled.

        It is opened again when it had failed and is asked for, or when it is outdated.
        """
        while True:
            self._outdated = anyio.Event()
            self._set("loading")
            started = time.monotonic()
            try:
                async with open_part(self) as value:
                    self._value = value
                    self.error = None
                    self.report("")
                    self.loaded_s = time.monotonic() - started
                    self._set("ready")
                    try:
                        await self._outdated.wait()
                    finally:
                        self._value = None
                        self._set("loading" if self._outdated.is_set() else "closed")
                continue
            except SoulError as error:
                self._fail(error)
            except Exception as error:
                # Whatever a library throws while a part opens must not take the other parts down.
                self._fail(
                    Unavailable(
                        f"{type(error).__name__}: {error}", "See logs/daemon.log; `soul doctor` checks every part."
                    )
                )
            await self._wanted.wait()
            self._wanted = anyio.Event()

    def _fail(self, error: SoulError) -> None:
        self.error = error
        self._failed_at = time.monotonic()
        self._set("failed")

    def _set(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = anyio.Event()


@dataclass(frozen=True)
class House:
    """What tools, resources and prompts may touch. One per daemon."""

    home: Path
    allowed_roots: tuple[Path, ...]
    """Folders under which a corpus may lie; paths are resolved before they are compared."""
    memory: Part[Memory] = field(default_factory=lambda: Part["Memory"]("memory"))
    engine: Part[Engine] = field(default_factory=lambda: Part["Engine"]("model"))
    agents: Part[Agents] = field(default_factory=lambda: Part["Agents"]("Director"))
    started: float = field(default_factory=time.time)
    """Unix time, seconds."""
    version: str = ""

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` for the Director; estimated from above by its bytes while no model is loaded."""
        engine = self.engine.peek()
        return engine.chat.count(text) if engine is not None else -(-len(text.encode()) // 3)
