"""The gate: says of a generation whether it may be put in force, and why not.

It compares the served folder with the anchor and with the generations before it, on probes that no dream has seen.
Knows limits and words; what is measured is `evolution.measuring`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Conflict, SoulError
from evolution import adapter as adapters
from evolution import samples
from evolution.anchor import Report, anchor_id
from evolution.gate_report import report_files
from evolution.generations import Generations
from evolution.measuring import Looked, Measures, look
from evolution.probes import Probes
from evolution.samples import Sample
from evolution.suspicion import suspicions

FORMER = 3
"""So many former generations are measured beside a new one: each costs as much as the new one itself."""


@dataclass(frozen=True)
class Limits:
    """What a generation may cost. Each with its reason."""

    perplexity: float = 1.05
    """Times the anchor's on anchor texts: at 5 % a reader notices nothing yet, and drift does not add up, since every
    generation starts from the anchor again."""
    kl: float = 0.1
    """Nats from the anchor's predictions on the probes: 0.1 is about the distance of a good 4-bit quantisation."""
    canaries: float = 0.2
    """Nats by which the loss on plain facts may rise."""
    tools: float = 0.0
    """Share of tool probes that may get lost: an agent that cannot call is no agent."""
    refusals: float = 0.0
    """Share of refusals that may get lost."""
    gain: float = 0.0
    """Nats by which the loss on what was held out must fall at least."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a generation. `breaches` can be mended by a smaller lambda, `doubts` cannot."""

    number: int
    anchor: Measures
    own: Measures
    former: Mapping[int, Measures]
    held_out: int
    breaches: tuple[str, ...]
    doubts: tuple[str, ...]
    limits: Limits

    @property
    def passed(self) -> bool:
        return not self.breaches and not self.doubts


def judge(
    home: Path,
    number: int,
    model: Path,
    buffer: Path,
    probes: Probes,
    limits: Limits,
    *,
    known: Path | None = None,
    report: Report,
) -> Verdict:
    """Measures and judges a generation, and keeps verdict and report with it; called under the lock.

    Args:
        model: the anchor's folder.
        buffer: the golden log; what none of the generation's adapters learned from is what it is judged by.

    Raises:
        NotFound: no such generation.
        Conflict: the anchor is another one.
    """
    generations = Generations(home)
    one = generations.get(number)
    if one.anchor != anchor_id(model, known):
        raise Conflict(f"Generation {number} stands on another anchor than {model}.", "Name its anchor with --model.")
    held_out, doubts = _held_out(home, one.adapters, model, buffer)
    folder = generations.folder(number)
    report("measuring the anchor", 0.0)
    anchor = look(model, probes, held_out)
    before = [other.number for other in generations.all() if other.number < number and other.anchor == one.anchor]
    measured: dict[int, Measures] = {}
    for place, other in enumerate(before[-FORMER:]):
        report(f"measuring generation {other}", (1 + place) / (FORMER + 2))
        measured[other] = look(generations.folder(other), probes, held_out, anchor).measures
    report(f"measuring generation {number}", (FORMER + 1) / (FORMER + 2))
    own = look(folder, probes, held_out, anchor)
    verdict = Verdict(
        number,
        anchor.measures,
        own.measures,
        measured,
        len(held_out),
        breaches(anchor, own, limits),
        (*doubts, *_gain(anchor.measures, own.measures, limits)),
        limits,
    )
    files = report_files(verdict, probes.sum)
    generations.judge(number, "passed" if verdict.passed else "failed", files)
    return verdict


def breaches(anchor: Looked, own: Looked, limits: Limits) -> tuple[str, ...]:
    """What a generation lost of the anchor, in words."""
    was, now = anchor.measures, own.measures
    found: list[str] = []
    # Written so that a number that is none is a breach.
    if not now.perplexity <= limits.perplexity * was.perplexity:
        times = now.perplexity / was.perplexity
        found.append(f"The perplexity of the anchor texts is {times:.3f} times the anchor's; {limits.perplexity} may.")
    if not now.kl <= limits.kl:
        found.append(f"Its predictions lie {now.kl:.3f} nats from the anchor's; {limits.kl} may.")
    if not now.canaries <= was.canaries + limits.canaries:
        rise = now.canaries - was.canaries
        found.append(f"The loss on plain facts rose by {rise:.3f} nats; {limits.canaries} may.")
    for name, lost, limit in (
        ("tool calls", was.tools - now.tools, limits.tools),
        ("refusals", was.refusals - now.refusals, limits.refusals),
    ):
        if not lost <= limit + 1e-9:
            found.append(f"{lost:.0%} of the {name} got lost; {limit:.0%} may.")
    return tuple(found)


def _gain(was: Measures, now: Measures, limits: Limits) -> list[str]:
    if was.held_out is None or now.held_out is None:
        return []
    gain = was.held_out - now.held_out
    if gain > limits.gain:
        return []
    return [f"The held-out golden log is no better: {was.held_out:.3f} nats before, {now.held_out:.3f} after."]


def _held_out(
    home: Path, names: Mapping[str, str], model: Path, buffer: Path
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Samples that none of the adapters learned from, and what speaks against those they did learn from."""
    learned: set[str] = set()
    doubts: list[str] = []
    for name, sum in names.items():
        try:
            manifest = adapters.load(adapters.folder_of(home, name)).manifest
        except SoulError as error:
            doubts.append(f"The adapter {name} cannot be looked at: {error.fact}")
            continue
        if str(manifest.get("sum", "")) != sum:
            doubts.append(f"The adapter {name} is not the one that was merged.")
        learned |= set(manifest.get("trained_on", ()))
        doubts += [f"{name}: {words}" for words in suspicions(manifest.get("signs", {}))]
    try:
        every = samples.usable(buffer, model)
    except SoulError as error:
        return (), (*doubts, f"There is no golden log to judge it by: {error.fact}")
    found = tuple(one for one in every if one.id not in learned)
    if len(found) < 2:
        doubts.append(f"{len(found)} samples of the golden log were held out of its dreams; 2 are the least.")
    return found, tuple(doubts)
