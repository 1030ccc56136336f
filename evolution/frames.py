"""What two ends of a remote dream say to each other: one JSON line, then as many bytes as it names.

Knows framing only. Both ends are `soul` of possibly different versions, so that the first frame names the form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

FORM = 1
MOST_LINE = 1_000_000


class Broken(Exception):
    """The other end is gone, or speaks of something else; the text is what it said instead."""


def send(stream: BinaryIO, head: Mapping[str, Any], body: bytes = b"") -> None:
    """Writes one frame. Raises BrokenPipeError where nobody reads."""
    stream.write(json.dumps({**head, "bytes": len(body)}).encode() + b"\n" + body)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Reads one frame. Raises Broken at the end of the stream, in the middle of a frame, or for what is no frame."""
    line = stream.readline(MOST_LINE)
    try:
        head = json.loads(line)
        length = int(head["bytes"])
    except (ValueError, KeyError, TypeError):
        raise Broken(line.decode(errors="replace").strip()) from None
    body = b""
    if length:
        body = stream.read(length)
        if len(body) != length:
            raise Broken("")
    return head, body
