"""The tools' contract with a client: names, schemas, annotations, and an error in words for every misuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from engine.errors import InvalidInput
from engine.seedling.weights import tokenizer_bytes
from tests.tools.conftest import Call
from tools.house import House
from tools.registry import TOOLSETS, create_server

pytestmark = pytest.mark.anyio

ID = "01a1fbd9-3180-7df2-9d79-ec37928f0db1"


async def test_seven_tools_are_offered_each_described_and_annotated(client: Client) -> None:
    tools = (await client.list_tools()).tools
    assert {tool.name for tool in tools} == {
        "mount_corpus",
        "recall",
        "write_notebook",
        "invoke_agent",
        "rewrite_self",
        "report_outcome",
        "status",
    }
    for tool in tools:
        assert tool.description
        assert tool.title
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is not None
        assert tool.output_schema is None


async def test_all_schemas_together_stay_small(client: Client) -> None:
    from tokenizers import Tokenizer

    listed = [
        tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in (await client.list_tools()).tools
    ]
    # The seedling's small vocabulary makes about a third more tokens of JSON than the common large ones.
    tokens = len(Tokenizer.from_str(tokenizer_bytes().decode()).encode(json.dumps(listed, separators=(",", ":"))).ids)
    assert tokens <= 2_640
    assert len(json.dumps(listed, separators=(",", ":"))) <= 6_300


MISUSES: list[tuple[str, dict[str, Any], str]] = [
    ("recall", {"query": ""}, "`query` is empty"),
    ("recall", {"query": "\x00\x01 "}, "`query` is empty"),
    ("recall", {"query": "x" * 1_000_000}, "`query`: String should have at most 2000 characters"),
    ("recall", {"query": "half a \ud800 character"}, "`query`: Input should be a valid string"),
    ("recall", {}, "`query` is missing"),
    ("recall", {"query": "x", "bogus": 1}, "`bogus` is not an argument of recall"),
    ("recall", {"query": "x", "k": 51}, "`k`: Input should be less than or equal to 50"),
    ("recall", {"query": "x", "kind": "dream"}, "`kind`"),
    ("recall", {"query": "x", "since": "yesterday"}, "`since` is not a date or time"),
    ("recall", {"query": "x", "since": "2026-02-02", "until": "2026-01-01"}, "`since` is not before `until`"),
    ("recall", {"query": "x", "corpus": "nowhere"}, "There is no corpus 'nowhere'"),
    ("mount_corpus", {"name": "nowhere"}, "nowhere"),
    ("mount_corpus", {"name": "../etc"}, "../etc"),
    ("mount_corpus", {"name": "a,b", "path": "/etc"}, "A path belongs to one corpus"),
    ("mount_corpus", {"name": "etc", "path": "/etc"}, "/etc"),
    ("mount_corpus", {"name": "gone", "unmount": True}, "gone"),
    ("write_notebook", {"reason": "r"}, "Exactly one way of writing is needed"),
    ("write_notebook", {"reason": "r", "content": "a", "append": "b"}, "Exactly one way of writing"),
    ("write_notebook", {"reason": "r", "old": "a"}, "Exactly one way of writing"),
    ("write_notebook", {"reason": "r", "old": "", "new": "x"}, "`old` is empty"),
    ("write_notebook", {"reason": "r", "old": "absent", "new": "x"}, "stands nowhere"),
    ("write_notebook", {"reason": " ", "append": "x"}, "`reason` is empty"),
    ("write_notebook", {"reason": "r", "content": "words of many kinds " * 1800}, "its budget is 2,048"),
    ("invoke_agent", {}, "Either a task or a job is needed"),
    ("invoke_agent", {"task": "x", "job": ID}, "Either a task or a job is needed"),
    ("invoke_agent", {"task": "x", "agent": "butler"}, "There is no agent 'butler'. Agents: director, hands."),
    ("invoke_agent", {"job": "17"}, "`job` is not an id"),
    ("invoke_agent", {"job": ID}, f"There is no job {ID}"),
    ("invoke_agent", {"task": "x", "wait_s": 1e9}, "`wait_s`"),
    ("invoke_agent", {"task": "x", "constraints": "not a list"}, "`constraints`"),
    ("report_outcome", {"work_order": "17", "outcome": "done"}, "`work_order` is not an id"),
    ("report_outcome", {"work_order": ID, "outcome": "done"}, f"There is no work order {ID}"),
    ("report_outcome", {"work_order": ID, "outcome": "\n"}, "`outcome` is empty"),
    ("rewrite_self", {"proposal": "", "reason": "r"}, "`proposal` is empty"),
    ("rewrite_self", {"proposal": "x", "reason": "r", "base_version": 9}, "base_version 9 is stale"),
    ("rewrite_self", {"proposal": "be " * 3000, "reason": "r"}, "a self has at most 1,024"),
    ("status", {"verbose": True}, "`verbose` is not an argument of status"),
]


async def test_each_misuse_gets_a_fact_and_a_remedy(call: Call) -> None:
    for tool, arguments, says in MISUSES:
        words = await call(tool, error=True, **arguments)
        assert says in words, (tool, arguments)
        assert "Traceback" not in words
        assert not words.startswith("Error executing tool")


async def test_control_characters_are_dropped_and_the_rest_is_kept(call: Call) -> None:
    await call("write_notebook", append="caf\u00e9 \x1b[31mred\x00 end", reason="odd \x07 bytes")
    assert "café [31mred end" in await call("recall", query="café red")


async def test_read_only_offers_only_what_changes_nothing(house: House) -> None:
    async with Client(create_server(house, version="t", read_only=True)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"recall", "status"}
        result = await client.call_tool("write_notebook", {"append": "x", "reason": "r"})
        assert result.is_error


async def test_toolsets_narrow_what_is_offered_and_unknown_ones_are_named(house: House) -> None:
    async with Client(create_server(house, version="t", toolsets=frozenset({"self"}))) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["rewrite_self"]
    with pytest.raises(InvalidInput, match="Unknown toolsets: magic"):
        create_server(house, version="t", toolsets=frozenset({"magic"}))


def test_the_settings_know_the_same_toolsets() -> None:
    from server.settings import TOOLSETS as named

    assert set(named) == set(TOOLSETS)


def test_the_tools_are_light_to_import() -> None:
    import subprocess
    import sys

    heavy = "('mlx', 'mlx.core', 'numpy', 'asyncpg', 'transformers', 'torch')"
    code = f"import tools.registry, sys; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
