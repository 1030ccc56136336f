"""Pressure: when an agent's window is full, its notebook is rewritten from it and the window let go.

Each step is recorded before the next begins (`memory.flushes`), so that one broken off by a crash, a lost database or
somebody who hung up is taken up again by the next turn. Knows when and in which order; does not know how a turn loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from agents import rewriting
from agents.context import MARGIN, AgentContext
from agents.digest import Source, candidates, digest
from agents.turn import Progress
from engine.errors import Conflict, OverBudget
from memory.flushes import Cause, Flush

if TYPE_CHECKING:
    from engine.engine import Engine
    from memory.memory import Memory

log = structlog.get_logger()

Report = Callable[[Progress], None]

PRESSURE = 0.95
"""Share of the context at which the window is let go."""
REWRITE_SHARE = 8
"""A rewritten notebook takes at most one token in so many of the context, however large its budget."""
LEAST_REWRITE = 256
"""Tokens that are always kept free for it; mostly there are more, since a turn asks for room for its longest answer."""
DRAFTS = 4
"""Drafts in one flush: a notebook that somebody writes meanwhile makes the draft stale."""
NUMBER = 999
"""A line's number in the request costs at most as much as this one."""
REPORT_WORDS = "letting go of the window"


@dataclass(frozen=True)
class Flushed:
    """What came of a flush. `why` says why the Director did not write the notebook itself, "" where it did."""

    cause: Cause
    turns: int
    tokens: int
    tokens_after: int
    version: int
    author: str
    why: str
    resumed: bool

    @property
    def words(self) -> str:
        """For a person and a client."""
        by = f"written by {self.author}" + (f" because {self.why}" if self.why else "")
        again = ", taken up after a break" if self.resumed else ""
        return (
            f"The window was let go{again}: {self.turns} turns, {self.tokens:,} tokens before and "
            f"{self.tokens_after:,} after; notebook version {self.version}, {by}. All of it stays in memory."
        )


class Pressure:
    """Keeps one agent's window below its limit. The caller holds the agent's lock: new input waits for it."""

    def __init__(self, context: AgentContext, memory: Memory, share: float = PRESSURE, seconds: float = 300.0) -> None:
        self._context = context
        self._memory = memory
        self.share = share
        self._seconds = seconds

    def rewrite_tokens(self, engine: Engine) -> int:
        """How long a rewritten notebook may be."""
        return max(64, min(self._memory.notebook.budget, engine.info.context_tokens // REWRITE_SHARE))

    def reserved(self, engine: Engine) -> int:
        """Tokens kept free for the rewrite: the request and the shortest notebook that is worth asking for."""
        return self._asking(engine) + min(LEAST_REWRITE, self.rewrite_tokens(engine))

    def _asking(self, engine: Engine) -> int:
        return len(engine.chat.turn("user", rewriting.request(self.rewrite_tokens(engine)))) + MARGIN

    def limit(self, engine: Engine) -> int:
        """Tokens that window and opening may have together: the share, or less in a context so small (below about
        9,000 tokens) that the rest is too little for a rewrite."""
        context = engine.info.context_tokens
        return min(int(context * self.share), context - self.reserved(engine))

    async def prepare(self, engine: Engine, incoming: int, reply: int, report: Report) -> tuple[str, Flushed | None]:
        """Makes room for a new turn of `incoming` tokens and answers of `reply`: (delta to tell first, what was done).

        Raises:
            OverBudget: the turn alone does not fit beside the opening.
        """
        done = await self.resume(engine, report)
        delta = await self._context.prepare(engine)
        if self._held(engine, delta) + incoming + reply + MARGIN <= self.limit(engine):
            return delta, done
        opening = await self._context.folded(engine)
        self._require(engine, len(opening.ids), incoming, reply)
        if self._context.window.turns:
            done = await self._flush(engine, "pressure", (), report)
        else:
            await self._context.reopen(engine)
        delta = await self._context.prepare(engine)
        self._require(engine, self._held(engine, delta), incoming, reply)
        return delta, done

    async def within(self, engine: Engine, reply: int, report: Report) -> tuple[bool, Flushed | None]:
        """Makes room for the next reply of a turn that goes on, whose own exchange stays: (is there room, what was
        done)."""
        if self._held(engine) + reply + MARGIN <= self.limit(engine):
            return True, None
        turns = self._context.window.turns
        begun = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
        done = None
        if begun > 0:
            done = await self._flush(engine, "pressure", [turn.packet for turn in turns[begun:]], report)
        return self._held(engine) + reply + MARGIN <= engine.info.context_tokens, done

    async def flush(self, engine: Engine, report: Report) -> Flushed:
        """Lets go of the window by hand."""
        done = await self.resume(engine, report)
        await self._context.prepare(engine)
        return done or await self._flush(engine, "person", (), report)

    async def resume(self, engine: Engine, report: Report) -> Flushed | None:
        """Ends a flush that was broken off; None where there is none."""
        flush = await self._memory.flushes.unfinished(self._context.agent)
        if flush is None:
            return None
        log.info("flush", step="resumed", state=flush.state, agent=flush.agent, flush=str(flush.id))
        # Its last step may have been committed, and the answer lost.
        self._context.reload()
        await self._context.prepare(engine)
        return await self._finish(engine, flush, report, resumed=True)

    async def _flush(self, engine: Engine, cause: Cause, kept: Sequence[UUID], report: Report) -> Flushed:
        window = self._context.window
        tokens, limit = len(window.ids), self.limit(engine)
        report(Progress(f"{REPORT_WORDS}: {tokens:,} of {limit:,} tokens, {len(window.turns)} turns"))
        version = (await self._memory.notebook.current()).version
        flush = await self._memory.flushes.begin(self._context.agent, cause, version, len(window.turns), tokens, kept)
        log.info("flush", step="held", cause=cause, agent=flush.agent, flush=str(flush.id), tokens=tokens, limit=limit)
        return await self._finish(engine, flush, report, resumed=False)

    async def _finish(self, engine: Engine, flush: Flush, report: Report, *, resumed: bool) -> Flushed:
        """The remaining steps. A draft that became stale, since somebody wrote the notebook, is made anew."""
        flushes = self._memory.flushes
        for attempt in range(DRAFTS):
            if flush.state == "held":
                flush = await self._draft(engine, flush, report, stale=attempt > 0)
            if flush.state == "rewritten":
                report(Progress(f"{REPORT_WORDS}: archiving"))
                written = await flushes.archive(flush)
                log.info("flush", step="archived", flush=str(flush.id), written=written)
            report(Progress(f"{REPORT_WORDS}: opening a new one"))
            current = await self._memory.notebook.current()
            unchanged = flush.draft == current.content
            version = flush.base_version + (not unchanged)
            opening = await self._context.folded(engine, version, flush.draft)
            kept = [turn for turn in self._context.window.turns if turn.packet in flush.kept]
            if await flushes.finish(flush, opening, kept, engine.chat.count(flush.draft)):
                self._context.reload()
                await self._context.prepare(engine)
                after = len(self._context.window.ids)
                log.info("flush", step="done", flush=str(flush.id), version=version, author=flush.author, why=flush.why)
                return Flushed(flush.cause, flush.turns, flush.tokens, after, version, flush.author, flush.why, resumed)
            log.info("flush", step="stale", flush=str(flush.id), base=flush.base_version)
            flush = await flushes.hold(flush)
        raise Conflict(
            "The notebook was written again and again while the window was to be let go.", "Call again in a moment."
        )

    async def _draft(self, engine: Engine, flush: Flush, report: Report, *, stale: bool) -> Flush:
        """The Director's rewrite, or the digest; recorded before anything is done with it."""
        notebook = await self._memory.notebook.current()
        budget = self.rewrite_tokens(engine)
        least = min(LEAST_REWRITE, budget)
        room = engine.info.context_tokens - self._held(engine) - self._asking(engine)
        text, author, why = "", f"director ({engine.info.name})", ""
        said = await self._said()
        if not self._context.window.turns:
            return await self._memory.flushes.drafted(flush, notebook.version, notebook.content, notebook.author, "")
        if not engine.info.trusted:
            why = "the model is a stand-in"
        elif stale:
            why = "somebody wrote the notebook while the Director did"
        elif room < least:
            why = "the window left no room for the Director's rewrite"
        else:
            report(Progress(f"{REPORT_WORDS}: rewriting the notebook"))
            # What is shown must fit into the notebook, and takes nothing of the least that an answer needs.
            count = engine.chat.count
            heading = count(rewriting.CHOOSING)
            shown = min(budget, room // 2, room - least - heading)
            lines = candidates(notebook.content, said, shown, lambda line: count(rewriting.numbered(line, NUMBER)))
            room -= count(rewriting.request(budget, lines)) - count(rewriting.request(budget))
            draft = await rewriting.rewrite(engine, self._context, lines, min(budget, room), self._seconds, report)
            text, why = draft.text, f"the Director's rewrite {draft.fault}" if draft.fault else ""
        if why:
            report(Progress(f"{REPORT_WORDS}: digest without a model, {why}"))
            text = (digest(notebook.content, said, budget, engine.chat.count) if said else "") or notebook.content
            author = "digest"
        log.info("flush", step="rewritten", flush=str(flush.id), author=author, why=why)
        return await self._memory.flushes.drafted(flush, notebook.version, text.strip("\n"), author, why)

    async def _said(self) -> list[tuple[Source, str]]:
        """What was said and answered. Results are material from outside, and a stand-in's words mean nothing."""
        sources: dict[str, Source] = {"said": "said", "answer": "answer", "thought": "answer"}
        said = await self._memory.flushes.said(self._context.agent)
        return [(sources[one.kind], one.prose) for one in said if one.kind in sources and one.resonance > 0]

    def _held(self, engine: Engine, delta: str = "") -> int:
        return len(self._context.window.ids) + (engine.chat.count(delta) if delta else 0)

    def _require(self, engine: Engine, held: int, incoming: int, reply: int) -> None:
        limit = engine.info.context_tokens
        if held + incoming + reply + MARGIN > limit:
            raise OverBudget(
                f"The task has {incoming:,} tokens; beside self, tools and notebook ({held:,}) and {reply:,} for the "
                f"answer only {max(0, limit - held - reply - MARGIN):,} fit into the {limit:,} of this model.",
                "Shorten it, or put the material into a corpus (`soul corpus add`) and mount it.",
            )
