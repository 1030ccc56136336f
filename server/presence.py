"""Who is connected, and since when nobody is.

Knows clients and the moment to leave; does not know what they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

LONGEST_NAP_S = 30.0


@dataclass
class Client:
    """One connection, as `soul status` shows it."""

    number: int
    pid: int | None
    name: str = ""
    since: float = field(default_factory=time.time)
    """Unix time, seconds."""


class Presence:
    """The connections of a daemon."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._count = 0
        self._quiet_since = time.monotonic()

    @property
    def clients(self) -> list[Client]:
        return list(self._clients.values())

    @contextmanager
    def enter(self, pid: int | None) -> Generator[Client]:
        """Counts a connection as long as the block runs."""
        self._count += 1
        client = self._clients[self._count] = Client(self._count, pid)
        try:
            yield client
        finally:
            del self._clients[client.number]
            self.stir()

    def stir(self) -> None:
        """Something happened that shows the daemon is in use: the wait for idleness starts over."""
        self._quiet_since = time.monotonic()

    async def wait_idle(self, seconds: float, busy: Callable[[], bool]) -> None:
        """Returns when nobody was connected and nothing was `busy` for that long."""
        while True:
            if self._clients or busy():
                self.stir()
            left = self._quiet_since + seconds - time.monotonic()
            if left <= 0:
                return
            await anyio.sleep(min(left, LONGEST_NAP_S))
