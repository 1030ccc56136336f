"""The far side of a remote dream: `python -P -m server.far_dream HOME`, started over ssh by `evolution.remote`.

It makes a key that lives in this process alone, takes a sealed buffer, dreams in a scratch folder of its home, sends
the adapter back, and wipes the folder: also when it fails, and when the line breaks, which is the end of its stdin.
What a killed one left is wiped by the next. The trainer has the plaintext on its disk while it trains. Stdout is the
wire.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import Conflict, SoulError

SCRATCH = ".far-"


def main(arguments: list[str]) -> int:
    """Serves one dream; the exit status."""
    home = Path(arguments[0]).expanduser()
    wire, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever prints must not reach the wire
    from evolution import frames
    from server.logs import warnings_to_stderr

    warnings_to_stderr()
    try:
        _serve(home, sys.stdin.buffer, wire)
    except SoulError as error:
        frames.send(wire, {"error": error.fact, "remedy": error.remedy})
        return 1
    except Exception as error:
        # The other end must hear of it before this process is gone; the traceback is on stderr for whoever looks.
        frames.send(wire, {"error": f"{type(error).__name__}: {error}", "remedy": "Look at soul's installation there."})
        raise
    return 0


def _serve(home: Path, source: BinaryIO, wire: BinaryIO) -> None:
    from evolution import frames
    from evolution.lock import evolving
    from evolution.remote import PARTS
    from evolution.sealing import Key

    key = Key()
    frames.send(wire, {"form": frames.FORM, "key": key.public})
    try:
        order, _ = frames.receive(source)
        bodies = [key.opened(frames.receive(source)[1]) for _ in range(1 + order["parts"])]
    except frames.Broken:
        return  # whoever asked went away
    with evolving(home, "far dream"):
        for torn in home.glob(f"{SCRATCH}*"):
            shutil.rmtree(torn, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(dir=home, prefix=SCRATCH))
        try:
            _wipe_when_left(source, scratch)
            made = _dreamt(home, scratch, order, bodies, wire)
            files = {part: (made / part).read_bytes() for part in PARTS}
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    frames.send(wire, {"made": list(files)})
    for body in files.values():
        frames.send(wire, {"sha256": hashlib.sha256(body).hexdigest()}, body)


def _dreamt(home: Path, scratch: Path, order: dict[str, Any], bodies: list[bytes], wire: BinaryIO) -> Path:
    """The folder of the adapter, dreamt in the scratch folder as if that were a home."""
    from evolution import adapter, frames
    from evolution.dream import dream, prepare
    from evolution.remote import PARTS
    from evolution.training import Numbers
    from server.cli_evolution import anchor_of, known_hashes

    def report(detail: str, share: float | None) -> None:
        frames.send(wire, {"detail": detail, "share": share})

    (scratch / "buffer.jsonl").write_bytes(bodies[0])
    last = None
    if order["last"]:
        folder = adapter.folder_of(scratch, order["last"])
        folder.mkdir(parents=True)
        for part, body in zip(PARTS, bodies[1:], strict=True):
            (folder / part).write_bytes(body)
        last = adapter.load(folder)
    model, _ = anchor_of(str(home), order["model"], report)
    numbers = Numbers(**order["numbers"])
    known = known_hashes(str(home))
    one = prepare(scratch, model, scratch / "buffer.jsonl", numbers, order["scope"], order["longest"], known, last=last)
    if one.anchor != order["anchor"]:
        raise Conflict(
            f"The model here, {model.name}, is another one ({one.anchor[:12]}, not {order['anchor'][:12]}).",
            "Put the very same model folder there, and name it in its config.toml or with --model.",
        )
    if one.plan.identity != order["identity"]:
        raise Conflict("The plan comes out differently here.", "Install the same soul on both sides.")
    made = dream(one, one.plan.name, report)
    return adapter.folder_of(scratch, made.name)


def _wipe_when_left(source: BinaryIO, scratch: Path) -> None:
    """Ends this process, and what it wrote, when the other end lets go."""

    def watch() -> None:
        source.read(1)
        while scratch.exists():  # the dream may be writing into it
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
