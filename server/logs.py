"""Where log lines go: JSON lines in `logs/daemon.log`, and a person's form on stderr in the foreground.

Knows format, rotation and redaction. Loggers come from `structlog.get_logger()`; libraries that log through the
standard library end up in the same file.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

FILE_BYTES = 5_000_000
FILES_KEPT = 3

_SECRETS = re.compile(
    r"""(?x)
      (?P<scheme>[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s@]+(?=@)          # password in a URL
    | (?P<named>(?i:\b(?:api[_-]?key|token|secret|password|authorization)\b["']?\s*[=:]\s*(?:bearer\s+)?["']?))
      [^\s"',;]{6,}
    | (?i:(?P<bearer>\bbearer\s+))[A-Za-z0-9._~+/=-]{8,}
    | \b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|xox[abp]-[A-Za-z0-9-]{10,}
        |AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----[\s\S]*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|$)
    """
)
_SECRET_KEYS = re.compile(r"(?i)(?:^|_)(?:token|password|secret|api_?key|authorization)$")


def redacted(text: str) -> str:
    """The text with what looks like a credential replaced by `[redacted]`."""

    def without(found: re.Match[str]) -> str:
        kept = found["scheme"] or found["named"] or found["bearer"] or ""
        return f"{kept}[redacted]"

    return _SECRETS.sub(without, text)


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no credential reaches a log line, whatever key it comes under."""
    for key, value in event.items():
        if key.startswith("_"):
            continue
        event[key] = "[redacted]" if value and _SECRET_KEYS.search(key) else _clean(value)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: "[redacted]" if _SECRET_KEYS.search(str(key)) else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def configure(folder: Path, level: str, *, foreground: bool) -> None:
    """Sends every log line of this process to `folder`/daemon.log, and to stderr when a person is looking.

    Args:
        folder: The home's logs folder; must exist.
        level: Least level kept: debug, info, warning or error.
        foreground: Whether stderr is a person's.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    file = logging.handlers.RotatingFileHandler(
        folder / "daemon.log", maxBytes=FILE_BYTES, backupCount=FILES_KEPT - 1, encoding="utf-8", errors="replace"
    )
    file.setFormatter(_formatter(shared, structlog.processors.JSONRenderer(ensure_ascii=False)))
    outputs: list[logging.Handler] = [file]
    if foreground:
        person = logging.StreamHandler(sys.stderr)
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        person.setFormatter(_formatter(shared, renderer))
        outputs.append(person)
    logging.basicConfig(level=level.upper(), handlers=outputs, force=True)
    # Each request as a line is of use to nobody; what goes wrong still comes through.
    for chatty in ("mcp", "uvicorn", "httpx", "httpcore", "huggingface_hub", "asyncio", "sse_starlette"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def warnings_to_stderr() -> None:
    """For a command that does its work in its own process: stdout is its answer, so what is logged goes to stderr."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _formatter(shared: list[Any], renderer: Any) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
