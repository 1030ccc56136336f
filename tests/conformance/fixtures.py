"""What the conformance suite wants to find on a server under test, added to Soul's own tools; never shipped.

The names, texts and shapes are the suite's. Tools of `rounds.py` are those that ask the client for input.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(
    b"RIFF\x26\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
    b"data\x02\x00\x00\x00\x00\x00"
).decode()

Ctx = Context[Any, Any]
FIXTURE = "A fixture of the conformance suite."


def add_fixtures(server: MCPServer[Any]) -> None:
    """Adds everything the suite asks of both protocol revisions."""
    from rounds import add_rounds  # beside this file, which is no package

    _add_content_tools(server)
    _add_talking_tools(server)
    _add_asking_tools(server)
    _add_probes(server)
    _add_resources(server)
    _add_prompts(server)
    _add_requests(server)
    add_rounds(server)


def _add_content_tools(server: MCPServer[Any]) -> None:
    image = ImageContent(type="image", data=PIXEL, mime_type="image/png")

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_image_content() -> list[ImageContent]:
        return [image]

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_audio_content() -> list[AudioContent]:
        return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_embedded_resource() -> list[EmbeddedResource]:
        return [_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        data = json.dumps({"test": "data", "value": 123})
        return [
            TextContent(type="text", text="Multiple content types test:"),
            image,
            _embedded("test://mixed-content-resource", "application/json", data),
        ]

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_error_handling() -> str:
        raise RuntimeError("This tool intentionally returns an error for testing")


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def _add_talking_tools(server: MCPServer[Any]) -> None:
    @server.tool(description=FIXTURE, structured_output=False)
    async def test_tool_with_logging(ctx: Ctx) -> str:
        for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(said)
        return "Logged three times."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_tool_with_progress(ctx: Ctx) -> str:
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        return "Reported three times."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_logging_tool(ctx: Ctx) -> str:
        await ctx.info("A line that must reach only who asked for it")
        return "Logged once."


def _add_asking_tools(server: MCPServer[Any]) -> None:
    @server.tool(description=FIXTURE, structured_output=False)
    async def test_sampling(prompt: str, ctx: Ctx) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        result = await ctx.session.create_message([message], max_tokens=100)
        return f"LLM response: {getattr(result.content, 'text', '')}"

    async def asked(ctx: Ctx, message: str, properties: dict[str, Any]) -> str:
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        result = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
        return f"action={result.action}, content={json.dumps(result.content)}"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_elicitation(message: str, ctx: Ctx) -> str:
        answer = await asked(ctx, message, {"response": {"type": "string", "description": "User's response"}})
        return f"User response: {answer}"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
        properties = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return f"Elicitation completed: {await asked(ctx, 'Who are you?', properties)}"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
        options = [f"option{number}" for number in (1, 2, 3)]
        titled = [
            {"const": f"value{number}", "title": f"{word} Option"}
            for number, word in enumerate(("First", "Second", "Third"), 1)
        ]
        names = ["Option One", "Option Two", "Option Three"]
        properties = {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": names},
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        }
        return f"Elicitation completed: {await asked(ctx, 'Which ones?', properties)}"


def _add_probes(server: MCPServer[Any]) -> None:
    @server.tool(description=FIXTURE, structured_output=False)
    async def test_missing_capability(ctx: Ctx) -> str:
        capabilities = ctx.client_capabilities
        if capabilities is None or capabilities.sampling is None:
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                "This tool needs a client that samples.",
                {"requiredCapabilities": {"sampling": {}}},
            )
        return "The client samples."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_trigger_tool_change(ctx: Ctx) -> str:
        await ctx.notify_tools_changed()
        return "Said that the tools changed."

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_trigger_prompt_change(ctx: Ctx) -> str:
        await ctx.notify_prompts_changed()
        return "Said that the prompts changed."


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", mime_type="text/plain")
    async def watched() -> str:
        return "Watched."


def _add_prompts(server: MCPServer[Any]) -> None:
    def says(content: Any) -> dict[str, Any]:
        return {"role": "user", "content": content}

    @server.prompt(description=FIXTURE)
    async def test_simple_prompt() -> list[dict[str, Any]]:
        return [says(TextContent(type="text", text="This is a simple prompt for testing."))]

    @server.prompt(description=FIXTURE)
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> list[dict[str, Any]]:
        return [says(TextContent(type="text", text=f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]

    @server.prompt(description=FIXTURE)
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[dict[str, Any]]:
        return [
            says(_embedded(resourceUri, "text/plain", "Embedded resource content for testing.")),
            says(TextContent(type="text", text="Please process the embedded resource above.")),
        ]

    @server.prompt(description=FIXTURE)
    async def test_prompt_with_image() -> list[dict[str, Any]]:
        return [
            says(ImageContent(type="image", data=PIXEL, mime_type="image/png")),
            says(TextContent(type="text", text="Please analyze the image above.")),
        ]


def _add_requests(server: MCPServer[Any]) -> None:
    """Requests that Soul itself does not serve: completion, log levels, subscriptions of 2025."""

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        return Completion(values=[], total=0, has_more=False)

    async def accept(ctx: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)
