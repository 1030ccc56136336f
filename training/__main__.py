"""`python -m training --out FOLDER`: trains a seedling, goes on where it stopped, writes curve and model folder."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from engine.errors import SoulError
from training import words
from training.curve import draw
from training.export import export
from training.mixture import STAGES, StageName
from training.trainer import Point, Settings, shape, stage_at, train

EVERY = 20
"""Steps of which the mean loss is told."""


def _stage(text: str) -> tuple[int, StageName]:
    """`ids-2:350` as a stage of `Settings`."""
    name, _, step = text.partition(":")
    if name not in STAGES or not step.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:STEP; names are {', '.join(STAGES)}")
    return int(step), name


def main() -> None:
    default = Settings()
    parser = argparse.ArgumentParser(description="Trains the seedling; goes on from the folder's checkpoint.")
    parser.add_argument("--out", type=Path, required=True, help="the folder of checkpoint, curve and model")
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--until", type=int, help="stop after this step; a later call goes on")
    parser.add_argument("--tokens", type=int, default=default.tokens, help="of a step")
    parser.add_argument("--length", type=int, help="most tokens of a scene; default: short first, whole windows last")
    parser.add_argument("--rate", type=float, default=default.rate)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--start", type=Path, help="a model folder whose weights to begin with; teaches whole days alone by default"
    )
    parser.add_argument(
        "--stages", nargs="*", type=_stage, metavar="NAME:STEP", help="what is taught up to which step, days after that"
    )
    parser.add_argument("--fuse", action="store_true", help="faster; needs a C++ compiler")
    given = parser.parse_args()
    lengths = ((given.steps, given.length),) if given.length else default.lengths
    stages = tuple(given.stages) if given.stages is not None else () if given.start else default.stages
    settings = Settings(given.steps, given.tokens, stages, lengths, rate=given.rate, seed=given.seed)

    losses: list[float] = []

    def report(point: Point) -> None:
        losses.append(point.loss)
        if (point.step + 1) % EVERY == 0:
            loss, stage = statistics.mean(losses[-EVERY:]), stage_at(point.step, settings)
            sys.stderr.write(f"step {point.step + 1} {stage} loss {loss:.3f} {point.seconds:.0f} s\n")

    try:
        chat = words.chat()
        model, curve = train(chat, settings, given.out, report, given.until, fuse=given.fuse, start=given.start)
        export(model, shape(settings), given.out / "model")
        draw(curve, given.out / "curve.png")
    except SoulError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
