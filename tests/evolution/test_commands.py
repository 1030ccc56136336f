"""The commands of evolution, as a person types them, and what the next daemon serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from engine.seedling.weights import LAYERS, seedling
from evolution import adapter as adapters
from evolution import peft
from evolution.generations import Generations
from evolution.lock import evolving
from server.building import open_engine
from server.cli import main
from server.settings import Settings
from tests.evolution.making import adapter
from tests.evolution.test_integrate import needs_mergekit
from tools.house import Part


@pytest.fixture
def soul(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs a command on a home with two adapters of the seedling; (status, stdout, stderr)."""
    monkeypatch.setenv("SOUL_HOME", str(home))
    monkeypatch.setenv("SOUL_MODEL", "seedling")
    base = seedling()
    for seed in (1, 2):
        adapters.save(adapter(f"week-{seed}", base, seed), home / "adapters" / f"week-{seed}")

    def run(*words: str) -> tuple[int, str, str]:
        status = main(words)
        said = capsys.readouterr()
        return status, said.out, said.err

    capsys.readouterr()  # what was logged until here
    yield run
    structlog.reset_defaults()  # commands send their log to stderr, for the rest of their process


def test_integrate_promote_and_rollback(soul: Any, home: Path) -> None:
    status, plan, _ = soul("integrate", "--dry-run", "--json")
    assert status == 0
    assert json.loads(plan)["adapters"] == ["week-1", "week-2"]
    assert not (home / "generations").exists()
    assert soul("integrate")[0] == 0
    assert soul("integrate", "--lambda", "0.5")[0] == 0
    assert soul("promote", "1", "--unjudged")[:2] == (0, "generation 1 is in force; before it was 0\n")
    assert json.loads(soul("generations", "list", "--json")[1])["current"] == 1
    assert json.loads(soul("generations", "show", "2", "--json")[1])["recipe"]["lam"] == 0.5
    assert soul("rollback")[1] == "the anchor is in force again\n"
    assert soul("rollback")[0] == 1


def test_generations_differ_in_proportion_to_lambda(soul: Any) -> None:
    soul("integrate", "--lambda", "0.2")
    soul("integrate", "--lambda", "0.4")
    near = json.loads(soul("generations", "diff", "0", "1", "--json")[1])
    far = json.loads(soul("generations", "diff", "0", "2", "--json")[1])
    assert next(iter(near)) == "layer 0 self_attn.k_proj"
    assert len(near) == 3 * LAYERS
    for layer, share in near.items():
        assert far[layer] == pytest.approx(2 * share, rel=1e-3)


def test_the_picture_divides_each_layer_among_the_generations(soul: Any, home: Path) -> None:
    soul("integrate", "--adapters", "week-1")
    soul("promote", "1", "--unjudged")
    soul("integrate")
    soul("promote", "2", "--unjudged")
    status, out, _ = soul("generations", "picture", "--json")
    assert status == 0
    layers = json.loads(out)
    assert [one["name"] for one in layers] == [f"layer {number}" for number in range(LAYERS)]
    for one in layers:
        assert one["change"] > 0
        assert sum(one["weights"].values()) == pytest.approx(1.0)
    assert (home / "generations" / "strata.png").read_bytes()[1:4] == b"PNG"
    alone = json.loads(soul("generations", "picture", "1", "--out", str(home / "one.png"), "--json")[1])
    assert all(one["weights"] == {"1": pytest.approx(1.0)} for one in alone)
    assert "nothing lies upon it" in soul("generations", "picture", "0")[2]


@pytest.mark.anyio
async def test_the_next_start_serves_the_generation_in_force(soul: Any, home: Path) -> None:
    soul("integrate")
    soul("promote", "1", "--unjudged")
    settings = Settings(home, model="seedling", download=False)
    async with open_engine(Part[Any]("model"), settings) as engine:
        assert engine.info.path == Generations(home).folder(1)
        merged = engine.info.fingerprint
    soul("rollback")
    async with open_engine(Part[Any]("model"), settings) as engine:
        assert engine.info.path == seedling()
        assert engine.info.fingerprint != merged


def test_the_classic_recipe_is_taken_and_its_idle_lines_are_named(soul: Any, home: Path) -> None:
    recipe = {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": name, "parameters": {"density": 0.3, "weight": 0.5}} for name in ("base", "week-1")],
        "parameters": {"normalize": True, "int8_mask": True, "lambda": 0.3, "lamda": 1},
        "dtype": "bfloat16",
        "tokenizer_source": "union",
        "colour": "red",
    }
    (home / "recipe.yml").write_text(yaml.safe_dump(recipe))
    status, _, said = soul("integrate", "--recipe", str(home / "recipe.yml"))
    assert status == 0
    told = [line.split("`")[1] for line in said.splitlines() if line.startswith("no effect")]
    assert sorted(told) == [
        "colour", "dtype", "int8_mask", "models: base", "parameters.lamda", "tokenizer_source", "weight: 0.5"
    ]  # fmt: skip
    soul("integrate", "--adapters", "week-1", "--lambda", "0.3", "--density", "0.3")
    first, second = Generations(home).all()
    assert first.files == second.files


@pytest.mark.slow
@needs_mergekit
def test_a_recipe_of_another_method_is_merged_by_mergekit(soul: Any, home: Path) -> None:
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": "base",
        "models": [{"model": name, "parameters": {"weight": 1.0}} for name in ("week-1", "week-2")],
        "parameters": {"lambda": 0.5},
    }
    (home / "recipe.yml").write_text(yaml.safe_dump(recipe))
    assert soul("integrate", "--recipe", str(home / "recipe.yml"))[0] == 0
    assert Generations(home).get(1).recipe["method"] == "task_arithmetic"
    share = json.loads(soul("generations", "diff", "0", "1", "--json")[1])
    assert all(value > 0 for value in share.values())


def test_adapters_come_from_peft_and_go_to_it(soul: Any, home: Path) -> None:
    assert soul("adapter", "export", "week-1", str(home / "out"), "--peft")[0] == 0
    assert peft.is_peft(home / "out")
    assert soul("adapter", "import", str(home / "out"), "--name", "back")[0] == 0
    assert soul("adapter", "join", "both", "week-1=0.5", "back=0.5")[0] == 0
    listed = {one["name"]: one for one in json.loads(soul("adapter", "list", "--json")[1])}
    assert listed["back"]["anchor"] == listed["week-1"]["anchor"]
    assert listed["both"]["rank"] == 16
    assert json.loads(soul("integrate", "--dry-run", "--json")[1])["adapters"] == ["week-1", "week-2", "back"]


def test_what_cannot_be_done_is_an_error_with_its_remedy(soul: Any, home: Path) -> None:
    with evolving(home, "dream"):
        status, _, said = soul("integrate")
    assert status == 1
    assert "Another evolution is under way" in said
    assert "no generation 7" in soul("promote", "7")[2]
    assert "`models`" in soul("integrate", "--recipe", str(seedling() / "config.json"))[2]
    assert "`soul adapter list`" in soul("integrate", "--adapters", "never")[2]
