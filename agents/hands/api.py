"""A model behind an API as the Hands, through the official SDKs: words out, words back, nothing else.

Speaks to Anthropic, to OpenAI, and to whatever is compatible with the latter (llama-server, vLLM). The key is looked up
in the environment when it is needed and is written nowhere. It has no tools: what it says it did is only said.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio

from agents.hands.outcome import Assignment, HandsFailed, Outcome, Started
from engine.errors import MissingExtra

if TYPE_CHECKING:
    from agents.roster import ApiSpec

NO_KEY = "none"
"""What a server that wants no key gets: the SDKs refuse to start without one."""
SHOWN = 300


class ApiHands:
    """One question and one answer per assignment."""

    def __init__(self, spec: ApiSpec) -> None:
        self._spec = spec
        self._sdk = _sdk(spec.provider)

    async def carry_out(self, assignment: Assignment, started: Started) -> Outcome:
        """Asks once, within the limits of time and tokens.

        Raises:
            HandsFailed: no key, a refused one, a limit, or a service that cannot be reached or says no.
        """
        spec, sdk = self._spec, self._sdk
        key = os.environ.get(spec.key, "") if spec.key else NO_KEY
        if not key:
            raise HandsFailed(
                "not logged in",
                f"The variable {spec.key}, which holds the key of {spec.name}, is not set.",
                "Set it where the daemon starts, then `soul stop` and send the task again.",
            )
        ask = _ask_anthropic if spec.provider == "anthropic" else _ask_openai
        try:
            with anyio.fail_after(spec.minutes * 60):
                return await ask(sdk, spec, key, assignment.words)
        except (TimeoutError, sdk.APITimeoutError) as error:
            raise HandsFailed(
                "time limit",
                f"{spec.name} gave no answer within {spec.minutes:g} minutes.",
                "Give it a smaller task, or raise `minutes` in agents.toml.",
            ) from error
        except sdk.APIConnectionError as error:
            where = spec.base_url or spec.provider
            raise HandsFailed(
                "unreachable", f"{spec.name} cannot be reached at {where}.", "Check `base_url` and the network."
            ) from error
        except (sdk.AuthenticationError, sdk.PermissionDeniedError) as error:
            raise HandsFailed(
                "refused key",
                f"{spec.name} refused the key in {spec.key or '(no variable)'}.",
                "Check the key and what it may do.",
            ) from error
        except sdk.RateLimitError as error:
            raise HandsFailed(
                "service", f"{spec.name} takes no more now: {str(error)[:SHOWN]}.", "Send the task again later."
            ) from error
        except sdk.APIStatusError as error:
            raise HandsFailed(
                "service",
                f"{spec.name} answered with status {error.status_code}: {str(error)[:SHOWN]}.",
                "Check `model` in agents.toml, or send the task again later.",
            ) from error
        except (sdk.APIError, ValueError, TypeError, AttributeError, LookupError) as error:
            # A server that is only nearly compatible: what it sent does not have the SDK's shape.
            raise HandsFailed(
                "garbage", f"{spec.name}'s answer cannot be read: {str(error)[:SHOWN]}.", "Check `base_url`."
            ) from error


async def _ask_openai(sdk: ModuleType, spec: ApiSpec, key: str, words: str) -> Outcome:
    # OpenAI's own newer models know the second name alone, compatible servers mostly the first.
    limit = {"max_tokens" if spec.base_url else "max_completion_tokens": spec.tokens}
    async with sdk.AsyncOpenAI(api_key=key, base_url=spec.base_url or None, max_retries=0) as client:
        said = await client.chat.completions.create(
            model=spec.model, messages=[{"role": "user", "content": words}], **limit
        )
    choice = said.choices[0]
    usage = said.usage
    tokens = usage.total_tokens if usage else 0
    return _outcome(spec, choice.message.content, choice.finish_reason == "length", tokens)


async def _ask_anthropic(sdk: ModuleType, spec: ApiSpec, key: str, words: str) -> Outcome:
    async with sdk.AsyncAnthropic(api_key=key, base_url=spec.base_url or None, max_retries=0) as client:
        said = await client.messages.create(
            model=spec.model,
            max_tokens=spec.tokens,
            messages=[{"role": "user", "content": words}],
            timeout=spec.minutes * 60,
        )
    text = "\n".join(block.text for block in said.content if block.type == "text")
    tokens = said.usage.input_tokens + said.usage.output_tokens
    return _outcome(spec, text, said.stop_reason == "max_tokens", tokens)


def _outcome(spec: ApiSpec, text: Any, cut: bool, tokens: int) -> Outcome:
    if cut:
        raise HandsFailed(
            "token limit",
            f"{spec.name} used its {spec.tokens:,} tokens before it was done.",
            "Give it a smaller task, or raise `tokens` in agents.toml.",
        )
    if not isinstance(text, str) or not text.strip():
        raise HandsFailed("garbage", f"{spec.name} answered without a word.", "Check `model`, or send the task again.")
    return Outcome(text.strip(), tokens=tokens)


def _sdk(provider: str) -> ModuleType:
    try:
        return importlib.import_module(provider)
    except ImportError as error:
        raise MissingExtra(
            f"The SDK of {provider} is not installed.", "Install it: pip install 'soul-mcp[hands]'."
        ) from error
