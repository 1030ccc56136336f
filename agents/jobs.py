"""Jobs: work that may outlast the call that began it. Rows tell what became of each, also after a restart.

Knows running and waiting; does not know what the work is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import anyio
import anyio.abc
import structlog

from agents.turn import Progress
from engine.errors import NotFound, SoulError
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    from memory.database import Database

log = structlog.get_logger()

JobState = Literal["running", "done", "failed", "cancelled", "interrupted"]
Work = Callable[[Callable[[Progress], None]], Awaitable[str]]


@dataclass(frozen=True)
class Job:
    """One job as its row says. `answer` is the answer when done and the error when failed."""

    id: UUID
    agent: str
    task: str
    client: str
    session: str
    state: JobState
    answer: str
    created: datetime
    ended: datetime | None


@dataclass
class _Running:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    moved: anyio.Event = field(default_factory=anyio.Event)
    progress: Progress = field(default_factory=lambda: Progress("waiting for the Director"))
    text: str = ""


class Jobs:
    """Starts, watches and cancels jobs; owns no thread and no loop but the task group it is given."""

    ADD = "INSERT INTO jobs (id, agent, task, client, session) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING"
    GET = "SELECT id, agent, task, client, session, state, answer, created, ended FROM jobs WHERE id = $1"
    END = "UPDATE jobs SET state = $2, answer = $3, ended = now() WHERE id = $1 AND state = 'running'"
    INTERRUPT = """UPDATE jobs SET state = 'interrupted', ended = now(),
                   answer = 'The daemon ended while this job ran. Send the task again.' WHERE state = 'running'"""

    def __init__(self, database: Database, tasks: anyio.abc.TaskGroup) -> None:
        self._database = database
        self._tasks = tasks
        self._running: dict[UUID, _Running] = {}

    @property
    def running(self) -> int:
        """Number of jobs that run now."""
        return len(self._running)

    async def recover(self) -> None:
        """Marks jobs of a daemon that is gone: nobody works on them any more."""
        await self._database.execute(self.INTERRUPT)

    async def start(self, agent: str, task: str, client: str, session: str, work: Work) -> UUID:
        """Records the job, then starts it."""
        id = uuid7()
        await self._database.execute(self.ADD, id, agent, task, client, session)
        running = self._running[id] = _Running()
        self._tasks.start_soon(self._run, id, running, work, name=f"job {id}")
        return id

    async def get(self, id: UUID) -> Job:
        """The job's row; NotFound when there is none of that id."""
        row = await self._database.fetchrow(self.GET, id)
        if row is None:
            raise NotFound(f"There is no job {id}.", "Job ids come from invoke_agent; start the task again.")
        return Job(**dict(row))

    async def wait(self, id: UUID, seconds: float, report: Callable[[Progress, str], Awaitable[None]]) -> Job:
        """Waits until the job ends or `seconds` pass; tells `report` each time it moved (stage, text so far)."""
        running = self._running.get(id)
        if running is not None:
            with anyio.move_on_after(seconds):
                while not running.ended.is_set():
                    await running.moved.wait()
                    running.moved = anyio.Event()
                    await report(running.progress, running.text)
        return await self.get(id)

    async def ended(self, id: UUID) -> Job:
        """The job when it has ended."""
        running = self._running.get(id)
        if running is not None:
            await running.ended.wait()
        return await self.get(id)

    async def cancel(self, id: UUID) -> None:
        """Stops a running job and waits until it has let go; a job that is not running is left as it is."""
        running = self._running.get(id)
        if running is not None:
            running.scope.cancel()
            await running.ended.wait()

    async def _run(self, id: UUID, running: _Running, work: Work) -> None:
        def report(progress: Progress) -> None:
            running.progress = progress
            running.text += progress.text
            running.moved.set()

        state: JobState = "cancelled"
        answer = "This job was cancelled. Send the task again."
        try:
            with running.scope:
                answer = await work(report)
                state = "done"
        except SoulError as error:
            state, answer = "failed", str(error)
        except Exception as error:
            log.exception("job failed", job=str(id))
            state, answer = "failed", f"The job failed: {type(error).__name__}. See logs/daemon.log."
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await self._end(id, state, answer)
            del self._running[id]
            running.ended.set()
            running.moved.set()

    async def _end(self, id: UUID, state: JobState, answer: str) -> None:
        try:
            await self._database.execute(self.END, id, state, answer)
        except SoulError:
            # The row stays 'running' and becomes 'interrupted' at the next start: the answer itself is a packet.
            log.exception("the end of a job could not be recorded", job=str(id), state=state)
