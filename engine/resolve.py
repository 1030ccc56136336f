"""Which model folder to load: the one that was asked for, the best one on disk, a recommended download, the seedling.

Knows the order of preference; does not know how to download (`engine.hub`) or load (`engine.models`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import structlog

from engine.budget import Budget, machine_memory
from engine.catalogue import recommend
from engine.errors import InvalidInput, NotFound, SoulError
from engine.hub import Hub
from engine.models import check_folder
from engine.seedling.weights import seedling

log = structlog.get_logger()

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
Report = Callable[[str, float | None], None]


def resolve(wish: str | None, hub: Hub, *, download: bool, memory_bytes: int | None, report: Report) -> Path:
    """The folder of the model to load; downloads it where that is wished for and allowed. Blocks meanwhile.

    Args:
        wish: a folder, a hub name, `seedling`, or None for the best that can be had.

    Raises:
        InvalidInput, NotFound, Unavailable, StorageFull: what was asked for cannot be had. Without a wish nothing of
        the network or the disk raises: there is always the seedling.
    """
    if wish:
        return _wished(wish, hub, download=download, report=report)
    memory = memory_bytes if memory_bytes is not None else machine_memory()
    if (found := best_on_disk(hub, memory)) is not None:
        return found
    if download and (entry := recommend(memory)) is not None:
        try:
            return hub.download(entry.repository, report)
        except SoulError as error:
            if hub.stopping:
                raise
            log.warning("no_download", model=entry.repository, error=str(error))
    return seedling()


def best_on_disk(hub: Hub, memory_bytes: int) -> Path | None:
    """The largest whole, trained model that stays out of the red, by its parameters."""
    best: tuple[int, Path] | None = None
    for folder in hub.on_disk():
        try:
            check_folder(folder)
            budget = Budget.of(folder, memory_bytes)
        except SoulError as error:
            log.info("model_passed_over", folder=str(folder), reason=error.fact)
            continue
        size = budget.shape.parameters
        if budget.zone(8192) != "red" and (best is None or size > best[0]):
            best = (size, folder)
    return best[1] if best is not None else None


def _wished(wish: str, hub: Hub, *, download: bool, report: Report) -> Path:
    if wish == "seedling":
        return seedling()
    folder = Path(wish).expanduser()
    if folder.exists() or wish.startswith(("/", "./", "../", "~")):
        check_folder(folder)
        return folder
    if not HUB_NAME.fullmatch(wish):
        raise InvalidInput(
            f"`{wish}` is neither a folder nor a hub name.",
            "Give the path of a model folder, a hub name such as mlx-community/Qwen3-8B-4bit, or `seedling`.",
        )
    if (kept := hub.kept(wish)) is not None:
        return kept
    if not download:
        raise NotFound(
            f"The model {wish} is not on this disk, and downloads are switched off.",
            "Set `download = true`, or put the model's folder into $SOUL_HOME/models and name that.",
        )
    return hub.download(wish, report)
