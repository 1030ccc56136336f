"""mount_corpus: puts on a corpus' outfit, so that recall and the Director draw on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from agents.outfit import card
from engine.errors import InvalidInput
from tools.caller import caller_of
from tools.check import words
from tools.contract import SETS, SoulTool
from tools.house import House

DESCRIPTION = """\
Put on a corpus (a body of text or code, indexed on its own): recall and the Soul then draw on it and cite it. \
Mounting one (or several: `a,b`) takes the former off. With `path` (a folder or file) it is indexed or refreshed \
first. With `unmount` it is taken off."""


def tool(house: House) -> SoulTool:
    """The tool, bound to its house."""

    async def mount_corpus(
        ctx: Context[Any, Any],
        *,
        unmount: Annotated[bool, Field(description="Take it off instead")] = False,
        path: Annotated[str, Field(max_length=4096, description="Folder or file to index first")] = "",
        name: Annotated[str, Field(max_length=1024, description="Name of the corpus")],
    ) -> str:
        memory = await house.memory.get()
        corpora = memory.corpora
        names = [one.strip() for one in words(name, "name").split(",")]
        if unmount:
            await corpora.unmount("director", *names)
            return (
                f"Unmounted {', '.join(names)}. Mounted now: {', '.join(await corpora.mounted('director')) or 'none'}."
            )
        lines: list[str] = []
        if path.strip():

            async def progress(done: int, total: int, what: str) -> None:
                if not caller_of(ctx).agent:
                    await ctx.report_progress(done, total, what)

            if len(names) > 1:
                raise InvalidInput("A path belongs to one corpus.", "Index each by itself, then mount `a,b`.")
            info = await corpora.add(names[0], Path(path.strip()), progress)
            lines.append(f"Indexed {info.path}: {info.files} files, {info.chunks} passages.")
        mounted = await corpora.mount("director", *names)
        lines.append(
            f"Mounted {', '.join(names)}."
            + (f" Unmounted: {', '.join(mounted.unmounted)}." if mounted.unmounted else "")
        )
        lines += [card(info) for info in mounted.infos]
        return "\n".join(lines)

    return SoulTool.make(
        house,
        mount_corpus,
        title="Mount a corpus",
        description=DESCRIPTION,
        annotations=SETS,
    )
