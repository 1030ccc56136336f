"""Models beside the first one: on its compute thread, within the same memory, for agents that have one of their own.

Knows which are loaded, what all of them hold together, and who leaves when memory is short: idle caches first, then the
model that was asked for longest ago and with which nobody goes on. The first model never leaves. Engines over one
folder share its weights, in whatever form their caches are kept. Computes nothing (`engine.engine` does).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from engine.budget import GB, Budget, usable
from engine.compute import ComputeThread
from engine.config import EngineConfig
from engine.errors import OverBudget
from engine.fingerprint import fingerprint
from engine.kv.form import KvChoice
from engine.opening import Report, find_model, form_of

if TYPE_CHECKING:
    from engine.engine import Engine
    from engine.models import Loaded

log = structlog.get_logger()


@dataclass(frozen=True)
class Wish:
    """Which model is wanted (a folder, a hub name, `seedling`, the name of a loaded one), and the form of its caches.

    What is left out is as the first engine has it.
    """

    model: str = ""
    kv_format: KvChoice | None = None


@dataclass(eq=False)
class _Served:
    """An engine and the weights it computes with; `used` says when it was last asked for."""

    engine: Engine
    loaded: Loaded
    used: int = 0


class Companions:
    """All engines on one compute thread, the first one first."""

    def __init__(self, compute: ComputeThread, config: EngineConfig) -> None:
        self._compute = compute
        self._config = config
        self._served: list[_Served] = []
        self._known: dict[tuple[Path, str], _Served] = {}
        self._hashes = config.home / "models" / ".hashes.json"
        self._ticks = 0
        self._coming = 0
        """Bytes of a model that is being loaded."""
        self._changing = anyio.Lock()

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Those that are loaded now."""
        return tuple(one.engine for one in self._served)

    def tick(self) -> int:
        """A number above all before it: who was used last."""
        self._ticks += 1
        return self._ticks

    async def first(self, folder: Path, report: Report) -> Engine:
        """Loads the model that stays. Raises what loading raises."""
        loaded = await self._compute.call(lambda: self._load(folder, self._config, report))
        return (await self._serve(loaded, self._config)).engine

    async def get(self, wish: Wish) -> Engine:
        """The engine that is wished for, loaded where it is not; idle ones leave for it where memory is short.

        Whoever goes on with it between two requests says so before anything else is awaited (`Engine.held`).

        Raises:
            OverBudget: it does not fit beside the first model, or not beside those that are at work now.
            SoulError: the model cannot be had or read.
        """
        if wish == Wish():
            return self._served[0].engine
        async with self._changing:
            folder = await self._folder(wish.model)
            kv = wish.kv_format or self._config.kv_format
            found = self._known.get((folder, kv or ""))
            if found is None:
                adapter = self._config.adapter if folder == _path(self._served[0]) else None
                config = replace(self._config, model=str(folder), adapter=adapter, kv_format=kv)
                found = self._known[folder, kv or ""] = await self._open(folder, config)
            found.used = self.tick()
            return found.engine

    # -- memory

    def beside(self, engine: Engine) -> int:
        """Bytes that everything but this engine's own caches and weights holds, or is about to."""
        mine = next((one.loaded for one in self._served if one.engine is engine), None)
        weights = sum(loaded.info.bytes for loaded in self._weights() if loaded is not mine)
        return weights + self._coming + sum(one.kv_bytes for one in self.engines if one is not engine)

    async def make_way(self, engine: Engine, over: int) -> None:
        """Frees up to `over` bytes of what others hold and nobody uses now."""
        async with self._changing:
            await self._let_go(over, engine)

    def _weights(self) -> list[Loaded]:
        return list({id(one.loaded): one.loaded for one in self._served}.values())

    def _held(self) -> int:
        return sum(loaded.info.bytes for loaded in self._weights()) + sum(one.kv_bytes for one in self.engines)

    async def _let_go(self, over: int, but: Engine | None) -> None:
        idle = [(one, engine) for engine in self.engines if engine is not but for one in engine.cold_able()]
        for context, engine in sorted(idle, key=lambda pair: pair[0].used):
            if over <= 0:
                return
            over -= await engine.cool(context)
        for one in sorted(self._served[1:], key=lambda one: one.used):
            if over > 0 and one.engine is not but and one.engine.idle:
                over -= await self._unload(one)

    async def _unload(self, one: _Served) -> int:
        """Lets an idle engine go; the bytes that are free then."""
        self._served.remove(one)
        self._known = {key: known for key, known in self._known.items() if known is not one}
        await one.engine.leave()
        shared = any(loaded is one.loaded for loaded in self._weights())
        freed = 0 if shared else one.loaded.info.bytes
        log.info("model_unloaded", name=one.loaded.info.name, bytes=freed)
        return freed

    # -- loading

    async def _folder(self, model: str) -> Path:
        for one in self._served:
            if model in ("", one.loaded.info.name, Path(one.loaded.info.name).name):
                return _path(one)
        return (await find_model(replace(self._config, model=model), lambda _stage, _share: None)).resolve()

    async def _open(self, folder: Path, config: EngineConfig) -> _Served:
        loaded = next((one.loaded for one in self._served if _path(one) == folder), None)
        if loaded is None:
            self._coming = await self._room_for(folder, config)
        try:
            if loaded is None:
                # Reads all of it once; what is known then is not hashed on the compute thread, where others wait.
                await anyio.to_thread.run_sync(lambda: fingerprint(folder, dtype="", known=self._hashes))
            made = loaded or await self._compute.call(lambda: self._load(folder, config, lambda _stage, _share: None))
            return await self._serve(made, config)
        finally:
            self._coming = 0

    async def _room_for(self, folder: Path, config: EngineConfig) -> int:
        """Bytes that the model will need, which are free when this returns."""
        from engine.backend import on_cpu
        from engine.models import LEAST_TOKENS, kept_as

        first = self._served[0].loaded
        plan = await anyio.to_thread.run_sync(lambda: Budget.of(folder, first.memory_bytes, float32=on_cpu()))
        tokens = min(LEAST_TOKENS, plan.shape.context_tokens)
        need, limit = plan.needed(tokens, kept_as(config.kv_format)), usable(first.memory_bytes)
        figures = f"{folder.name} needs {need / GB:.2f} GB; {limit / GB:.2f} GB are usable"
        if first.info.bytes + need > limit:
            raise OverBudget(
                f"{figures}, of which {first.info.name} has {first.info.bytes / GB:.2f} GB for good.",
                "Choose a smaller model for this agent, or leave `model` out of its table: it then shares that one.",
            )
        await self._let_go(self._held() + need - limit, None)
        if self._held() + need > limit:
            busy = ", ".join(one.loaded.info.name for one in self._served)
            raise OverBudget(
                f"{figures}, of which {self._held() / GB:.2f} GB are at work now ({busy}).",
                "Ask again when they have answered; what is idle then leaves by itself.",
            )
        return need

    def _load(self, folder: Path, config: EngineConfig, report: Report) -> Loaded:
        """Runs on the compute thread, which thereby imports MLX."""
        report("loading weights", None)
        from engine.models import load

        return load(
            folder,
            adapter=config.adapter,
            context_tokens=config.context_tokens,
            memory_bytes=config.memory_bytes,
            taken=sum(loaded.info.bytes for loaded in self._weights()),
            known_hashes=self._hashes,
            report=report,
            kv=config.kv_format or "k8v4",
        )

    async def _serve(self, loaded: Loaded, config: EngineConfig) -> _Served:
        """An engine over loaded weights; the one that is there where it keeps its caches in the same form."""
        sharing = [one for one in self._served if one.loaded is loaded]

        def make() -> Engine:
            from engine.chat import Chat
            from engine.engine import Engine
            from engine.kv.families import family_of
            from engine.kv.store import Store

            family = family_of(loaded.network, form_of(config.kv_format, loaded.info.head_dim))
            for one in sharing:
                if one.engine.store.family.form == family.form:
                    return one.engine
            log.info("kv_strategy", strategy=family.strategy, joint=family.joint)
            chat = sharing[0].engine.chat if sharing else Chat(loaded.tokenizer, loaded.info.name)
            kv = config.home / "kv" if config.persist else None
            beside = self._served[0].engine.store if self._served else None
            store = Store(self._compute, kv, loaded.info.fingerprint, family, config.kv_disk_bytes, beside)
            return Engine(self._compute, loaded, chat, store, config, self)

        engine = await self._compute.call(make)
        for one in sharing:
            if one.engine is engine:
                return one
        await engine.store.open()
        served = _Served(engine, loaded)
        self._served.append(served)
        return served


def _path(one: _Served) -> Path:
    return one.loaded.info.path.resolve()
