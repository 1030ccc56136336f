"""The main job, run as a new user would: a fresh home, the real `soul` command, a real MCP client over stdio.

Prints every step with its time, checks what must hold, and ends with the lines that connect Claude Code and Desktop.
Exit status 0 only if every check held.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import evolving
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent
from planning import plan
from rich.console import Console
from rich.table import Table
from talking import QUESTION, remembers, talk

ROOT = Path(__file__).resolve().parent.parent
SOUL = Path(sys.executable).parent / "soul"
CONTEXT = 4096
"""Small, so that a window is soon full."""
FACTS = (
    "We decided that the archive moves to Lyon on 2027-03-01.",
    "Ada prefers the blue binding; the printer is called Otto Kern.",
    "The budget is 4,200 euros, and the deadline is Friday, 2026-12-18.",
    "Remember that the keys are with Mr Brandt, never with the caretaker.",
    "It was agreed to scan all 318 letters before anything is packed.",
    "The insurance must be signed until 2027-01-15; it is still open who signs.",
)
MATERIAL = 800
"""Characters that come with each of them, to be read once."""
console = Console(width=118, highlight=False)


@dataclass
class Demo:
    """One run: where it lives, and what has been done so far."""

    home: Path
    rows: list[tuple[str, str, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "SOUL_HOME": str(self.home),
            "SOUL_DOWNLOAD": "false",
            "SOUL_CONTEXT_TOKENS": str(CONTEXT),
        }

    def soul(self, *arguments: str, **more: str) -> str:
        """Runs one `soul` command of the person, with `more` in its environment; its output."""
        environment = {**self.environment, **more}
        done = subprocess.run([SOUL, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"soul {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def note(self, step: str, what: str, seconds: float) -> None:
        self.rows.append((step, what, seconds))
        console.print(f"[green]✓[/green] {step:<34} {what} [dim]{seconds:.2f} s[/dim]")

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.failed.append(what)
            console.print(f"[red]✗ {what}[/red]")


def text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def sources(answer: str) -> list[str]:
    return re.findall(r" \[([^\[\]\n]+)\]\n   score ", answer)


def first_token(answer: str) -> tuple[int, str]:
    """(tokens that were there already, the time to the first token and how many were computed for it, in words)."""
    found = re.findall(r"([\d,]+) tokens read and ([\d,]+) cached", answer)[0]
    read, cached = (int(one.replace(",", "")) for one in found)
    seconds = (re.findall(r"first token after ([\d.]+) s", answer) or ["?"])[0]
    return cached, f"first token after {seconds} s and {read - cached:,} tokens"


def clip(words: str, length: int = 64) -> str:
    line = " ".join(words.split())
    return line if len(line) <= length else line[: length - 1] + "…"


async def before(demo: Demo, client: Client, call: Callable[..., Any]) -> dict[str, str]:
    """Everything up to the kill; what must be there afterwards."""
    answer, seconds = await call(client, "mount_corpus", name="docs")
    demo.note("mount docs", clip(answer.splitlines()[0]), seconds)

    answer, seconds = await call(client, "recall", query="how does one daemon serve many windows", k=3)
    demo.note("recall with sources", clip(", ".join(sources(answer))), seconds)
    demo.check(any(source.startswith("docs:") for source in sources(answer)), "recall cites the mounted docs")

    answer, seconds = await call(client, "mount_corpus", name="code")
    demo.note("mount code", clip(answer.splitlines()[0]), seconds)
    demo.check("Unmounted: docs" in answer, "mounting code takes docs off")

    answer, seconds = await call(client, "recall", query="how does one daemon serve many windows", k=3)
    found = sources(answer)
    demo.note("recall again", clip(", ".join(found)), seconds)
    demo.check(
        any(source.startswith("code:") for source in found) and not any(source.startswith("docs:") for source in found),
        "only the mounted corpus is in view",
    )

    note = "Decision: the schema keeps packets partitioned by corpus."
    answer, seconds = await call(client, "write_notebook", append=note, reason="decided in the demo")
    demo.note("write the notebook", clip(answer.splitlines()[0]), seconds)

    heard: list[str] = []

    async def progress(done: float, _total: float | None, message: str | None) -> None:
        heard.append(f"{done:.0f} {message or ''}")

    answer, seconds = await call(
        client, "invoke_agent", progress, task="What did we decide about the schema?", wait_s=120
    )
    demo.note(
        "invoke the Director",
        f"{len(heard)} progress messages; {clip(answer.splitlines()[-1].strip('()').split(': ')[-1], 40)}",
        seconds,
    )
    console.print(f"    {clip(answer, 200)}", style="dim", markup=False)
    demo.check(len(heard) >= 3, "tokens arrive as progress")

    order, seconds = await call(
        client,
        "invoke_agent",
        agent="hands",
        task="Count the Python files of the engine",
        constraints=["read only"],
    )
    id = re.findall(r"Work order ([0-9a-f-]{36})", order)[0]
    demo.note("work order for the Hands", f"order {id[:8]}…", seconds)

    count = len(list((ROOT / "engine").rglob("*.py")))
    outcome = f"Counted with a directory walk, changing nothing: {count} Python files under engine/."
    answer, seconds = await call(client, "report_outcome", work_order=id, outcome=outcome)
    demo.note("report the outcome, see the review", clip(answer), seconds)
    if "A person decides" in answer:
        started = time.monotonic()
        said = demo.soul("order", "review", id, "accept")
        demo.note("the person reviews", clip(said), time.monotonic() - started)

    proposal = (await client.read_resource("soul://self")).contents[0].text.split("\n\n", 1)[1]  # type: ignore[union-attr]
    proposal += "\nI prefer short sentences."
    answer, seconds = await call(client, "rewrite_self", proposal=proposal, reason="asked for short sentences")
    demo.note("propose a self", clip(answer.splitlines()[0]), seconds)
    pending = re.findall(r"soul self approve ([0-9a-f-]{36})", answer)
    if pending:
        started = time.monotonic()
        said = demo.soul("self", "approve", pending[0])
        demo.note("the person approves it", clip(said), time.monotonic() - started)
    return {"note": note, "order": id, "self": "I prefer short sentences."}


async def after(demo: Demo, client: Client, call: Callable[..., Any], kept: dict[str, str]) -> None:
    """What was answered before the kill must be there."""
    answer, seconds = await call(client, "recall", query="Count the Python files of the engine", k=5, kind="order")
    demo.note("recall after the kill", clip(", ".join(sources(answer))), seconds)
    demo.check("Count the Python files" in answer, "the work order is remembered")
    started = time.monotonic()
    notebook = (await client.read_resource("soul://notebook")).contents[0].text  # type: ignore[union-attr]
    self_now = (await client.read_resource("soul://self")).contents[0].text  # type: ignore[union-attr]
    order = json.loads((await client.read_resource(f"soul://orders/{kept['order']}")).contents[0].text)  # type: ignore[union-attr]
    survey = json.loads((await client.read_resource("soul://status")).contents[0].text)  # type: ignore[union-attr]
    demo.note("notebook, self, order, mount", f"all read, order {order['state']}", time.monotonic() - started)
    demo.check(kept["note"] in notebook, "the notebook is there")
    demo.check(kept["self"] in self_now, "the new self is there")
    demo.check(order["state"] in ("accepted", "revise", "rejected"), "the reviewed order is there")
    demo.check(survey["memory"]["mounted"] == ["code"], "the mount is there")


async def goes_on(demo: Demo, client: Client, call: Callable[..., Any], cold: str) -> None:
    """What the Director had read before the kill is not read again; `cold` is its first answer of all."""
    answer, seconds = await call(client, "invoke_agent", task=QUESTION, wait_s=120)
    cached, resumed = first_token(answer)
    found = json.loads(demo.soul("agents", "--json"))
    kb = sum(one["disk_bytes"] for one in found["agents"]) / 1e3
    demo.note(
        "the Director goes on from disk",
        f"{cached:,} tokens not read again, {kb:,.0f} kB on disk; {resumed} (cold: {first_token(cold)[1]})",
        seconds,
    )
    demo.check(cached > 0, "the Director's context outlived the kill")


async def killed(demo: Demo, client: Client) -> None:
    """Kills the daemon and calls again."""
    survey = json.loads(demo.soul("status", "--json"))
    os.kill(survey["pid"], signal.SIGKILL)
    started = time.monotonic()
    try:
        await client.call_tool("status", {}, read_timeout_seconds=300)
    except MCPError as error:
        # A request that was under way when the daemon died gets one clear error; the next one starts a new daemon.
        console.print(f"    [dim]{clip(str(error), 300)}[/dim]")
        await client.call_tool("status", {}, read_timeout_seconds=300)
    demo.note(
        "kill -9 the daemon, call again",
        f"daemon {survey['pid']} killed, a new one answered",
        time.monotonic() - started,
    )


async def pressure(demo: Demo, client: Client, call: Callable[..., Any]) -> None:
    """Fills the window until it is let go, and shows what was kept of it."""
    console.print(f"\n    Now the window of {CONTEXT:,} tokens is filled until the pressure comes.", style="dim")
    material = (ROOT / "docs" / "kv-caches.md").read_text()
    heard: list[str] = []

    async def progress(_done: float, _total: float | None, message: str | None) -> None:
        if message and message.startswith("letting go") and message not in heard:
            heard.append(message)

    within: list[str] = []  # what was told since the window was last let go
    gone: list[str] = []
    answer = ""
    for number, fact in enumerate(FACTS):
        share = material[number * MATERIAL : (number + 1) * MATERIAL]
        heard.clear()
        answer, seconds = await call(client, "invoke_agent", progress, task=fact, context=share, wait_s=120)
        seen = json.loads(demo.soul("window", "--json"))
        filled = round(30 * seen["tokens"] / seen["context_tokens"])
        bar = "█" * filled + "·" * (30 - filled)
        came = ", after the window was let go" if heard else ""
        demo.note(f"tell it, {number + 1} of at most {len(FACTS)}", f"{bar} {seen['tokens']:,} tokens{came}", seconds)
        if heard and within:
            gone = within
            break
        within = [fact] if heard else [*within, fact]
    if not gone:
        demo.check(False, "the pressure came")
        return
    for stage in heard:
        console.print(f"    {clip(stage, 110)}", style="dim", markup=False)
    words = [line for line in answer.splitlines() if "window was let go" in line]
    console.print(f"    {clip(' '.join(words), 400)}", style="dim", markup=False)
    notebook = demo.soul("notebook", "show")
    kept = [fact for fact in gone if fact in notebook]
    demo.note("what the notebook kept", f"{len(kept)} of {len(gone)} things told, word for word", 0.0)
    for line in notebook.splitlines():
        console.print(f"    │ {clip(line, 106)}", style="cyan", markup=False)
    demo.check(bool(kept), "the notebook keeps what was told")
    answer, seconds = await call(client, "recall", query=gone[0], k=2, kind="said")
    demo.note("and what left the window", clip(", ".join(sources(answer))), seconds)
    demo.check(gone[0] in answer, "what left the window is in memory")


async def run(demo: Demo) -> None:
    async def call(client: Client, name: str, progress: Any = None, /, **arguments: Any) -> tuple[str, float]:
        started = time.monotonic()
        result = await client.call_tool(name, arguments, progress_callback=progress, read_timeout_seconds=300)
        seconds = time.monotonic() - started
        if result.is_error:
            raise RuntimeError(f"{name}: {text(result)}")
        return text(result), seconds

    started = time.monotonic()
    said = demo.soul("corpus", "add", "docs", str(ROOT / "docs"))
    demo.note("index the docs (starts the daemon)", clip(said.splitlines()[0]), time.monotonic() - started)
    started = time.monotonic()
    said = demo.soul("corpus", "add", "code", str(ROOT / "engine"))
    demo.note("index the engine's code", clip(said.splitlines()[0]), time.monotonic() - started)

    parameters = StdioServerParameters(command=str(SOUL), args=["serve"], env=demo.environment)
    started = time.monotonic()
    async with Client(parameters, mode="legacy", read_timeout_seconds=300) as client:
        demo.note("connect through the bridge", "initialize answered by the warm daemon", time.monotonic() - started)
        cold = await talk(demo, client, call)
        await killed(demo, client)
        await goes_on(demo, client, call, cold)
        await remembers(demo, client, call, "ask again after the kill")
        kept = await before(demo, client, call)
        await killed(demo, client)
        await after(demo, client, call, kept)
        await plan(demo, client, call, clip)
        await pressure(demo, client, call)


def main() -> int:
    """Runs the demo in a temporary home, which is removed with its daemon at the end."""
    with tempfile.TemporaryDirectory(prefix="soul-demo-") as folder:
        demo = Demo(Path(folder) / "home")
        console.print(f"Soul demo: home {demo.home}\n")
        started = time.monotonic()
        try:
            anyio.run(run, demo)
        finally:
            subprocess.run([SOUL, "stop"], env=demo.environment, capture_output=True, timeout=60, check=False)
        learned = Demo(Path(folder) / "learning")
        evolving.shown(learned)
        demo.rows += learned.rows
        demo.failed += learned.failed
        total = time.monotonic() - started
    table = Table(title="What the demo did", title_justify="left")
    table.add_column("step")
    table.add_column("what came of it", overflow="fold")
    table.add_column("seconds", justify="right")
    for step, what, seconds in demo.rows:
        table.add_row(step, what, f"{seconds:.2f}")
    console.print()
    console.print(table)
    console.print(f"\n{len(demo.rows)} steps in {total:.1f} s.")
    if demo.failed:
        console.print(f"[red]{len(demo.failed)} checks failed: {'; '.join(demo.failed)}[/red]")
        return 1
    console.print("\nConnect Claude Code:")
    console.print(f"  claude mcp add soul -- {SOUL} serve", soft_wrap=True)
    console.print("Connect Claude Desktop (claude_desktop_config.json):")
    console.out(demo_config(), highlight=False)
    return 0


def demo_config() -> str:
    return subprocess.run([SOUL, "mcp-json"], capture_output=True, text=True, timeout=60, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
