"""The engine: contexts of token ids over one loaded model, for any number of callers on the event loop.

Knows contexts, requests and their order. All MLX objects live on the compute thread (`engine.compute`); callers hand in
ids and get ids, text and numbers. Importing this module imports no MLX.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio

from engine.admission import Admission
from engine.companions import Companions
from engine.compute import ComputeThread
from engine.config import EngineConfig
from engine.ending import Ending, in_words
from engine.errors import Conflict, InvalidInput, NotFound
from engine.events import ContextStatus, EngineStatus, Event, Finished, ModelInfo, Prefill, Token
from engine.hot import HotSet
from engine.opening import Report, find_model
from engine.sampling import Sampling

if TYPE_CHECKING:
    from engine.chat import Chat
    from engine.contexts import Context
    from engine.kv.store import Store
    from engine.models import Loaded
    from engine.runs import Generation, Model

__all__ = ["Engine", "EngineConfig", "EngineStatus", "Event", "Finished", "ModelInfo", "Prefill", "Sampling", "Token"]


class Engine:
    """One loaded model with its contexts. Open it with `Engine.open`; use it from one event loop."""

    def __init__(
        self,
        compute: ComputeThread,
        loaded: Loaded,
        chat: Chat,
        store: Store,
        config: EngineConfig,
        companions: Companions,
    ) -> None:
        """Runs on the compute thread."""
        from engine.backend import BLAS, device
        from engine.runs import Model

        self.info: ModelInfo = loaded.info
        self.chat: Chat = chat
        self._compute = compute
        self._model: Model = Model(
            network=loaded.network,
            tokenizer=loaded.tokenizer,
            vocabulary=loaded.info.vocabulary,
            stop_ids=chat.stop_ids,
            context_tokens=loaded.info.context_tokens,
            chunk=config.prefill_chunk,
            family=store.family,
        )
        self.companions = companions
        """This engine and those of other models and forms, which share its thread and its memory."""
        self._admission = Admission(
            loaded.info,
            loaded.memory_bytes,
            store.family.token_bytes(loaded.info),
            lambda: companions.beside(self),
        )
        self.store: Store = store
        """The contexts on disk."""
        self._contexts: dict[str, Context] = store.contexts
        self._hot = HotSet(compute, store, self._admission, config, lambda over: companions.make_way(self, over))
        self._generations: dict[str, Generation] = {}
        self._holders = 0
        self._prefill_rate: float | None = None
        self._decode_rate: float | None = None
        self._blas = BLAS.name
        self._device = device()

    @classmethod
    @asynccontextmanager
    async def open(cls, config: EngineConfig, report: Report | None = None) -> AsyncGenerator[Engine, None]:
        """Starts the compute thread, finds or downloads the model, loads it, and closes all of it at the end.

        `report(stage, share)` is called on the event loop: `downloading`, `loading weights`, `hashing weights`; the
        share is 0..1 or None where it is unknown.

        Raises:
            SoulError: the model cannot be had, read or held; the message names the remedy.
        """
        if config.prefill_chunk < 1:
            raise InvalidInput(f"prefill_chunk is {config.prefill_chunk}.", "Give 1 or more; 512 is the default.")
        compute = ComputeThread()
        tell: Report = report or (lambda _stage, _share: None)

        def told(stage: str, share: float | None) -> None:
            compute.loop.call(tell, stage, share)

        compute.start()
        try:
            folder = await find_model(config, told)
            engine = await Companions(compute, config).first(folder, told)
            try:
                yield engine
            finally:
                await compute.stop()
                # Last, since the others write through its threads.
                for one in reversed(engine.companions.engines):
                    await one.store.close()
        finally:
            await compute.stop()

    async def start(self, context: str, ids: Sequence[int], *, lasting: bool = True) -> None:
        """Declares that the context's truth is `ids`. Computes nothing; keeps what is computed of a common start.

        A lasting context is saved after each turn and found again by the next process.
        """
        from engine.contexts import common_prefix

        self._admission.ids(ids)
        try:
            old = await self._idle(context)
        except NotFound:
            self._contexts[context] = self.store.new_context(context, ids, lasting)
            return
        shared = common_prefix(old.ids, ids)

        def replace() -> None:
            old.cut(shared)
            old.ids[:] = ids

        await self._hot.change(old, replace)

    def ids(self, context: str) -> tuple[int, ...]:
        """All ids of a context, prompt and sampled. Raises NotFound."""
        return tuple(self._of(context).ids)

    def exists(self, context: str) -> bool:
        """Whether the context was started and not dropped."""
        return context in self._contexts

    async def append(self, context: str, ids: Sequence[int]) -> None:
        """Adds ids to the truth; they are computed with the next `generate`."""
        self._admission.ids(ids)
        found = await self._idle(context)
        self._admission.length(found, len(ids))
        found.ids.extend(ids)

    async def truncate(self, context: str, length: int) -> None:
        """Cuts the context back to its first `length` ids, and its cache with it."""
        found = await self._idle(context)
        if not 0 <= length <= len(found.ids):
            raise InvalidInput(
                f"The context {context} has {len(found.ids)} ids and cannot be cut to {length}.",
                f"Give a length from 0 to {len(found.ids)}.",
            )

        await self._hot.change(found, lambda: found.cut(length))

    async def drop(self, context: str) -> None:
        """Forgets a context, in memory and on disk; one that does not exist is no error.

        Raises Conflict while it runs.
        """
        if context not in self._contexts:
            return
        found = await self._idle(context)
        await self._hot.change(found, found.drop_cache)
        self._contexts.pop(context, None)
        await self.store.forget(found)

    async def saved(self, context: str) -> bool:
        """Waits until what a context had when it was last idle is on disk; False when it could not be written."""
        return await self.store.settled(self._of(context))

    def cancel(self, context: str) -> bool:
        """Ends what the context generates after the step it is in, as `Finished("cancelled")`. False if it is idle."""
        run = self._generations.get(context)
        if run is None or not self._of(context).busy:
            return False
        run.cancelled = True
        return True

    async def generate(self, context: str, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Event, None]:
        """Appends `ids` and draws a reply: `Prefill`s, `Token`s, one `Finished`.

        When the caller is cancelled or closes the iterator (`contextlib.aclosing`), the engine is free after the step
        it is in: one token, or one prefill chunk. What was appended and drawn stays in the context, the stop token
        too.

        Raises:
            OverBudget: the context would be longer than `info.context_tokens`, or its cache larger than the memory.
            NotFound, Conflict: there is no such context, or it generates already.
            InvalidInput: nothing to compute, or an id outside the vocabulary.
        """
        from engine.runs import Generation

        self._admission.ids(ids)
        found = await self._idle(context)
        self._admission.length(found, len(ids) + min(sampling.max_tokens, 1))
        if not found.ids and not ids:
            raise InvalidInput(f"The context {context} is empty.", "Give at least one id to answer to.")
        await self._hot.make_room(found, len(found.ids) + len(ids) + sampling.max_tokens)
        await self._idle(context)
        found.ids.extend(ids)
        self._take(found)
        send, receive = anyio.create_memory_object_stream[Event](math.inf)
        ending = Ending(found, send, self.store.save_soon)
        run = Generation(
            self._model,
            found,
            sampling,
            emit=lambda event: self._compute.loop.call(send.send_nowait, event),
            record=lambda: self.store.record(found),
            settled=lambda error, finished: self._compute.loop.call(ending.settle, error, finished),
        )
        # Known before anything is loaded, so that it can be cancelled meanwhile.
        self._generations[context] = run
        try:
            await self._hot.warm(found)
            self._compute.submit(run)
        except BaseException:
            del self._generations[context]
            found.busy = False
            send.close()
            receive.close()
            raise
        try:
            async for event in receive:
                yield event
            if ending.error is not None:
                raise in_words(ending.error)
        finally:
            run.cancelled = True
            with anyio.CancelScope(shield=True):
                await ending.done.wait()
            receive.close()
            self._prefill_rate = run.prefill_rate or self._prefill_rate
            self._decode_rate = run.decode_rate or self._decode_rate
            if self._generations.get(context) is run:
                del self._generations[context]

    async def choose(self, context: str, ids: Sequence[int], options: Sequence[Sequence[int]]) -> list[float]:
        """Probabilities of each option as the continuation of the context and `ids`; they sum to 1.

        Softmax over the mean log-probability of each option's tokens, so that a long option is not punished for its
        length. The context's ids stay as they are. Raises what `generate` raises.
        """
        from engine.runs import Choice

        if not options or any(len(option) == 0 for option in options):
            raise InvalidInput("There is nothing to choose among.", "Give at least one option, none of them empty.")
        for part in (ids, *options):
            self._admission.ids(part)
        found = await self._idle(context)
        longest = max(len(option) for option in options)
        self._admission.length(found, len(ids) + longest)
        if not found.ids and not ids:
            raise InvalidInput(f"The context {context} is empty.", "Give at least one id to continue.")
        await self._hot.make_room(found, len(found.ids) + len(ids) + longest)
        await self._idle(context)
        self._take(found)
        await self._hot.warm(found)
        ending = Ending(found)
        weights: list[float] = []
        run = Choice(
            self._model,
            found,
            list(ids),
            [list(option) for option in options],
            answer=weights.extend,
            settled=lambda error: self._compute.loop.call(ending.settle, error),
        )
        self._compute.submit(run)
        try:
            await ending.done.wait()
        finally:
            run.cancelled = True
            with anyio.CancelScope(shield=True):
                await ending.done.wait()
        if ending.error is not None:
            raise in_words(ending.error)
        return weights

    # -- beside other engines

    @contextmanager
    def held(self) -> Generator[None]:
        """While somebody goes on with it from one request to the next, it is not unloaded."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1

    @property
    def idle(self) -> bool:
        """Whether nobody holds it and no request runs."""
        return not self._holders and not any(one.busy for one in self._contexts.values())

    @property
    def kv_bytes(self) -> int:
        """Bytes of all caches in memory."""
        return sum(one.kv_bytes for one in tuple(self._contexts.values()))

    def cold_able(self) -> list[Context]:
        """Contexts whose caches can be freed now; their ids stay, and what was saved is loaded again."""
        return [one for one in self._contexts.values() if one.cache is not None and not one.busy]

    async def cool(self, context: Context) -> int:
        """Frees the cache of such a context; its bytes, 0 where it is at work again."""
        return await self._hot.cool(context)

    async def leave(self) -> None:
        """Lets go of the model when all that was computed is on disk. Nobody may use this engine afterwards."""
        for context in self._contexts.values():
            if context.journal is not None:
                await self.store.settled(context)
        await self.store.close()
        await self._compute.call(self._let_go)

    def _let_go(self) -> None:
        from engine.backend import mx

        for context in self._contexts.values():
            context.drop_cache()
        del self._model
        mx.clear_cache()

    def status(self) -> EngineStatus:
        """Where the engine stands now; cheap, and safe while requests run."""
        contexts = tuple(self._status_of(found) for found in tuple(self._contexts.values()))
        kv = sum(found.kv_bytes for found in contexts)
        return EngineStatus(
            queued=sum(1 for run in self._compute.runs if run.phase == "prefill"),
            running=tuple(found.name for found in contexts if found.running),
            contexts=contexts,
            kv_bytes=kv,
            prefill_tokens_per_s=self._prefill_rate,
            decode_tokens_per_s=self._decode_rate,
            blas=self._blas,
            device=self._device,
            zone=self._admission.zone(kv),
            memory_limit_bytes=self._admission.limit_bytes,
            kv_form=self._model.family.form.label,
            kv_strategy=self._model.family.strategy,
            kv_written_bytes=self.store.written_bytes,
            kv_error=self.store.error,
        )

    def _status_of(self, found: Context) -> ContextStatus:
        disk, shared = self.store.disk_bytes(found.name)
        return ContextStatus(
            name=found.name,
            tokens=len(found.ids),
            cached_tokens=found.cached,
            kv_bytes=found.kv_bytes,
            running=found.busy,
            lasting=found.journal is not None,
            saved_tokens=found.saved,
            disk_bytes=disk,
            shared_tokens=shared,
            save_error=found.saver.error,
        )

    def _of(self, context: str) -> Context:
        found = self._contexts.get(context)
        if found is None:
            raise NotFound(f"The engine has no context named {context}.", "Start it first.")
        return found

    async def _idle(self, context: str) -> Context:
        """The context, with no request on it. What the engine itself does, such as freeing its cache, is waited for."""
        found = self._of(context)
        while found.changed is not None:
            await found.changed.wait()
            found = self._of(context)
        if found.busy:
            raise Conflict(
                f"The context {context} is at work already.", "Wait for its answer, cancel it, or use another context."
            )
        return found

    def _take(self, found: Context) -> None:
        found.used = self.companions.tick()
        found.busy = True
