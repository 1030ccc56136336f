"""A text in the person's editor. Knows $VISUAL and $EDITOR; does not know what the text means."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from engine.errors import InvalidInput


def edited(home: str, prefix: str, suffix: str, before: str) -> Path | None:
    """A file in `home` with the new text, which the caller takes away; None where nothing was changed.

    Raises:
        InvalidInput: the editor could not be started.
    """
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=home)
    draft = Path(name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(before)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(editor), str(draft)], check=False)
    except OSError as error:
        draft.unlink()
        raise InvalidInput(f"The editor {editor!r} could not be started: {error.strerror}.", "Set EDITOR.") from error
    if done.returncode != 0 or draft.read_text(encoding="utf-8") == before:
        draft.unlink()
        return None
    return draft
