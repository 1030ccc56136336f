"""write_notebook: the Soul's short, lasting notes, every version kept."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from engine.errors import InvalidInput
from tools.caller import caller_of
from tools.check import words
from tools.contract import ADDS, SoulTool, remembered
from tools.house import House

DESCRIPTION = """\
Write the Soul's notebook (about 2,000 tokens it always has in view): decisions, names, numbers, preferences, open \
questions. Give exactly one of: `content` (replaces all), `append` (adds lines), or `old` + `new` (edits one passage). \
Every version is kept."""


def tool(house: House) -> SoulTool:
    """The tool, bound to its house."""

    async def write_notebook(
        ctx: Context[Any, Any],
        *,
        content: Annotated[str | None, Field(max_length=40_000)] = None,
        append: Annotated[str | None, Field(max_length=40_000)] = None,
        old: Annotated[
            str | None, Field(max_length=40_000, description="Passage that stands there exactly once")
        ] = None,
        new: Annotated[str | None, Field(max_length=40_000)] = None,
        reason: Annotated[str, Field(max_length=500, description="Why, in a few words")],
    ) -> str:
        from memory import notebook as pages
        from memory.selves import diff
        from memory.text import cleaned

        given = [name for name, value in (("content", content), ("append", append), ("old", old)) if value is not None]
        if len(given) != 1 or (old is None) != (new is None):
            raise InvalidInput("Exactly one way of writing is needed.", "Give content, or append, or both old and new.")
        why = words(reason, "reason")
        if content is not None:
            written = cleaned(content)
            change = pages.replace(written)
        elif append is not None:
            written = words(append, "append")
            change = pages.append(written)
        else:
            assert old is not None and new is not None
            if not old:
                raise InvalidInput("`old` is empty.", "Give the passage to replace, or use `append`.")
            written = cleaned(new)
            change = pages.edit(old, written)
        memory = await house.memory.get()
        caller = caller_of(ctx)
        author = caller.agent or caller.client
        before, after = await memory.notebook.write(change, why, author, house.count_tokens)
        if written.strip():
            # What was noted must be found when the notebook has long forgotten it.
            noted = [remembered("note", written, caller, f"notebook version {after.version}")]
            await memory.packets.write(noted)
        counted = "" if house.engine.peek() else " (estimated: the model is not loaded)"
        return (
            f"Notebook version {after.version}: {after.tokens:,} of {memory.notebook.budget:,} tokens used{counted}.\n"
            + diff(before.content, after.content, f"version {before.version}", f"version {after.version}")
        )

    return SoulTool.make(
        house,
        write_notebook,
        title="Write the notebook",
        description=DESCRIPTION,
        annotations=ADDS,
    )
