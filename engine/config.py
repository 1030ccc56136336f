"""What an engine is opened with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.kv.form import KvChoice


@dataclass(frozen=True)
class EngineConfig:
    """What to load and how. Models lie below `home / "models"`."""

    home: Path
    model: str | None = None
    """A folder, a hub name, `seedling`, or None: the best on disk, else a recommended download, else the seedling."""
    adapter: Path | None = None
    """A LoRA folder (adapter_config.json, adapters.safetensors) to lay over the model."""
    download: bool = True
    """Whether the network may be used."""
    prefill_chunk: int = 512
    """Tokens per prefill step."""
    context_tokens: int | None = None
    """A cap on contexts; without it the model's own context or what the memory allows, whichever is smaller."""
    memory_bytes: int | None = None
    """What to take for the machine's memory instead of its RAM."""
    hub_endpoint: str | None = None
    """Another hub than the public one."""
    kv_format: KvChoice | None = None
    """How caches are kept, in memory and on disk; None: `k8v4`, or `exact` where the head size forbids it."""
    hot_contexts: int = 3
    """How many idle contexts keep their cache in memory; the others come back from disk."""
    hot_bytes: int | None = None
    """Bytes of memory for the caches of idle contexts; None: only the budget limits them."""
    kv_disk_bytes: int = 20 * 10**9
    """Bytes of disk for all saved contexts together; the longest unused ones go first."""
    persist: bool = True
    """Whether contexts outlive the process, below `home / "kv"`."""
