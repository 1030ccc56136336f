"""The commands of evolution that need no daemon: adapters, integration, generations, promotion and rollback.

Knows arguments and tables. Each runs in its own process, under the home's evolution lock where it changes something;
the daemon serves what is in force from its next start on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput
from server.calling import call
from server.claim import held
from server.console import ERR, OUT, print_json, progress_bar, table

if TYPE_CHECKING:
    from evolution.adapter import Adapter
    from evolution.anchor import Report
    from evolution.gate import Verdict
    from evolution.generations import Generation
    from evolution.ties import Share, Ties
    from server.settings import Settings


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `integrate`, `generations`, `promote`, `rollback` and `adapter`."""

    def command(into: Any, name: str, run: Any, says: str) -> argparse.ArgumentParser:
        one = into.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(run=partial(_in_this_process, run), parser=one)
        return one

    def group(name: str, says: str) -> Any:
        one = commands.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(parser=one)
        return one.add_subparsers(title="commands", metavar="COMMAND")

    one = command(commands, "integrate", integrate, "merge all kept adapters onto the anchor into a new generation")
    one.add_argument("--adapters", help="only these, comma-separated (default: all kept ones)")
    one.add_argument(
        "--lambda", dest="lam", type=float, help="how far to go from the anchor (default 0.3; one alone 0.85)"
    )
    one.add_argument(
        "--density", type=float, help="share of each delta that survives trimming (default 0.3; one alone 1)"
    )
    one.add_argument("--recipe", metavar="FILE", help="a recipe of mergekit's, in YAML, instead of the numbers")
    add_model(one)
    one.add_argument("--gate", action="store_true", help="judge it, and go less far where it lost too much")
    one.add_argument("--dry-run", action="store_true", help="say what it would cost and do nothing")
    one.add_argument("--json", action="store_true")

    inside = group("generations", "the generations of weights, and which one is in force")
    command(inside, "list", generations_list, "show all generations").add_argument("--json", action="store_true")
    one = command(inside, "show", generations_show, "show where one generation came from")
    one.add_argument("number", type=int)
    one.add_argument("--json", action="store_true")
    one = command(inside, "diff", generations_diff, "show how far two generations lie apart, layer by layer")
    one.add_argument("one", type=int, help="a generation; 0 is the anchor")
    one.add_argument("other", type=int)
    one.add_argument("--json", action="store_true")
    one = command(inside, "picture", generations_picture, "draw how much each generation weighs in it, layer by layer")
    one.add_argument("number", type=int, nargs="?", help="a generation (default: the one in force)")
    one.add_argument("--out", metavar="FILE", help="the picture, PNG (default: generations/strata.png)")
    one.add_argument("--json", action="store_true")

    one = command(commands, "promote", promote, "put a generation in force (0: the anchor)")
    one.add_argument("number", type=int)
    one.add_argument("--unjudged", action="store_true", help="without the gate's word; this is recorded")
    command(commands, "rollback", rollback, "put the generation before the present one in force again")

    inside = group("adapter", "the adapters that were kept")
    command(inside, "list", adapter_list, "show all kept adapters").add_argument("--json", action="store_true")
    one = command(inside, "import", adapter_import, "take an adapter of mlx_lm's or PEFT's form")
    one.add_argument("folder", metavar="FOLDER")
    one.add_argument("--name", help="its name here (default: the folder's)")
    add_model(one)
    one = command(inside, "export", adapter_export, "write an adapter for other tools")
    one.add_argument("name", metavar="NAME")
    one.add_argument("folder", metavar="FOLDER")
    one.add_argument("--peft", action="store_true", help="in PEFT's form instead of mlx_lm's")
    one = command(inside, "join", adapter_join, "lay adapters side by side as one, exactly, to be served unmerged")
    one.add_argument("name", metavar="NAME", help="of the new adapter")
    one.add_argument("adapters", nargs="+", metavar="ADAPTER[=COEFFICIENT]")


def _in_this_process(run: Callable[[str, argparse.Namespace], None], home: str, given: argparse.Namespace) -> None:
    from server.logs import warnings_to_stderr

    warnings_to_stderr()
    run(home, given)


def add_model(one: argparse.ArgumentParser) -> None:
    """The argument that names the anchor."""
    one.add_argument("--model", metavar="MODEL", help="the anchor (default: the setting `model`)")


def anchor_of(home: str, wish: str | None, report: Report) -> tuple[Path, Settings]:
    """The folder of the anchor, and the settings. `wish`: what `--model` said."""
    from engine.hub import Hub
    from engine.resolve import resolve
    from server.settings import load

    settings = load(home, {"model": wish}).settings
    hub = Hub(settings.home / "models")
    return resolve(settings.model, hub, download=settings.download, memory_bytes=None, report=report), settings


def known_hashes(home: str) -> Path:
    """The engine's memory of content hashes, so that weights are read for their hash once."""
    return Path(home) / "models" / ".hashes.json"


def integrate(home: str, given: argparse.Namespace) -> None:
    """`soul integrate`."""
    from evolution.integrate import integrate as make
    from evolution.integrate import plan
    from evolution.lock import evolving
    from evolution.recipe import read
    from evolution.ties import ALONE, DENSITY, LAMBDA, Share, Ties

    recipe = read(Path(given.recipe).expanduser()) if given.recipe else None
    if recipe and (given.adapters or given.lam is not None or given.density is not None):
        raise InvalidInput("A recipe holds its own numbers and adapters.", "Leave out --adapters, --lambda, --density.")
    for line in recipe.without_effect if recipe else ():
        ERR.print(f"no effect: {line}", markup=False, soft_wrap=True)
    folder = Path(home)
    with progress_bar() as report:
        model, settings = anchor_of(home, given.model, report)
        adapters = _adapters(folder, recipe.adapters if recipe else _names(given.adapters))
        costs = plan(folder, model, adapters, known_hashes(home))
        if given.dry_run:
            _show_plan(asdict(costs), given.json)
            return
        usual = (ALONE, 1.0) if len(adapters) == 1 else (LAMBDA, DENSITY)
        numbers = recipe.numbers if recipe else Ties(usual[0] if given.lam is None else given.lam)
        share = Share(density=usual[1] if given.density is None else given.density)
        shares = recipe.shares if recipe else {one.name: share for one in adapters}
        if given.gate and recipe and recipe.method != "ties":
            raise InvalidInput(
                "Only TIES has a lambda that the gate may lower.", "Leave out --gate, and judge it after."
            )
        with evolving(folder, "integrate"), ExitStack() as scratch:
            merger = None
            if recipe and recipe.method != "ties":
                from evolution.mergekit import merger_of, scratch_folder

                room = scratch.enter_context(scratch_folder(folder))
                merger = merger_of(room, model, costs.scope, adapters, recipe)
            made = make(
                folder,
                model,
                adapters,
                numbers,
                shares=shares,
                merger=merger,
                recipe=recipe.plain if recipe and merger else None,
                setting=settings.model,
                known=known_hashes(home),
                report=report,
            )
            if given.gate:
                made = _gated(home, settings, made, numbers, shares, adapters, model, report)
    if given.json:
        print_json(asdict(made))
        return
    OUT.print(f"generation {made.number}: {len(made.adapters)} adapters, {made.new_bytes / 1e6:,.1f} MB new on disk")
    OUT.print(f"It is not in force. `soul promote {made.number}` does that.", markup=False)


def _gated(
    home: str,
    settings: Settings,
    made: Generation,
    numbers: Ties,
    shares: Mapping[str, Share],
    adapters: list[Adapter],
    model: Path,
    report: Report,
) -> Generation:
    """Judges a generation; where it lost too much, the lambda is bisected. The best that passed, or the last."""
    from evolution.bisecting import bisected
    from evolution.generations import Generations
    from evolution.integrate import integrate as make
    from server.cli_gate import judged

    def attempt(lam: float) -> tuple[Generation, Verdict]:
        one = made
        if lam != numbers.lam:
            one = make(
                *(Path(home), model, adapters, replace(numbers, lam=lam)),
                shares=shares,
                setting=settings.model,
                known=known_hashes(home),
                report=report,
            )
        verdict = judged(home, one.number, model, None, settings, report)
        ERR.print(f"lambda {lam:.3g}: generation {one.number} {'passed' if verdict.passed else 'failed'}", markup=False)
        for words in (*verdict.doubts, *verdict.breaches):
            ERR.print(f"  {words}", markup=False, soft_wrap=True)
        return Generations(Path(home)).get(one.number), verdict

    return bisected(numbers.lam, settings.gate_rounds, attempt)


def _show_plan(costs: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(costs)
        return
    OUT.print(f"{len(costs['adapters'])} adapters onto {costs['tensors']} tensors ({costs['scope']})", markup=False)
    OUT.print(f"disk: {costs['generation_bytes'] / 1e6:,.1f} MB for the generation")
    if costs["split_bytes"]:
        OUT.print(f"disk: {costs['split_bytes'] / 1e6:,.1f} MB once, to split the anchor")
    OUT.print(f"memory: about {costs['memory_bytes'] / 1e6:,.1f} MB")


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


def _adapters(home: Path, wanted: Sequence[str] | None) -> list[Adapter]:
    """The adapters of those names; without names, all that a merge takes."""
    from evolution.adapter import folder_of, load, to_merge

    return [load(folder_of(home, name)) for name in (to_merge(home) if wanted is None else wanted)]


def generations_list(home: str, given: argparse.Namespace) -> None:
    """`soul generations list`."""
    from evolution.generations import Generations

    generations = Generations(Path(home))
    current, every = generations.current(), generations.all()
    if given.json:
        print_json({"current": current, "generations": [asdict(one) for one in every]})
        return
    rows = [("*" if current == 0 else "", "0", "", "the anchor", "", "")]
    rows += [
        (
            "*" if one.number == current else "",
            str(one.number),
            one.made[:16].replace("T", " "),
            f"{len(one.adapters)} adapters, {_method(one)}",
            f"{one.new_bytes / 1e6:,.1f} MB",
            one.verdict or "not judged",
        )
        for one in every
    ]
    OUT.print(table(("", "generation", "made", "of", "new on disk", "gate"), rows))


def _method(one: Generation) -> str:
    lam = one.recipe.get("lam", one.recipe.get("lambda"))
    return f"{one.recipe.get('method')}" + (f", lambda {lam}" if lam is not None else "")


def generations_show(home: str, given: argparse.Namespace) -> None:
    """`soul generations show N`."""
    from evolution.generations import Generations

    one = Generations(Path(home)).get(given.number)
    if given.json:
        print_json(asdict(one))
        return
    OUT.print(f"generation {one.number}, made {one.made} when {one.parent} was in force", style="bold", markup=False)
    OUT.print(f"anchor {one.anchor[:16]}, model {one.model or '(none set)'}, {_method(one)}", markup=False)
    OUT.print(f"gate: {one.verdict or 'not judged'}; {one.new_bytes / 1e6:,.1f} MB new on disk", markup=False)
    rows = [(name, sum) for name, sum in one.adapters.items()]
    OUT.print(table(("adapter", "content hash"), rows))


def generations_diff(home: str, given: argparse.Namespace) -> None:
    """`soul generations diff ONE OTHER`."""
    from evolution.comparing import layers

    found = layers(Path(home), given.one, given.other)
    if given.json:
        print_json(found)
        return
    rows = [(layer, f"{100 * share:.3f} %") for layer, share in found.items()]
    OUT.print(table(("tensors", "difference, of the norm"), rows) if rows else "no difference")


def generations_picture(home: str, given: argparse.Namespace) -> None:
    """`soul generations picture [N]`."""
    from evolution.generations import Generations
    from evolution.strata import draw, strata

    generations = Generations(Path(home))
    layers = strata(Path(home), generations.current() if given.number is None else given.number)
    target = Path(given.out).expanduser() if given.out else generations.root / "strata.png"
    draw(layers, target)
    if given.json:
        print_json([asdict(one) for one in layers])
        return
    OUT.print(f"drawn: {target}", markup=False, soft_wrap=True)


def promote(home: str, given: argparse.Namespace) -> None:
    """`soul promote N`."""
    from evolution.generations import Generations
    from evolution.lock import evolving

    with evolving(Path(home), "promote"):
        before = Generations(Path(home)).promote(given.number, unjudged=given.unjudged)
    OUT.print(f"generation {given.number} is in force; before it was {before}")
    _told(home)


def rollback(home: str, given: argparse.Namespace) -> None:
    """`soul rollback`."""
    from evolution.generations import Generations
    from evolution.lock import evolving

    with evolving(Path(home), "rollback"):
        number = Generations(Path(home)).rollback()
    OUT.print(f"generation {number} is in force again" if number else "the anchor is in force again")
    _told(home)


def _told(home: str) -> None:
    """Lets the daemon that runs go over to what is in force now; one that starts later finds it anyway."""
    if not held(home):
        return
    with progress_bar() as report:
        done = call(home, "generation.switch", start=False, progress=report)
    ERR.print(f"the daemon speaks with {done['model']} now", markup=False, soft_wrap=True)


def adapter_list(home: str, given: argparse.Namespace) -> None:
    """`soul adapter list`."""
    from evolution.adapter import folder_of, load, names

    kept = [load(folder_of(Path(home), name)) for name in names(Path(home))]
    if given.json:
        print_json([{"name": one.name, "rank": one.rank, "scale": one.scale, **one.manifest} for one in kept])
        return
    rows = [
        (one.name, str(one.rank), f"{one.scale:g}", str(len(one.pairs)), str(one.manifest.get("anchor", ""))[:12])
        for one in kept
    ]
    OUT.print(table(("adapter", "rank", "scale", "modules", "anchor"), rows) if rows else "no adapters yet")


def adapter_import(home: str, given: argparse.Namespace) -> None:
    """`soul adapter import FOLDER`: what fits the anchor is taken as one of it."""
    from dataclasses import replace

    from evolution import adapter, peft, tensors
    from evolution.anchor import anchor_id
    from evolution.lock import evolving

    source = Path(given.folder).expanduser()
    name = given.name or source.name
    target = adapter.folder_of(Path(home), name)
    found = peft.load(source, name) if peft.is_peft(source) else adapter.load(source)
    with progress_bar() as report:
        model, _ = anchor_of(home, given.model, report)
    adapter.check_shapes(found, {weight: place.shape for weight, place in tensors.places_of(model).items()})
    id = anchor_id(model, known_hashes(home))
    if found.manifest.get("anchor", id) != id:
        found.require(id, {})
    origin = found.manifest.get("from", "mlx_lm")
    with evolving(Path(home), "adapter import"):
        adapter.save(replace(found, name=name, manifest={**found.manifest, "from": origin, "anchor": id}), target)
    OUT.print(f"adapter {name}: rank {found.rank} on {len(found.pairs)} modules", markup=False)


def adapter_export(home: str, given: argparse.Namespace) -> None:
    """`soul adapter export NAME FOLDER`."""
    from evolution import adapter, peft

    found = adapter.load(adapter.folder_of(Path(home), given.name))
    target = Path(given.folder).expanduser()
    peft.save(found, target) if given.peft else adapter.save(found, target)
    OUT.print(f"written to {target}", markup=False, soft_wrap=True)


def adapter_join(home: str, given: argparse.Namespace) -> None:
    """`soul adapter join NAME A[=0.5] B[=0.5]`."""
    from evolution import adapter
    from evolution.joining import joined
    from evolution.lock import evolving

    parts: dict[str, float] = {}
    for one in given.adapters:
        name, sign, number = one.partition("=")
        try:
            parts[name] = float(number) if sign else 1.0 / len(given.adapters)
        except ValueError:
            raise InvalidInput(f"{number!r} is no coefficient.", "Write ADAPTER=0.5.") from None
    whole = joined(given.name, [adapter.load(adapter.folder_of(Path(home), name)) for name in parts], parts)
    target = adapter.folder_of(Path(home), given.name)
    with evolving(Path(home), "adapter join"):
        adapter.save(whole, target)
    OUT.print(f'adapter {given.name}: rank {whole.rank}. Serve it with `adapter = "{target}"`.', markup=False)
