"""Before a model is loaded: where it lies, and in which form its caches are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

from engine.budget import machine_memory
from engine.config import EngineConfig
from engine.errors import InvalidInput
from engine.kv.form import KvChoice

if TYPE_CHECKING:
    from engine.kv.form import Form

log = structlog.get_logger()

Report = Callable[[str, float | None], None]


def form_of(choice: KvChoice | None, head_dim: int) -> Form:
    """The form wished for; without a wish the best one that the head size allows."""
    from engine.kv.form import EXACT, form_for

    try:
        return form_for(choice or "k8v4", head_dim)
    except InvalidInput as refusal:
        if choice is not None:
            raise
        log.warning("kv_not_quantised", fact=refusal.fact)
        return EXACT


async def find_model(config: EngineConfig, report: Report) -> Path:
    """The model's folder; a download that is cancelled stops after the block it is in."""
    from engine.hub import Hub
    from engine.resolve import resolve

    hub = Hub(config.home / "models", endpoint=config.hub_endpoint)
    memory = config.memory_bytes if config.memory_bytes is not None else machine_memory()

    def find() -> Path:
        return resolve(config.model, hub, download=config.download, memory_bytes=memory, report=report)

    try:
        return await anyio.to_thread.run_sync(find, abandon_on_cancel=True)
    finally:
        hub.stop()
