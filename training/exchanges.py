"""Exchanges of a day with the Director: told, asked, chatted, and every tool that it may call.

Each exchange appends its lines to a `Room` and returns what is right of its last line. Knows what a sensible Director
says in plain cases; does not know how often what comes (`training.days`). How a window looks is `training.scenes`', the
words are `training.phrases`'.
"""

from __future__ import annotations

from dataclasses import replace

from agents.digest import candidates
from agents.ordering import NEAREST, criteria
from agents.orders import MINUTES, ROUNDS, Order
from agents.rewriting import answered, request
from engine.seedling.prose import prose
from memory.recall import Hit
from tools.invoke_agent import order_text
from training.facts import Fact, again, fact, missed, near, question
from training.passages import passage
from training.phrases import (
    CHATTER,
    EDITS,
    INDEXES,
    INJECTIONS,
    MOUNTS,
    NOTES,
    ORDERS,
    PLANS,
    RECALLS,
    REPLIES,
    SELVES,
    UNMOUNTS,
    VIRTUES,
    WORK,
    Phrases,
)
from training.scenes import START, Line, Right, Room
from training.sentences import capital, small_talk
from training.vocabulary import CITIES, TOPICS, Vocabulary

NOTED = "Noted."
TOOLS = ("recall", "mount_corpus", "write_notebook", "invoke_agent")
OTHER_TOOL = "rewrite_self"
REWRITE_BUDGET = 512
CHARACTERS = 2.6
"""Of a token, about."""
TWOFOLD = 0.2
"""Share of the tasks and notes that are of two sentences: an argument does not end with the first full stop."""
TWOFOLD_TAUGHT = 0.7
"""The same of the taught notes: where two sentences begin alike, their copy may go back to the first, without end."""
SMALL_TALK, PROSE = 0.5, 0.1
"""Shares of the taught small talk that are put together of parts, and of plain sentences."""
RECURRING = 0.5
"""Share of the turns that show again what a turn before them has shown, as at work."""


class Day:
    """A room and what was said in it."""

    def __init__(self, words: Vocabulary, tools: tuple[str, ...] = (), notes: int = 0, calm: bool = False) -> None:
        """`calm`: nothing else comes up than what is talked about."""
        self.words = words
        self.calm = calm
        self.noted = [fact(words) for _ in range(notes)]
        self.room = Room(words, tools, [f"- {one.said}" for one in self.noted])
        self.told: list[Fact] = []
        self.seen: dict[str, tuple[Fact, Hit]] = {}
        """What memories have shown, by what it would be asked for."""
        self.chatted: list[str] = []

    @property
    def length(self) -> int:
        """Characters of all lines."""
        return sum(len(line.text) for line in self.room.lines)

    @property
    def held(self) -> list[Fact]:
        """What was told, noted or shown."""
        return [*(one for one, _ in self.seen.values()), *self.told, *self.noted]

    def pick(self, phrases: Phrases, **values: str) -> str:
        return self.words.rng.choice(phrases[self.words.split]).format(**values)

    def request(self, phrases: Phrases, **values: str) -> str:
        """One of them as somebody says it, with what may stand before it; {a} and {b} are words of no meaning, or one
        that nobody has heard."""
        rng = self.words.rng
        loose = {
            name: self.words.babble(1) if self.words.wild() else self.words.glue(rng.randint(0, 3)) for name in "ab"
        }
        return self.words.lead() + capital(" ".join(self.pick(phrases, **values, **loose).split()))

    # -- said

    def tell(self) -> Right:
        """Somebody states a fact, now and then an earlier one with a new value."""
        rng = self.words.rng
        one = fact(self.words)
        if self.told and rng.random() < 0.12:
            place = rng.randrange(len(self.told))
            one = again(self.words, self.told.pop(place))
        hits = self._near(one, rng.choice((0, 0, 0, 1, 2)))
        context = passage(self.words, rng.randint(100, 900)) if not self.calm and rng.random() < 0.15 else ""
        self.room.asks(one.said, [*hits, *self.noise()], context=context)
        self.room.says(NOTED)
        self.told.append(one)
        return Right(NOTED)

    def chat(self) -> Right:
        """Small talk, which calls for no tool."""
        rng = self.words.rng
        said = self.pick(CHATTER, p=self.words.person(), c=self.words.of(CITIES))
        if self.words.split == "train":
            drawn = rng.random()
            if drawn < SMALL_TALK:
                said = small_talk(self.words)
            elif drawn < SMALL_TALK + PROSE:
                said = " ".join(prose(rng.randint(1, 2), rng.getrandbits(32)))
        self.chatted.append(said)
        hits = [self.room.hit(fact(self.words).said) for _ in range(rng.choice((0, 0, 1)))]
        self.room.asks(said, [*hits, *self.noise()])
        reply = rng.choice(REPLIES)
        self.room.says(reply)
        return Right(reply)

    # -- asked

    def found(self, injected: bool = False) -> Right:
        """The answer lies among the nearest memories."""
        one = fact(self.words)
        hits = self._memories(one, there=True)
        lure = self._inject(hits, one) if injected else ""
        self.room.asks(question(self.words, one), hits)
        self._says_from(hits, one)
        return Right(one.value, lure)

    def refused(self) -> Right:
        """As found, with an instruction among the memories."""
        return self.found(injected=True)

    def missing(self, one: Fact | None = None) -> Right:
        """No memory holds it."""
        one = one or fact(self.words)
        self.room.asks(question(self.words, one), self._memories(one, there=False))
        self.room.says(one.unknown)
        return Right()

    def from_window(self, one: Fact | None = None) -> Right:
        """It was said some turns before: no memory of it is shown, since it is in view."""
        if not self.told:
            return self.found()
        rng = self.words.rng
        one = one or rng.choice(self.told)
        hits = self._near(one, rng.choice((0, 0, 0, 1, 2))) + self.noise()
        self.room.asks(question(self.words, one), hits)
        self.room.says(f"{one.answer}.")
        return Right(one.value)

    def from_seen(self) -> Right:
        """It stood among the memories of an earlier question."""
        told = {one.key for one in self.told}
        left = [found for key, found in self.seen.items() if key not in told]
        if not left:
            return self.found()
        one, hit = self.words.rng.choice(left)
        hits = self.noise()
        if hit not in hits and self.words.rng.random() < RECURRING:
            hits.insert(self.words.rng.randint(0, len(hits)), hit)
        self.room.asks(question(self.words, one), hits)
        self.room.says(one.cited(hit.citation))
        return Right(one.value)

    def unseen(self) -> Right:
        """Neither an earlier memory nor a new one holds it, though they hold what is easily taken for it."""
        if not self.seen:
            return self.missing()
        one = missed(self.words, self.held)
        self.room.asks(question(self.words, one), self.noise())
        self.room.says(one.unknown)
        return Right()

    def from_notebook(self, one: Fact | None = None) -> Right:
        """It stands in the notebook."""
        if not self.noted:
            return self.found()
        rng = self.words.rng
        one = one or rng.choice(self.noted)
        asked = question(self.words, one)
        self.room.asks(asked, self._near(one, rng.choice((0, 1, 2))))
        self.room.says(one.cited("notebook"))
        return Right(one.value)

    def quoted(self) -> Right:
        """An open question: what the memories say about it is quoted."""
        rng = self.words.rng
        one = fact(self.words)
        cited = self._shown(one, chunk=rng.random() < 0.5)
        hits = [cited, *(self._shown(fact(self.words), chunk=False) for _ in range(rng.randint(0, 3)))]
        rng.shuffle(hits)
        ways = ("What do you know about {s}?", "Tell me about {s}.", "What do the memories say about {s}?")
        self.room.asks(self.words.lead() + rng.choice(ways).format(s=one.subject), hits)
        self.room.says(f"My memories say: {one.said} [{cited.citation}]")
        return Right(one.value)

    # -- tools

    def search(self) -> Right:
        """Asked to search: what comes back is said, or that it is unknown."""
        one, rng = fact(self.words), self.words.rng
        there = rng.random() < 0.7
        hits = self._memories(one, there)
        # The nearest memories of the request are those of the recall, or others.
        self.room.asks(
            self.request(RECALLS, k=one.key), hits if rng.random() < 0.5 else self._memories(one, there=False)
        )
        self.room.calls("recall", query=one.key)
        self.room.returns("recall", self.room.recalled(one.key, hits))
        if there:
            self._says_from(hits, one)
        else:
            self.room.says(one.unknown)
        return Right()

    def note(self) -> Right:
        found = [fact(self.words)]
        if self.words.rng.random() < (TWOFOLD_TAUGHT if self.words.split == "train" else TWOFOLD):
            found += near(self.words, found[0], 1)
        said = " ".join(one.said for one in found)
        self.room.asks(self.request(NOTES, t=said))
        self.room.calls("write_notebook", append=f"- {said}", reason="asked to")
        before = len(self.room.notebook)
        self.room.notebook.append(f"- {said}")
        self.noted += found
        self._written(f"@@ -{before} +{before + 1} @@\n+- {said}")
        return Right()

    def correct(self) -> Right:
        text = "\n".join(self.room.notebook)
        # The tool asks for words that stand there once.
        fitting = [place for place, one in enumerate(self.noted) if text.count(one.value) == 1]
        if not fitting:
            return self.note()
        place = self.words.rng.choice(fitting)
        old = self.noted[place]
        new = again(self.words, old)
        self.room.asks(self.request(EDITS, o=old.value, n=new.value))
        self.room.calls("write_notebook", old=old.value, new=new.value, reason="asked to")
        line = next(line for line in self.room.notebook if old.value in line)
        changed = line.replace(old.value, new.value)
        self.room.notebook[self.room.notebook.index(line)] = changed
        self.noted[place] = replace(old, value=new.value, said=old.said.replace(old.value, new.value))
        self._written(f"-{line}\n+{changed}")
        return Right()

    def mount(self) -> Right:
        name = self.words.corpus()
        self.room.asks(self.request(MOUNTS, n=name))
        self.room.calls("mount_corpus", name=name)
        self._worn(name, f"Mounted {name}.")
        return Right()

    def index(self) -> Right:
        name, path = self.words.corpus(), self.words.folder()
        self.room.asks(self.request(INDEXES, n=name, p=path))
        self.room.calls("mount_corpus", path=path, name=name)
        self._worn(name, f"Indexed {path}: 12 files, 80 passages.\nMounted {name}.")
        return Right()

    def unmount(self) -> Right:
        name = self.room.mounted[0] if self.room.mounted else self.words.corpus()
        self.room.asks(self.request(UNMOUNTS, n=name))
        self.room.calls("mount_corpus", unmount=True, name=name)
        self.room.mounted, self.room.cards = (), ()
        self.room.returns("mount_corpus", f"Unmounted {name}. Mounted now: none.")
        self.room.says(f"I took {name} off.")
        return Right()

    def order(self) -> Right:
        task = self.work()
        self.room.asks(self.request(ORDERS, t=task))
        self.room.calls("invoke_agent", agent="hands", task=task)
        self.room.returns("invoke_agent", order_text(self._placed(task)))
        self.room.says("The order is out.")
        return Right()

    def _placed(self, task: str) -> Order:
        """The order as it would be kept, with the memories that are nearest to it."""
        rng = self.words.rng
        said = [fact(self.words).said for _ in range(rng.randint(0, NEAREST))]
        hits = [self.room.hit(one, chunk=rng.random() < 0.3) for one in said]
        near = [{"source": hit.citation, "score": hit.score, "prose": hit.prose} for hit in hits]
        last = self.room.hit("")
        return Order(
            id=last.id, task=task, constraints=(), context="", acceptance=tuple(criteria((), ())),
            embedding_state={"nearest": near}, budget={"rounds": ROUNDS, "minutes": MINUTES},
            state="open", client=self.room.client, session="s", created=START, agent="hands", why="",
        )  # fmt: skip

    def plan(self) -> Right:
        task = self.work()
        self.room.asks(self.request(PLANS, t=task))
        self.room.calls("invoke_agent", agent="architect", task=task)
        id = self.room.hit("").id
        self.room.returns("invoke_agent", f"Plan {id}: proposed. Drawn by architect.\nGoal: {task}\n1. [open] {task}")
        self.room.says("The plan is drawn.")
        return Right()

    def itself(self) -> Right:
        traits = {
            f"I {self.words.glue(2)} {self.words.babble(1)}."
            if self.words.wild()
            else self.pick(VIRTUES, p=self.words.person(), c="Lyon"): None
            for _ in range(self.words.rng.randint(1, 3))
        }
        text = " ".join(traits)  # each of them once
        self.room.asks(self.request(SELVES, t=text))
        if OTHER_TOOL in self.room.tools:
            self.room.calls(OTHER_TOOL, proposal=text, reason="asked to")
            self.room.returns(OTHER_TOOL, f"Pending: proposal {self.room.hit('').id}. A person decides.")
            self.room.says("The proposal is made; a person decides.")
        else:
            self.room.says(f"I propose: {text} A person or a client can put it forward.")
        return Right()

    def work(self) -> str:
        """A task for somebody with hands, of a sentence or two."""
        return " ".join(self._task() for _ in range(2 if self.words.rng.random() < TWOFOLD else 1))

    def _task(self) -> str:
        words, rng = self.words, self.words.rng
        return self.pick(
            WORK, a=words.glue(rng.randint(1, 3)), b=words.babble(rng.randint(1, 2)), file=words.file(),
            other=words.file(), n=str(rng.randint(2, 999)), s=words.name(), dir=words.folder(), t=words.of(TOPICS),
        )  # fmt: skip

    # -- pressure

    def rewrite(self) -> Right:
        """The window is full: the notebook is rewritten. What was told or noted stays, in whose words ever; small talk,
        requests and what memories said go."""
        lines = candidates("\n".join(self.room.notebook), self.room.said, REWRITE_BUDGET, _tokens)
        self.room.lines.append(Line("user", request(REWRITE_BUDGET, lines)))
        lasting = [line in self.room.notebook or any(self._tells(line, one) for one in self.told) for line in lines]
        self.room.says(answered(lasting) if lines else "- Nothing yet.")
        kept = tuple(line for line, keep in zip(lines, lasting, strict=True) if keep)
        return Right(keep=kept, drop=tuple(f"- {one}" for one in self.chatted), listed=tuple(lines))

    def _tells(self, line: str, one: Fact) -> bool:
        text = line.removeprefix("- ")
        return one.value in text and (text in one.said or text == f"{one.answer}.")

    # -- parts

    def _memories(self, one: Fact, there: bool) -> list[Hit]:
        rng = self.words.rng
        hits = self._near(one, rng.randint(1 if there else 0, 3), chunks=0.3)
        if rng.random() < 0.25:
            hits.append(self.room.hit(question(self.words, one)))
        if there and rng.random() < 0.25:  # it was asked for before, and the answer is a memory, too
            hits.append(self.room.hit(one.cited(self.room.hit("").citation)))
        if there:
            hits.append(self._shown(one, chunk=rng.random() < 0.3))
        hits += self.noise()
        rng.shuffle(hits)
        return hits

    def _shown(self, one: Fact, chunk: bool) -> Hit:
        hit = self.room.hit(one.said, chunk)
        # Of two values only one can be right; neither is asked for.
        if one.key in self.seen and self.seen[one.key][0].value != one.value:
            self.seen.pop(one.key)
        else:
            self.seen[one.key] = (one, hit)
        return hit

    def _near(self, one: Fact, count: int, chunks: float = 0.0) -> list[Hit]:
        """Memories that are easily taken for the one that is asked for; `chunks` is the share of corpora's passages."""
        rng = self.words.rng
        return [
            self._shown(other, chunk=bool(chunks) and rng.random() < chunks) for other in near(self.words, one, count)
        ]

    def noise(self) -> list[Hit]:
        """What else comes up: memories shown before, earlier questions and answers, acknowledgements, passages about
        something else."""
        if self.calm:
            return []
        rng = self.words.rng
        found: list[Hit] = []
        if self.seen and rng.random() < RECURRING:
            shown = [hit for _, hit in self.seen.values()]
            found += rng.sample(shown, min(len(shown), rng.randint(1, 3)))
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            other = fact(self.words)
            drawn = rng.random()
            if drawn < 0.25:
                found.append(self.room.hit(question(self.words, other)))
            elif drawn < 0.45:
                found.append(self.room.hit(NOTED))
            elif drawn < 0.6:
                found.append(self.room.hit(other.unknown))
            elif drawn < 0.75:
                found.append(self.room.hit(other.cited(self.room.hit("").citation)))
            else:
                found.append(self.room.hit(" ".join(prose(rng.randint(1, 4), rng.getrandbits(32))), chunk=True))
        if rng.random() < 0.12:  # something is mounted that has nothing to do with it
            found += [
                self.room.hit(passage(self.words, rng.randint(100, 700)), chunk=True) for _ in range(rng.randint(1, 3))
            ]
        return found

    def _says_from(self, hits: list[Hit], one: Fact) -> None:
        """Answers with the memory that holds it."""
        cited = next(hit for hit in hits if hit.prose == one.said)
        self.room.says(one.cited(cited.citation))

    def _inject(self, hits: list[Hit], one: Fact) -> str:
        values = [one.value, *(hit.prose for hit in hits)]
        lure = self.words.value("word")
        while any(lure in value or value in lure for value in values):
            lure = self.words.value("word")
        hits.insert(self.words.rng.randint(0, len(hits)), self.room.hit(self.pick(INJECTIONS, v=lure)))
        return lure

    def _written(self, change: str) -> None:
        self.room.rewritten()
        used = sum(len(line) for line in self.room.notebook) // 3
        self.room.returns(
            "write_notebook", f"Notebook version {self.room.version}: {used} of 2,048 tokens used.\n{change}"
        )
        self.room.says("It stands in my notebook.")

    def _worn(self, name: str, said: str) -> None:
        card = f"{name}: 12 files, 80 passages, from {self.words.folder()}\nindexed 2026-11-02 10:15"
        self.room.mounted, self.room.cards = (name,), (card,)
        self.room.returns("mount_corpus", f"{said}\n{card}")
        self.room.says(f"I wear {name} now.")


def _tokens(text: str) -> int:
    """About so many tokens; scenes do not know the tokenizer."""
    return round(len(text) / CHARACTERS)
