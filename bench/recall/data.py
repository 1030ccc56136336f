"""The two kinds of test data, read from any path: conversations in LoCoMo's format, texts with marked passages.

LoCoMo (Maharana et al. 2024, "Evaluating Very Long-Term Conversational Memory of LLM Agents"): a JSON list of
conversations, whose sessions have a time, and whose questions name the turns that hold the answer. Texts: a folder with
`NAME.md` files and `questions.jsonl` (`corpus`, `question`, `references` with character spans), the format of
chunking_evaluation.
Neither is part of this project.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NO_ANSWER = 5
"""LoCoMo's category of questions that cannot be answered, which name no evidence to be found."""
CATEGORIES = {1: "several turns", 2: "time", 3: "inference", 4: "single turn"}
"""LoCoMo's own numbers, in words."""


@dataclass(frozen=True)
class Turn:
    id: str
    session: str
    sequence: int
    text: str
    time: datetime
    """When its session began."""


@dataclass(frozen=True)
class Asked:
    """A question and the ids of the turns that answer it."""

    text: str
    evidence: frozenset[str]
    category: str


@dataclass(frozen=True)
class Conversation:
    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Asked, ...]

    def session_of(self) -> dict[str, str]:
        return {turn.id: turn.session for turn in self.turns}


def conversations(path: Path) -> list[Conversation]:
    """All conversations of a file. Questions whose evidence names no turn that exists are left out."""
    return [_conversation(place, raw) for place, raw in enumerate(json.loads(path.read_text("utf-8")))]


def _conversation(place: int, raw: dict[str, Any]) -> Conversation:
    spoken = raw["conversation"]
    sessions = [key for key in spoken if re.fullmatch(r"session_\d+", key)]
    turns: list[Turn] = []
    for session in sorted(sessions, key=lambda key: int(key.partition("_")[2])):
        time = _time(spoken.get(f"{session}_date_time"))
        for sequence, said in enumerate(spoken[session]):
            caption = f" [shares {said['blip_caption']}]" if said.get("blip_caption") else ""
            turns.append(Turn(said["dia_id"], session, sequence, f"{said['speaker']}: {said['text']}{caption}", time))
    known = {turn.id for turn in turns}
    questions: list[Asked] = []
    for asked in raw["qa"]:
        evidence = frozenset(re.findall(r"D\d+:\d+", " ".join(asked.get("evidence", [])))) & known
        if evidence and asked["category"] != NO_ANSWER:
            category = CATEGORIES.get(asked["category"], str(asked["category"]))
            questions.append(Asked(str(asked["question"]), evidence, category))
    name = str(raw.get("sample_id") or place + 1)
    return Conversation(name, tuple(turns), tuple(questions))


def _time(written: str | None) -> datetime:
    """LoCoMo writes `1:56 pm on 8 May, 2023`; now, where a session has no time."""
    if written is None:
        return datetime.now(UTC)
    return datetime.strptime(written, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


@dataclass(frozen=True)
class Marked:
    """A question on a text, and the character spans of the passages that answer it."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Text:
    name: str
    path: Path
    content: str
    questions: tuple[Marked, ...]


def texts(folder: Path) -> list[Text]:
    """The texts of a folder that have questions."""
    asked: dict[str, list[Marked]] = {}
    for line in (folder / "questions.jsonl").read_text("utf-8").splitlines():
        raw = json.loads(line)
        spans = tuple((int(one["start_index"]), int(one["end_index"])) for one in raw["references"])
        asked.setdefault(raw["corpus"], []).append(Marked(raw["question"], spans))
    return [
        Text(path.stem, path, path.read_text("utf-8"), tuple(asked[path.stem]))
        for path in sorted(folder.glob("*.md"))
        if path.stem in asked
    ]
