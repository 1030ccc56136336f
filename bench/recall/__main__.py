"""How good recall is: on conversations (LoCoMo) and on texts with marked passages, beside peers on the same packets.

    python -m bench.recall [--locomo FILE] [--corpora FOLDER] [--no-tuning]

Conversations: each is a memory of its own. The weights are tuned on all conversations but one and reported on that one,
for each in turn, through the real statement; the weights that ship are reported beside. Texts: each is a corpus; the
weights that ship are used, nothing is tuned. Writes bench/results/recall.json and recall.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import numpy as np

from bench.recall.data import Conversation, Text, conversations, texts
from bench.recall.drawing import draw
from bench.recall.measures import CHUNKS, DEPTH, Passages, session_recall, turn_recall
from bench.recall.peers import Peers, spread
from memory.database import Database, DatabaseConfig
from memory.embedder import Embedder, default_embedder
from memory.memory import Memory
from memory.packets import Packet
from memory.recall import Query, Recall
from memory.shapes import Weights
from memory.uuid7 import uuid7

RESULTS = Path(__file__).parent.parent / "results"
SOUL = "Soul"
TRIED = {
    "semantic": (0.3, 0.35, 0.4),
    "neighbours": (0.1, 0.15),
    "borrowed": (0.3, 0.5),
    "speaker": (0.2, 0.4),
}
"""The weights that are tuned, and what is tried of each."""
ALONE = {"neighbours": 0.0, "borrowed": 0.0, "session": 0.0, "speaker": 0.0, "date": 0.0}
OFF = {
    "words alone": Weights(semantic=0, **ALONE),
    "meaning alone": Weights(semantic=1, **ALONE),
    "words and meaning": Weights(**ALONE),
    "and session": Weights(**ALONE | {"session": Weights().session}),
    "and neighbours": Weights(borrowed=0, speaker=0, date=0),
    "and their words": Weights(speaker=0, date=0),
    "and the speaker": Weights(date=0),
}
"""What each term brings, one after another; with the date it is what ships."""

Judged = dict[str, list[float]]
"""By measure: one value for each question."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recall")
    parser.add_argument("--locomo", type=Path, help="a file in LoCoMo's format")
    parser.add_argument("--corpora", type=Path, help="a folder with *.md and questions.jsonl")
    parser.add_argument("--no-tuning", action="store_true", help="report the weights that ship, tune none")
    options = parser.parse_args()
    if not options.locomo and not options.corpora:
        parser.error("name --locomo FILE, --corpora FOLDER, or both")
    report: dict[str, Any] = {"command": "python -m bench.recall --locomo FILE --corpora FOLDER"}
    report["weights_that_ship"] = asdict(Weights())
    embedder = default_embedder()
    if options.locomo:
        report["conversations"] = anyio.run(_all_conversations, conversations(options.locomo), embedder, options)
    if options.corpora:
        report["texts"] = anyio.run(_all_texts, texts(options.corpora), embedder)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recall.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(report, RESULTS / "recall.png")
    print(json.dumps(report, indent=2, ensure_ascii=False))


@asynccontextmanager
async def _memory(embedder: Embedder, *roots: Path) -> AsyncIterator[Memory]:
    home = Path(tempfile.mkdtemp(prefix="soul-bench-"))
    try:
        async with Database.open(DatabaseConfig(home)) as database, Memory.open(database, embedder, roots) as memory:
            yield memory
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _recall(memory: Memory, weights: Weights) -> Recall:
    return Recall(memory.database, memory.embedder, memory.upkeep, weights)


async def _all_conversations(
    found: list[Conversation], embedder: Embedder, options: argparse.Namespace
) -> dict[str, Any]:
    combinations = [Weights(**dict(zip(TRIED, values, strict=True))) for values in itertools.product(*TRIED.values())]
    shipped = Weights()
    tried = [] if options.no_tuning else combinations
    by_weights: list[dict[Weights, Judged]] = []
    ways: list[dict[str, Judged]] = []
    for conversation in found:
        async with _memory(embedder) as memory:
            judged, others = await _conversation(memory, conversation, [shipped, *tried, *OFF.values()])
            by_weights.append(judged)
            ways.append(others)
    report: dict[str, Any] = {"questions": sum(len(one.questions) for one in found)}
    report["each"] = []
    held_out: Judged = defaultdict(list)
    for place, conversation in enumerate(found):
        rest = [judged for at, judged in enumerate(by_weights) if at != place]
        entry: dict[str, Any] = {"name": conversation.name, "turns": len(conversation.turns)}
        if tried and rest:
            best = max(tried, key=lambda weights: _objective(rest, weights))
            entry["tuned_on_the_others"] = {name: getattr(best, name) for name in TRIED}
            entry["held_out"] = _means(by_weights[place][best])
            for measure, values in by_weights[place][best].items():
                held_out[measure] += values
        entry["weights_that_ship"] = _means(by_weights[place][shipped])
        entry["peers"] = {peer: _means(judged) for peer, judged in ways[place].items()}
        report["each"].append(entry)
    if held_out:
        report["held_out"] = _spreads(held_out)
    report["weights_that_ship"] = _spreads(_together([judged[shipped] for judged in by_weights]))
    report["terms"] = {
        name: _spreads(_together([judged[weights] for judged in by_weights])) for name, weights in OFF.items()
    }
    report["peers"] = {peer: _spreads(_together([judged[peer] for judged in ways])) for peer in ways[0]}
    return report


async def _conversation(
    memory: Memory, conversation: Conversation, tried: Sequence[Weights]
) -> tuple[dict[Weights, Judged], dict[str, Judged]]:
    packets: list[Packet] = []
    name: dict[UUID, str] = {}
    for turn in conversation.turns:
        packet = Packet(uuid7(), turn.time, "director", turn.session, turn.sequence, "said", turn.text)
        packets.append(packet)
        name[packet.id] = turn.id
    await memory.packets.write(packets)
    await memory.upkeep.settled()
    assert memory.embedder is not None
    peers = Peers([turn.text for turn in conversation.turns], memory.embedder)
    session_of = conversation.session_of()
    judged: dict[Weights, Judged] = {weights: defaultdict(list) for weights in tried}
    others: dict[str, Judged] = {}

    def judge(into: Judged, asked: Any, found: list[str]) -> None:
        recalled = turn_recall(asked, found)
        into["turn recall@10"].append(recalled)
        into["session recall@5"].append(session_recall(asked, found, session_of))
        into[f"turn recall@10, {asked.category}"].append(recalled)

    for asked in conversation.questions:
        vector = await memory.recall.embed(asked.text)
        for weights in tried:
            hits = await _recall(memory, weights).search(Query(asked.text, k=DEPTH), vector=vector)
            judge(judged[weights], asked, [name[hit.id] for hit in hits])
        for peer, rows in peers.ask(asked.text, DEPTH).items():
            judge(others.setdefault(peer, defaultdict(list)), asked, [conversation.turns[row].id for row in rows])
    return judged, others


def _objective(judged: Sequence[dict[Weights, Judged]], weights: Weights) -> float:
    """What tuning aims at: turn recall, and half as much session recall, each conversation counting alike."""
    means = [_means(one[weights]) for one in judged]
    return float(np.mean([one["turn recall@10"] + one["session recall@5"] / 2 for one in means]))


async def _all_texts(found: list[Text], embedder: Embedder) -> dict[str, Any]:
    report: dict[str, Any] = {"questions": sum(len(text.questions) for text in found), "each": []}
    everything: dict[str, Judged] = {}
    for text in found:
        async with _memory(embedder, text.path.parent) as memory:
            ways = await _text(memory, text, embedder)
        report["each"].append({"name": text.name, **{way: _means(judged) for way, judged in ways.items()}})
        for way, judged in ways.items():
            into = everything.setdefault(way, defaultdict(list))
            for measure, values in judged.items():
                into[measure] += values
    report["all"] = {way: _spreads(judged) for way, judged in everything.items()}
    return report


CHUNK_TEXTS = "SELECT prose FROM packets WHERE kind = 'chunk' ORDER BY session, sequence"


async def _text(memory: Memory, text: Text, embedder: Embedder) -> dict[str, Judged]:
    await memory.corpora.add(text.name, text.path)
    await memory.upkeep.settled()
    chunks = [str(row["prose"]) for row in await memory.database.fetch(CHUNK_TEXTS)]
    peers = Peers(chunks, embedder)
    passages = Passages(text)
    ways: dict[str, Judged] = {}
    for asked in text.questions:
        hits = await memory.recall.search(Query(asked.text, k=CHUNKS, corpus=text.name))
        answers = {SOUL: [hit.prose for hit in hits]}
        for peer, rows in peers.ask(asked.text, CHUNKS).items():
            answers[peer] = [chunks[row] for row in rows]
        for way, answer in answers.items():
            into = ways.setdefault(way, defaultdict(list))
            for measure, value in passages.judged(asked.spans, answer).items():
                into[f"{measure}@5"].append(value)
    return ways


def _together(parts: Sequence[Judged]) -> Judged:
    joined: Judged = defaultdict(list)
    for part in parts:
        for measure, values in part.items():
            joined[measure] += values
    return joined


def _means(judged: Judged) -> dict[str, float]:
    return {measure: round(float(np.mean(values)), 4) for measure, values in judged.items()}


def _spreads(judged: Judged) -> dict[str, dict[str, float]]:
    return {measure: spread(values) for measure, values in judged.items()}


if __name__ == "__main__":
    main()
