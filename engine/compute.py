"""The one thread that owns MLX, and how others reach it.

Arrays and generators of MLX are bound to the thread that made them, so that loading, prefill, decode and training all
run here, and only ids, text, bytes and numbers leave. Knows turns and queues; does not know what a run computes.

Turns: between two orders, every running request makes one step. A decode step is one token, a prefill step is one
chunk; only one request prefills per round, so that a long prompt costs the others one chunk's time per token at most.
Requests that decode and whose caches allow it share one pass over the weights per round; they come and go at any step.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

import anyio
import anyio.to_thread
import structlog

from engine.errors import Unavailable

log = structlog.get_logger()

T = TypeVar("T")
JOIN_S = 20.0
"""How long closing waits for a step (or a load) that is still computing."""


class Run(Protocol):
    """A request that makes steps on the compute thread until it is done."""

    @property
    def phase(self) -> Literal["prefill", "decode"]: ...

    @property
    def model(self) -> object:
        """What it computes with."""
        ...

    @property
    def joins(self) -> bool:
        """Whether its next step can be computed in one pass with that of others of its model that say so too."""
        ...

    def step(self) -> bool:
        """Computes one chunk or one token; True when the request is done and settled."""
        ...

    def step_with(self, others: Any) -> list[bool]:
        """One step for this run and `others`, all of which join; which are done, this one first."""
        ...

    def fail(self, error: Exception) -> None:
        """Settles the request after `step` raised, or since the engine closes."""
        ...


class Loop:
    """Calls back into the event loop that opened the engine, from any thread, without waiting for it."""

    def __init__(self) -> None:
        # anyio has no call that does not block the calling thread until the loop has run it; a decode step must not
        # wait for a busy event loop.
        self._loop = asyncio.get_running_loop()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            log.debug("event_loop_gone")


class ComputeThread:
    """Starts, feeds and stops the thread."""

    def __init__(self, name: str = "soul-compute", loop: Loop | None = None) -> None:
        self.loop = loop or Loop()
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._running: list[Run] = []
        self._closing = False
        # A daemon thread: a load of minutes must not keep a process alive that was told to leave.
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def runs(self) -> tuple[Run, ...]:
        """The requests that are running now; a snapshot, safe to take from any thread."""
        return tuple(self._running)

    def post(self, order: Callable[[], object]) -> None:
        """Has `order` called on the thread before the next step; its errors are logged."""
        self._orders.put(order)

    def submit(self, run: Run) -> None:
        """Puts a request among the running ones."""
        if self._closing:
            run.fail(Unavailable("The model is shutting down.", "Call again; a new daemon starts by itself."))
            return
        self._orders.put(lambda: self._running.append(run))

    async def call(self, function: Callable[[], T]) -> T:
        """Runs `function` on the thread between steps and returns its result or raises its error.

        When the caller is cancelled before the function started it never runs; once started it runs to its end.
        """
        if self._closing:
            raise Unavailable("The model is shutting down.", "Call again; a new daemon starts by itself.")
        order = _Order(function, self.loop)
        self._orders.put(order.run)
        try:
            await order.done.wait()
        except BaseException:
            order.abandoned = True
            raise
        return order.result()

    async def stop(self) -> None:
        """Fails what is still running and waits, up to `JOIN_S`, for the thread to end."""
        self._closing = True
        self._orders.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join, JOIN_S)
        if self._thread.is_alive():
            log.warning("compute_thread_busy_at_exit")

    def _live(self) -> None:
        try:
            while self._take_orders():
                self._round()
        finally:
            for run in self._running:
                run.fail(Unavailable("The model was closed in mid-answer.", "Ask again."))
            self._running.clear()
            _release_streams()

    def _take_orders(self) -> bool:
        """Carries out what is queued, waiting only when nothing runs. False when the thread must end."""
        while True:
            try:
                order = self._orders.get(block=not self._running)
            except queue.Empty:
                return True
            if order is None:
                return False
            try:
                order()
            except Exception:
                log.exception("compute_order_failed")

    def _round(self) -> None:
        """One token for each that decodes, in one pass where they can, and one chunk for the first that prefills."""
        joining: defaultdict[int, list[Run]] = defaultdict(list)
        for run in self._running:
            if run.joins:
                joining[id(run.model)].append(run)
        together = [run for runs in joining.values() if len(runs) > 1 for run in runs]
        for runs in joining.values():
            if len(runs) > 1:
                self._step_together(runs)
        prefilled = False
        for run in tuple(self._running):
            if run in together:
                continue
            if run.phase == "prefill":
                if prefilled:
                    continue
                prefilled = True
                # To the end of the list, so that the next round's chunk is another request's.
                self._running.remove(run)
                self._running.append(run)
            if self._step(run):
                self._running.remove(run)

    def _step_together(self, runs: list[Run]) -> None:
        try:
            done = runs[0].step_with(runs[1:])
        except Exception as error:
            # Some caches may have taken the token in and others not; none of them can be gone on from.
            log.exception("compute_step_failed", together=len(runs))
            for run in runs:
                run.fail(error)
            done = [True] * len(runs)
        for run, ended in zip(runs, done, strict=True):
            if ended:
                self._running.remove(run)

    def _step(self, run: Run) -> bool:
        try:
            return run.step()
        except Exception as error:
            log.exception("compute_step_failed")
            run.fail(error)
            return True


class _Order(Generic[T]):
    """A function on its way to the thread, and its result on the way back."""

    def __init__(self, function: Callable[[], T], loop: Loop) -> None:
        self._function = function
        self._loop = loop
        self._value: T | None = None
        self._error: BaseException | None = None
        self.done = anyio.Event()
        self.abandoned = False

    def run(self) -> None:
        if not self.abandoned:
            try:
                self._value = self._function()
            except BaseException as error:  # carried to the caller, whatever it is
                self._error = error
        self._loop.call(self.done.set)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value  # pyright: ignore[reportReturnType]  (None is T's own None)


def _release_streams() -> None:
    """Ends MLX's worker threads of this thread: a process whose MLX thread just ends aborts at exit (MLX 0.32)."""
    import sys

    if "mlx.core" in sys.modules:
        from engine.backend import mx

        mx.synchronize()
        mx.clear_streams()
