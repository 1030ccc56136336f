"""The commands on the parts of the house: corpora with progress, recall, the notebook, the person's word on the self.

Knows which part does what and what a person may do that a client may not; the doing is the part's. Importing this
module registers the commands with `server.control`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from engine.errors import InvalidInput
from server.control import Command, command, plain

if TYPE_CHECKING:
    from memory.memory import Memory


async def memory_of(given: Command) -> Memory:
    """The memory, waiting for it as long as a person would."""
    return await given.part(given.serving.house.memory)


@command("survey")
async def survey(given: Command) -> Any:
    """Everything the `status` tool knows."""
    from tools.status import survey as survey_house

    return await survey_house(given.serving.house)


@command("corpus.add")
async def corpus_add(given: Command) -> Any:
    """Indexes a folder or file, or refreshes it; a person at the keyboard may name any."""
    memory = await memory_of(given)
    return await memory.corpora.add(
        given.text("name"),
        Path(given.text("path")),
        _progress(given),
        anywhere=True,
        language=given.arguments.get("language"),
    )


def _progress(given: Command) -> Callable[[int, int, str], Awaitable[None]]:
    async def progress(done: int, total: int, what: str) -> None:
        await given.progress(what, done / total if total else None)

    return progress


@command("corpus.refresh")
async def corpus_refresh(given: Command) -> Any:
    """Indexes again what changed."""
    memory = await memory_of(given)
    return await memory.corpora.refresh(given.text("name"), _progress(given))


@command("corpus.remove")
async def corpus_remove(given: Command) -> Any:
    """Forgets a corpus; the files themselves stay."""
    memory = await memory_of(given)
    await memory.corpora.remove(given.text("name"))
    return {"removed": given.text("name")}


@command("corpus.export")
async def corpus_export(given: Command) -> Any:
    """Writes a corpus with its vectors to one file."""
    memory = await memory_of(given)
    return await memory.parcels.export(given.text("name"), Path(given.text("path")))


@command("corpus.import")
async def corpus_import(given: Command) -> Any:
    """Makes a corpus of such a file."""
    memory = await memory_of(given)
    return await memory.parcels.take(Path(given.text("path")), str(given.arguments.get("name") or ""))


@command("corpus.mount")
async def corpus_mount(given: Command) -> Any:
    """Puts corpora on the Director, in place of what it wears."""
    memory = await memory_of(given)
    return await memory.corpora.mount("director", *_names(given))


@command("corpus.unmount")
async def corpus_unmount(given: Command) -> Any:
    """Takes corpora off the Director."""
    memory = await memory_of(given)
    await memory.corpora.unmount("director", *_names(given))
    return {"mounted": list(await memory.corpora.mounted("director"))}


def _names(given: Command) -> list[str]:
    names = given.arguments.get("names")
    if not isinstance(names, list) or not names:
        raise InvalidInput("This command needs `names`.", "`soul corpus list` shows them.")
    return [str(name) for name in cast("list[object]", names)]


@command("corpus.list")
async def corpus_list(given: Command) -> Any:
    """All corpora and which of them the Director wears."""
    memory = await memory_of(given)
    mounted = await memory.corpora.mounted("director")
    return {
        "corpora": plain(await memory.corpora.list()),
        "mounted": list(mounted),
        "followed": memory.watching.state,
    }


@command("recall")
async def recall(given: Command) -> Any:
    """Searches as the tool does, for a person."""
    memory = await memory_of(given)
    from memory.recall import Query

    query = Query(
        text=given.text("query"),
        k=int(given.arguments.get("k", 8)),
        corpus=given.arguments.get("corpus"),
        since=time_of(given.arguments.get("since")),
        until=time_of(given.arguments.get("until")),
        vectors=bool(given.arguments.get("vectors")),
        private=bool(given.arguments.get("private")),
    )
    return list(await memory.recall.search(query))


def time_of(text: str | None) -> datetime | None:
    """A time as a person writes it; without a zone it is local."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise InvalidInput(f"{text!r} is not a time.", "Write it like 2026-11-21 or 2026-11-21T10:00.") from None


@command("notebook.show")
async def notebook_show(given: Command) -> Any:
    """The notebook as it stands, or one version of it."""
    memory = await memory_of(given)
    version = given.arguments.get("version")
    return await (memory.notebook.current() if version is None else memory.notebook.get(int(version)))


@command("notebook.history")
async def notebook_history(given: Command) -> Any:
    """Versions of the notebook, newest first."""
    memory = await memory_of(given)
    return await memory.notebook.history()


@command("self.show")
async def self_show(given: Command) -> Any:
    """The self in force or one version of it, and the proposals that wait, each with its diff."""
    memory = await memory_of(given)
    from memory.selves import diff

    version = given.arguments.get("version")
    current = await memory.selves.current()
    return {
        "self": plain(current if version is None else await memory.selves.get(int(version))),
        "pending": [
            {**plain(one), "diff": diff(current.content, one.content, f"version {current.version}", str(one.id))}
            for one in await memory.selves.pending()
        ],
    }


@command("self.history")
async def self_history(given: Command) -> Any:
    """Versions of the self, newest first."""
    memory = await memory_of(given)
    return await memory.selves.history()


@command("self.decide")
async def self_decide(given: Command) -> Any:
    """The person's word on a proposal; it stands above the Director's."""
    try:
        proposal = UUID(given.text("proposal"))
    except ValueError:
        raise InvalidInput(
            f"{given.text('proposal')!r} is not the id of a proposal.", "`soul self show` lists the pending ones."
        ) from None
    memory = await memory_of(given)
    why = str(given.arguments.get("why") or "the person decided")
    return await memory.selves.decide(proposal, given.arguments.get("ratify") is True, why, "person")


@command("self.rollback")
async def self_rollback(given: Command) -> Any:
    """Brings an old self back into force, as a new version."""
    memory = await memory_of(given)
    version = given.arguments.get("version")
    if not isinstance(version, int):
        raise InvalidInput("This command needs `version`.", "`soul self history` lists the versions.")
    return await memory.selves.rollback(version, "person")
