"""Fixture tools that need input from the client, in rounds, as the 2026-07-28 revision has it (SEP-2322)."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)

Ctx = Context[Any, Any]
FIXTURE = "A fixture of the conformance suite."
Rounds = str | InputRequiredResult


def add_rounds(server: MCPServer[Any]) -> None:
    """Adds the tools and the prompt."""
    _add_single(server)
    _add_stateful(server)
    _add_others(server)


def form(message: str, name: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str, max_tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def answer(ctx: Ctx, key: str) -> Any:
    return (ctx.input_responses or {}).get(key)


def asking(state: str | None = None, **requests: Any) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def filled(given: Any, name: str) -> Any:
    content = getattr(given, "content", None)
    return content.get(name) if isinstance(content, dict) else None


def _add_single(server: MCPServer[Any]) -> None:
    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_elicitation(ctx: Ctx) -> Rounds:
        name = filled(answer(ctx, "user_name"), "name")
        return f"Hello, {name}!" if name else asking(user_name=form("What is your name?", "name"))

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_sampling(ctx: Ctx) -> Rounds:
        given = answer(ctx, "capital_question")
        if given is None:
            return asking(capital_question=sample("What is the capital of France?", 100))
        return str(getattr(given.content, "text", given.content))

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_list_roots(ctx: Ctx) -> Rounds:
        given = answer(ctx, "client_roots")
        if given is None:
            return asking(client_roots=ListRootsRequest())
        return "Roots: " + ", ".join(str(root.uri) for root in given.roots)

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_streaming_elicitation(ctx: Ctx) -> Rounds:
        await ctx.report_progress(1, 2, "about to ask")
        given = answer(ctx, "confirm")
        return "Confirmed." if given is not None else asking(confirm=form("Go on?", "ok", "boolean"))


def _add_stateful(server: MCPServer[Any]) -> None:
    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_request_state(ctx: Ctx) -> Rounds:
        if answer(ctx, "confirm") is None or ctx.request_state != "asked":
            return asking("asked", confirm=form("Please confirm", "ok", "boolean"))
        return "state-ok"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_tampered_state(ctx: Ctx) -> Rounds:
        if answer(ctx, "confirm") is None or ctx.request_state != "asked":
            return asking("asked", confirm=form("Please confirm", "ok", "boolean"))
        return "The state came back as it was."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Rounds:
        wanted = ("user_name", "greeting", "client_roots")
        if any(answer(ctx, key) is None for key in wanted):
            return asking(
                "all three",
                user_name=form("What is your name?", "name"),
                greeting=sample("Generate a greeting", 50),
                client_roots=ListRootsRequest(),
            )
        return "All three were answered."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_multi_round(ctx: Ctx) -> Rounds:
        state = ctx.request_state or ""
        if state.startswith("name:") and answer(ctx, "step2") is not None:
            return f"{state[5:]} likes {filled(answer(ctx, 'step2'), 'color')}."
        if state == "start" and answer(ctx, "step1") is not None:
            name = filled(answer(ctx, "step1"), "name")
            return asking(f"name:{name}", step2=form("Step 2: What is your favorite color?", "color"))
        return asking("start", step1=form("Step 1: What is your name?", "name"))


def _add_others(server: MCPServer[Any]) -> None:
    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_capabilities(ctx: Ctx) -> Rounds:
        can = ctx.client_capabilities
        requests: dict[str, Any] = {}
        if can is not None and can.elicitation is not None:
            requests["user_name"] = form("What is your name?", "name")
        if can is not None and can.sampling is not None:
            requests["greeting"] = sample("Generate a greeting", 50)
        if not requests or all(answer(ctx, key) is not None for key in requests):
            return "Nothing more to ask."
        return asking(**requests)

    @server.prompt(description=FIXTURE)
    async def test_input_required_result_prompt(ctx: Ctx) -> Any:
        context = filled(answer(ctx, "user_context"), "context")
        if context is None:
            return asking(user_context=form("What context should the prompt use?", "context"))
        return f"Use this context: {context}"
