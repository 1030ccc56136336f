"""Integration: all kept adapters, TIES-merged onto the anchor, become a new generation.

Always the anchor plus all adapters, never the last merge plus one: what is merged twice drifts. Only plastic tensors
are read, merged and written, one at a time; the frozen part gets a second name. Runs in the process of its command,
holds no model in memory, and needs neither MLX nor torch.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.errors import InvalidInput
from evolution import tensors
from evolution.adapter import Adapter
from evolution.anchor import (
    FROZEN_FILE,
    PLASTIC_FILE,
    Anchor,
    Report,
    Scope,
    anchor_id,
    check_scope,
    find,
    link,
    need_room,
    split,
    split_cost,
    write_index,
)
from evolution.generations import Generation, Generations, identity_of, new_bytes
from evolution.plastic import linear_names, plastic_names
from evolution.tensors import Floats, Written
from evolution.ties import Share, Ties, merge

Merger = Callable[[str, Floats, list[Floats]], Floats]
"""(tensor's name, the anchor's values, deltas to consume) to merged values."""


@dataclass(frozen=True)
class Plan:
    """What an integration would do. Bytes are of the disk."""

    anchor: str
    scope: Scope
    adapters: tuple[str, ...]
    tensors: int
    split_bytes: int
    """Written once, with the first generation on this anchor."""
    generation_bytes: int
    memory_bytes: int
    """The largest tensor in float32, times what a merge holds of it."""


def plan(home: Path, model: Path, adapters: Sequence[Adapter], known: Path | None = None) -> Plan:
    """Checks everything that can be checked beforehand, and says what the integration costs.

    Raises:
        InvalidInput: no adapters, or an adapter changes what the anchor has not.
        Conflict: an adapter belongs to other weights.
    """
    if not adapters:
        raise InvalidInput(
            "There is no adapter to integrate.", "`soul dream` makes one; `soul adapter import` takes one."
        )
    every = tensors.places_of(model)
    id = anchor_id(model, known)
    attention, linear = set(plastic_names(every)), set(linear_names(every))
    shapes = {name: place.shape for name, place in every.items()}
    scope: Scope = "attention"
    for adapter in adapters:
        adapter.require(id, shapes)
        if check_scope(adapter.weights, attention, linear, adapter.name) == "all-linear":
            scope = "all-linear"
    chosen = attention if scope == "attention" else attention | linear
    frozen_bytes, plastic_bytes = split_cost(model, scope)
    largest = max(4 * every[name].nbytes // tensors.SIZES[every[name].dtype] for name in chosen)
    return Plan(
        id,
        scope,
        tuple(adapter.name for adapter in adapters),
        len(chosen),
        0 if find(home, id, scope) else frozen_bytes + plastic_bytes,
        plastic_bytes,
        largest * (len(adapters) + 5),
    )


def integrate(
    home: Path,
    model: Path,
    adapters: Sequence[Adapter],
    numbers: Ties,
    *,
    shares: Mapping[str, Share] | None = None,
    merger: Merger | None = None,
    recipe: Mapping[str, Any] | None = None,
    setting: str | None = None,
    known: Path | None = None,
    report: Report,
) -> Generation:
    """Makes a generation, or finds the one that these very inputs have made; called under the lock.

    Args:
        model: the anchor's folder, in full precision.
        shares: weight and density of each adapter by name; those left out get the usual ones.
        merger: merges one tensor in place of TIES, for a recipe of another method.
        recipe: what the manifest records of it then.
        setting: the setting `model`, under which the generation will be served.

    Raises:
        InvalidInput, Conflict: as `plan`; the anchor was changed.
        StorageFull: it would not fit; nothing was written.
    """
    costs = plan(home, model, adapters, known)
    generations = Generations(home)
    sums = {one.name: str(one.manifest.get("sum", "")) for one in adapters}
    mine = {one.name: (shares or {}).get(one.name, Share()) for one in adapters}
    method = dict(recipe) if recipe else {"method": "ties", **asdict(numbers), "shares": as_plain(mine)}
    identity = identity_of({"anchor": costs.anchor, "adapters": list(sums.items()), "recipe": method})
    for one in generations.all():
        if one.identity == identity and one.model == setting:
            return one
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    need_room(home, costs.split_bytes + costs.generation_bytes, "this integration")
    anchor = split(home, model, costs.scope, known=known, report=report)
    anchor.check(known)

    def ties(name: str, base: Floats, deltas: list[Floats]) -> Floats:
        chosen = [mine[one.name] for one in adapters if name in one.weights]
        return merge(base, deltas, chosen, numbers)

    fresh = generations.begin()
    try:
        plastic = _fill(fresh, anchor, adapters, merger or ties, report)
        draft = Generation(
            number=0,
            parent=0,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            anchor=anchor.id,
            model=setting,
            adapters=sums,
            recipe=method,
            identity=identity,
            files={FROZEN_FILE: anchor.frozen_file, PLASTIC_FILE: (plastic.size, plastic.sum)},
            new_bytes=new_bytes(fresh),
            versions={name: importlib.metadata.version(name) for name in ("numpy", "safetensors")},
        )
        return generations.add(fresh, draft)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def as_plain(shares: Mapping[str, Share]) -> dict[str, Any]:
    """Shares as a manifest keeps them."""
    return {name: asdict(share) for name, share in shares.items()}


def _fill(fresh: Path, anchor: Anchor, adapters: Sequence[Adapter], merger: Merger, report: Report) -> Written:
    """Writes a generation's files: links for what is frozen, merged tensors for what is plastic; the latter."""
    for path in [*anchor.side_files(), anchor.folder / FROZEN_FILE]:
        link(path, fresh / path.name)
    places = anchor.plastic

    def merged() -> Iterator[bytes]:
        for count, (name, place) in enumerate(places.items()):
            report("merging", count / len(places))
            deltas = [delta for one in adapters if (delta := one.delta(name)) is not None]
            if not deltas:
                yield from tensors.blocks(place)
                continue
            yield tensors.encoded(merger(name, tensors.read(place), deltas), place.dtype)

    layout = {name: (place.dtype, place.shape) for name, place in places.items()}
    written = tensors.write(fresh / PLASTIC_FILE, layout, merged())
    frozen = list(tensors.places(fresh / FROZEN_FILE))
    total = anchor.frozen_bytes + anchor.plastic_bytes
    write_index(fresh, {FROZEN_FILE: frozen, PLASTIC_FILE: list(places)}, total)
    return written
