"""mount_corpus: puts on a corpus' outfit, so that recall and the Director draw on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from agents.outfit import card
from tools.caller import caller_of
from tools.check import words
from tools.contract import SETS, SoulTool
from tools.house import House

DESCRIPTION = """\
Put on a corpus (a body of text or code, indexed on its own): recall and the Soul then draw on it and cite it. \
Mounting one takes the former off. With `path` (a folder or file) it is indexed or refreshed first. With `unmount` it \
is taken off."""


def tool(house: House) -> SoulTool:
    """The tool, bound to its house."""

    async def mount_corpus(
        name: Annotated[str, Field(max_length=64, description="Name of the corpus")],
        ctx: Context[Any, Any],
        path: Annotated[str, Field(max_length=4096, description="Folder or file to index first")] = "",
        unmount: Annotated[bool, Field(description="Take it off instead")] = False,
    ) -> str:
        memory = await house.memory.get()
        corpora = memory.corpora
        name = words(name, "name")
        if unmount:
            await corpora.unmount("director", name)
            return f"Unmounted {name}. Mounted now: {', '.join(await corpora.mounted('director')) or 'none'}."
        lines: list[str] = []
        if path.strip():

            async def progress(done: int, total: int, what: str) -> None:
                if not caller_of(ctx).agent:
                    await ctx.report_progress(done, total, what)

            info = await corpora.add(name, Path(path.strip()), progress)
            lines.append(f"Indexed {info.path}: {info.files} files, {info.chunks} passages.")
        mounted = await corpora.mount("director", name)
        lines.append(f"Mounted {name}." + (f" Unmounted: {', '.join(mounted.unmounted)}." if mounted.unmounted else ""))
        lines.append(card(mounted.info))
        return "\n".join(lines)

    return SoulTool.make(
        house,
        mount_corpus,
        title="Mount a corpus",
        description=DESCRIPTION,
        annotations=SETS,
    )
