"""How good recall is: on conversations (LoCoMo) and on texts with marked passages (chunking_evaluation).

    python -m bench.recall --locomo FILE [--corpora FOLDER] [--hold-out 1]

LoCoMo: share of the turns named as evidence among the ten best (turn recall@10), each conversation a memory of its own.
Texts: share of the marked characters that the five best chunks cover. Both data sets stay where they are; neither is
part of this project. Prints JSON. For words alone and meaning alone the same statement runs with one half missing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from memory.database import Database, DatabaseConfig
from memory.embedder import Embedder, default_embedder
from memory.memory import Memory
from memory.packets import Packet
from memory.recall import Hit, Query
from memory.uuid7 import uuid7

TURNS = 10
CHUNKS = 5
NO_ANSWER = 5
"""LoCoMo's category of questions that cannot be answered, which name no evidence to be found."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recall")
    parser.add_argument("--locomo", type=Path)
    parser.add_argument("--corpora", type=Path, help="folder with *.md and questions.jsonl")
    parser.add_argument("--hold-out", type=int, default=0, help="leave out the last N conversations and texts")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    if options.locomo:
        conversations = json.loads(options.locomo.read_text("utf-8"))
        report["locomo turn recall@10"] = anyio.run(_locomo, conversations[: len(conversations) - options.hold_out])
    if options.corpora:
        paths = sorted(options.corpora.glob("*.md"))
        texts = {path.stem: path for path in paths[: len(paths) - options.hold_out]}
        lines = (options.corpora / "questions.jsonl").read_text("utf-8").splitlines()
        questions = [json.loads(line) for line in lines]
        report[f"marked characters covered by {CHUNKS} chunks"] = anyio.run(_corpora, options.corpora, texts, questions)
    print(json.dumps(report, indent=2))


@asynccontextmanager
async def _memory(embedder: Embedder, *roots: Path) -> AsyncIterator[Memory]:
    home = Path(tempfile.mkdtemp(prefix="soul-bench-"))
    try:
        async with Database.open(DatabaseConfig(home)) as database, Memory.open(database, embedder, roots) as memory:
            yield memory
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _ask(memory: Memory, text: str, k: int, corpus: str | None = None) -> dict[str, tuple[Hit, ...]]:
    """The hits of each way of asking."""
    vector = await memory.recall.embed(text)
    # Where no vectors can be compared, words alone decide; a question of nothing but a stop word has no words.
    ask = memory.recall.search
    made_by, memory.upkeep.vectors = memory.upkeep.vectors, None
    words = await ask(Query(text, k=k, corpus=corpus), vector=vector)
    memory.upkeep.vectors = made_by
    return {
        "words alone": words,
        "meaning alone": await ask(Query("the", k=k, corpus=corpus), vector=vector),
        "both": await ask(Query(text, k=k, corpus=corpus), vector=vector),
    }


async def _locomo(conversations: list[dict[str, Any]]) -> dict[str, float]:
    embedder = default_embedder()
    recalls: defaultdict[str, list[float]] = defaultdict(list)
    for conversation in conversations:
        async with _memory(embedder) as memory:
            turns = _turns(conversation["conversation"])
            await memory.packets.write([packet for packet, _ in turns])
            await memory.upkeep.settled()
            name = {packet.id: turn for packet, turn in turns}
            for question in conversation["qa"]:
                evidence = set(re.findall(r"D\d+:\d+", " ".join(question.get("evidence", []))))
                if not evidence or question["category"] == NO_ANSWER:
                    continue
                for way, hits in (await _ask(memory, question["question"], TURNS)).items():
                    recalls[way].append(len(evidence & {name[hit.id] for hit in hits}) / len(evidence))
    return {way: round(float(np.mean(shares)), 4) for way, shares in recalls.items()}


def _turns(conversation: dict[str, Any]) -> list[tuple[Packet, str]]:
    turns: list[tuple[Packet, str]] = []
    sessions = sorted(
        (key for key in conversation if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key.partition("_")[2])
    )
    for session in sessions:
        for sequence, turn in enumerate(conversation[session]):
            caption = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            prose = f"{turn['speaker']}: {turn['text']}{caption}"
            packet = Packet(uuid7(), datetime.now(UTC), "director", session, sequence, "said", prose)
            turns.append((packet, turn["dia_id"]))
    return turns


async def _corpora(folder: Path, texts: dict[str, Path], questions: list[dict[str, Any]]) -> dict[str, float]:
    shares: defaultdict[str, list[float]] = defaultdict(list)
    async with _memory(default_embedder(), folder) as memory:
        for name, path in texts.items():
            await memory.corpora.add(name, path)
        await memory.upkeep.settled()
        for question in questions:
            name = question["corpus"]
            if name in texts:
                text = await anyio.Path(texts[name]).read_text("utf-8")
                for way, hits in (await _ask(memory, question["question"], CHUNKS, name)).items():
                    shares[way].append(_covered(text, question["references"], hits))
    return {way: round(float(np.mean(covered)), 4) for way, covered in shares.items()}


def _covered(text: str, references: list[dict[str, Any]], hits: tuple[Hit, ...]) -> float:
    found = np.zeros(len(text), bool)
    for hit in hits:
        start = text.find(hit.prose)
        found[start : start + len(hit.prose)] = True
    marked = np.zeros(len(text), bool)
    for reference in references:
        marked[reference["start_index"] : reference["end_index"]] = True
    return float((found & marked).sum() / marked.sum())


if __name__ == "__main__":
    main()
