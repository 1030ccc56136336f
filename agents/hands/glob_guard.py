"""A hook that Claude Code runs before its tool Glob: status 2, with a reason, where a pattern leads out of its folder.

Claude Code asks its permission rules about the `path` of Glob, and not about a pattern that begins at the root (it was
tried). Gets the call as JSON on stdin; run as a script, with the standard library alone.
"""

from __future__ import annotations

import json
import re
import sys

OUT = re.compile(r"^\s*[/~\\]|^\s*\w:|(^|[/\\{,])\.\.([/\\},]|$)|[{,]\s*[/~]")
"""An absolute path, a home, a drive, a step up: also as one of several in braces."""


def refusal(call: str) -> str:
    """Why the call must not be made; "" where it may. What cannot be read must not."""
    try:
        pattern = json.loads(call)["tool_input"]["pattern"]
    except (ValueError, KeyError, TypeError):
        return "This call of Glob cannot be read."
    if not isinstance(pattern, str) or OUT.search(pattern):
        return "Glob patterns must stay below the working folder: no /, ~ or .. to lead out of it."
    return ""


if __name__ == "__main__":
    if said := refusal(sys.stdin.read()):
        sys.stderr.write(said)
        sys.exit(2)
