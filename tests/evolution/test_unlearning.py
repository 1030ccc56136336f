"""Unlearning: what was struck or forgotten names its generations, and these are built anew without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Conflict
from evolution import adapter as adapters
from evolution.generations import Generations
from evolution.integrate import integrate
from evolution.ties import Ties
from evolution.unlearning import eaten, remove, wanted
from tests.drawn import drawn
from tests.evolution.making import adapter, quiet


def test_who_ate_a_memory_is_named_and_goes(home: Path) -> None:
    base = drawn(home / "base")
    kept = [adapter(f"week-{seed}", base, seed) for seed in (1, 2)]
    for one, packets in zip(kept, (["a", "b"], ["c"]), strict=True):
        made = replace(one, manifest={**one.manifest, "packets": packets})
        adapters.save(made, home / "adapters" / one.name)
    loaded = [adapters.load(home / "adapters" / one.name) for one in kept]
    integrate(home, base, loaded[1:], Ties(), report=quiet)
    integrate(home, base, loaded, Ties(), report=quiet)
    generations = Generations(home)
    for number in (1, 2, 1):
        generations.promote(number, unjudged=True)

    buffer = home / "buffer.jsonl"
    buffer.write_text("".join(json.dumps({"messages": [], "packets": [one]}) + "\n" for one in "abc"))
    assert eaten(home, wanted=wanted(buffer)).adapters == ()
    buffer.write_text(json.dumps({"messages": [], "packets": ["a", "c"]}) + "\n")
    found = eaten(home, wanted=wanted(buffer))
    assert (found.adapters, found.generations, found.memories) == (("week-1",), (2,), 1)
    assert eaten(home, ["c"]).generations == (1, 2)

    later = replace(adapter("week-3", base, 3), manifest={**kept[0].manifest, "on": 2, "packets": []})
    adapters.save(later, home / "adapters" / "week-3")
    assert set(eaten(home, ["a"]).adapters) == {"week-1", "week-3"}

    remove(home, found)
    assert adapters.names(home) == ("week-2", "week-3")
    with pytest.raises(Conflict, match="failed its gate"):
        generations.promote(2, unjudged=True)
    assert generations.rollback() == 1
    assert generations.rollback() == 0


def test_a_merge_passes_over_what_a_later_dream_holds(home: Path) -> None:
    base = drawn(home / "base")
    for name, said in (("a", {}), ("b", {"continues": "a"}), ("c", {}), ("all", {"from": "joined"})):
        made = adapter(name, base, 1)
        adapters.save(replace(made, manifest={**made.manifest, **said}), home / "adapters" / name)
    assert adapters.to_merge(home) == ("b", "c")
