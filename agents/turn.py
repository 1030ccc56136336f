"""One bounded turn: generate, parse tool calls, call them, append, repeat; everything said becomes packets.

Knows the loop and its limits; does not know what the task means or who asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog

from agents.context import AgentContext
from agents.fence import fenced, shortened
from agents.toolbox import Toolbox
from engine.events import Finished, Prefill, Token
from engine.sampling import Sampling
from memory.packets import Packet
from memory.window import WindowTurn

if TYPE_CHECKING:
    from engine.engine import Engine
    from engine.grammar import CallGrammar

log = structlog.get_logger()

RESULT_CHARACTERS = 6_000
"""Longest tool result that goes into the window; the whole one is in the packet."""


@dataclass(frozen=True)
class TurnLimits:
    """Where a turn ends whatever the model wants. `tokens` is per reply."""

    steps: int = 6
    tokens: int = 768
    seconds: float = 300.0


@dataclass(frozen=True)
class Progress:
    """How far a turn is: a stage in words, the tokens sampled so far and the newest piece of text."""

    stage: str
    tokens: int = 0
    text: str = ""


@dataclass(frozen=True)
class TurnReport:
    """What came of a turn. Times in seconds; `stopped` says which limit ended it, "" if it ended by itself."""

    text: str
    steps: int
    calls: tuple[str, ...]
    read: int
    cached: int
    written: int
    seconds: float
    first_token_s: float | None
    stopped: str


@dataclass(frozen=True)
class Form:
    """What an answer has to be: a JSON document of `schema`. `says` tells the model so."""

    schema: Mapping[str, Any]
    says: str


Room = Callable[[], Awaitable[bool]]
"""Makes room for one more reply; False when there is none."""

Make = Callable[..., Packet]
"""Makes a packet of this turn: kind, prose, origin, metadata."""


class Turn:
    """Runs one turn of one agent. The caller holds the agent's lock. With a `form` the answer is a document of it."""

    def __init__(
        self,
        engine: Engine,
        context: AgentContext,
        toolbox: Toolbox,
        limits: TurnLimits,
        make: Make,
        room: Room,
        report: Callable[[Progress], None],
        form: Form | None = None,
    ) -> None:
        self._engine = engine
        self._context = context
        self._toolbox = toolbox
        self._limits = limits
        self._make = make
        self._room = room
        self._report = report
        self._form = form
        self._read = self._cached = self._written = 0
        self._first: float | None = None
        self._started = time.monotonic()

    async def run(self) -> TurnReport:
        """Answers the user turn that was committed last.

        A cancelled turn leaves the window closed with a mark, so that the next one follows a whole conversation.
        """
        calls: list[str] = []
        text, stopped, steps = "", "", 0
        try:
            while True:
                steps += 1
                finished = await self._reply()
                reply = self._engine.chat.parse(finished.text, self._toolbox.functions)
                text = reply.text.strip()
                if finished.reason == "length" and not reply.calls:
                    stopped = f"the limit of {self._limits.tokens} tokens"
                wanted = [*reply.calls]
                # A document is for the house; whoever asked for it remembers it in words.
                kind = "thought" if wanted else "event" if self._form else "answer"
                await self._commit_reply(finished, kind, text or finished.text)
                if not wanted and not reply.errors:
                    break
                if steps >= self._limits.steps:
                    stopped = f"the limit of {self._limits.steps} steps"
                    break
                if time.monotonic() - self._started > self._limits.seconds:
                    stopped = f"the limit of {self._limits.seconds:.0f} seconds"
                    break
                for error in reply.errors:
                    await self._commit_result("error", f"This call could not be read: {error}", ok=False)
                for call in wanted:
                    signature = f"{call.name}({json.dumps(call.arguments, ensure_ascii=False, sort_keys=True)})"
                    repeated = signature in calls
                    calls.append(signature)
                    await self._call(call.name, call.arguments, signature, repeated)
                if not await self._room():
                    stopped = "the end of the window"
                    await self._close_interrupted()
                    break
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._close_interrupted()
            raise
        seconds = time.monotonic() - self._started
        return TurnReport(
            text, steps, tuple(calls), self._read, self._cached, self._written, seconds, self._first, stopped
        )

    async def _reply(self) -> Finished:
        ids = [*await self._context.missing(self._engine), *self._engine.chat.reply_start()]
        # In a thread: the first grammar of a model takes apart its vocabulary.
        calls = await anyio.to_thread.run_sync(self._grammar)
        sampling = Sampling(max_tokens=self._limits.tokens, calls=calls)
        async for event in self._engine.generate(self._context.agent, ids, sampling):
            match event:
                case Prefill(done, total):
                    self._report(Progress(f"reading {done}/{total} tokens", self._written))
                case Token():
                    if self._first is None:
                        self._first = time.monotonic() - self._started
                    self._written += 1
                    self._report(Progress("answering", self._written, event.text))
                case Finished():
                    self._read += event.prompt_tokens
                    self._cached += event.cached_tokens
                    return event
        raise AssertionError("the engine ended a generation without saying how")

    def _grammar(self) -> CallGrammar | None:
        chat = self._engine.chat
        return chat.document_grammar(self._form.schema) if self._form else chat.call_grammar(self._toolbox.functions)

    async def _commit_reply(self, finished: Finished, kind: str, prose: str) -> None:
        chat = self._engine.chat
        ids = (*chat.reply_start(), *finished.ids, *chat.reply_end(finished.ids))
        packet = self._make(kind, prose or "(an empty reply)", self._context.agent)
        await self._context.commit([WindowTurn("assistant", finished.text, ids, packet.id)], [packet])

    async def _call(self, name: str, arguments: dict[str, Any], signature: str, repeated: bool) -> None:
        self._report(Progress(f"calling {name}", self._written))
        if repeated:
            await self._commit_result(
                name, "You made this very call before in this turn. Answer with what you have.", ok=False
            )
            return
        result, ok = await self._toolbox.call(name, arguments)
        await self._commit_result(name, result, ok, call=signature)

    async def _commit_result(self, name: str, result: str, ok: bool, call: str = "") -> None:
        shown = fenced(shortened(result, RESULT_CHARACTERS), f"tool {name}" + ("" if ok else ", error"))
        ids = tuple(self._engine.chat.turn("tool", shown, name))
        packets = [self._make("call", call, self._context.agent)] if call else []
        packets.append(self._make("result", result or "(nothing)", f"tool:{name}", {"ok": ok}))
        await self._context.commit([WindowTurn("tool", shown, ids, packets[-1].id, name)], packets)

    async def _close_interrupted(self) -> None:
        window = self._context.window
        if window.turns and window.turns[-1].role != "assistant":
            said = "[interrupted before an answer]"
            ids = tuple(self._engine.chat.turn("assistant", said))
            packet = self._make("event", said, "soul")
            await self._context.commit([WindowTurn("assistant", said, ids, packet.id)], [packet])
