"""A context can be carried to another home; garbage and half an import leave nothing behind."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from engine.errors import InvalidInput, Unavailable
from tests.kv.turns import files_below, opened, prompt, say

pytestmark = pytest.mark.anyio


async def test_an_exported_context_goes_on_elsewhere_and_a_spoilt_one_is_refused(
    tmp_path: Path, drawn_folder: Path
) -> None:
    carried = tmp_path / "carried"
    async with opened(tmp_path / "one", drawn_folder) as engine:
        await say(engine, "a", prompt(1, 600))
        assert await engine.saved("a")
        await engine.store.export("a", carried)
        wanted = (await say(engine, "a", prompt(2, 20))).ids
    async with opened(tmp_path / "two", drawn_folder) as engine:
        for path in files_below(carried):
            spoilt = tmp_path / f"spoilt-{path.name}"
            shutil.copytree(carried, spoilt)
            target = spoilt / path.relative_to(carried)
            content = bytearray(target.read_bytes())
            content[len(content) // 2] ^= 1
            target.write_bytes(content)
            with pytest.raises(InvalidInput):
                await engine.store.adopt(spoilt, "b")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(Unavailable):
                await engine.store.adopt(carried, "b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not files_below(tmp_path / "two" / "kv")
        assert await engine.store.adopt(carried, "b") == "b"
        reply = await say(engine, "b", prompt(2, 20))
        assert reply.ids == wanted and reply.cached_tokens == 607
