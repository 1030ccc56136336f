"""A dream on another machine, seen from here: over ssh, by the `soul` that is installed there.

The buffer and the dream it goes on with are sealed for a key that the far process made and keeps in memory; the adapter
comes back with its hash and is taken only when it is of the very dream that was planned here. Knows ssh and frames; the
far side is `server.far_dream`.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NoReturn, cast
from urllib.parse import unquote, urlsplit

from engine.errors import Conflict, InvalidInput, SoulError, Unavailable
from engine.fingerprint import content_hash
from evolution import adapter, frames, tensors
from evolution.adapter import Adapter
from evolution.anchor import Report
from evolution.dream import Dream
from evolution.sealing import sealed

PARTS: Sequence[str] = (adapter.WEIGHTS_FILE, adapter.CONFIG_FILE, adapter.MANIFEST)
"""Files of an adapter, in the order in which they travel."""
SAID_BY_SSH: Mapping[str, tuple[str, str]] = {
    "Host key verification failed": (
        "ssh does not know the key of {host}.",
        "Connect once by hand, `ssh {words}`, and compare the key.",
    ),
    "Permission denied": ("{host} lets nobody in by the keys at hand.", "Put your public key there: `ssh-copy-id`."),
    "Connection refused": ("Nothing answers on {host}.", "Look at host and port; is sshd running there?"),
    "Could not resolve": ("There is no host {host}.", "Look at its name."),
    "No module named": ("{host} has no soul where it was looked for.", "Name its Python with --remote-python."),
    "not found": ("{host} has no such Python.", "Name the one that soul is installed in with --remote-python."),
    "No such file": ("{host} has no such Python.", "Name the one that soul is installed in with --remote-python."),
}
"""Words on stderr, and what they mean to a person."""


@dataclass(frozen=True)
class Where:
    """The far side: `ssh://user@host:port/home`, where `home` is its SOUL_HOME."""

    host: str
    port: int | None
    user: str | None
    home: str
    python: str

    @classmethod
    def of(cls, url: str, python: str) -> Where:
        """Raises InvalidInput."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"{url!r} is no address: {error}.", "Write ssh://user@host:port/home.") from None
        if parts.scheme != "ssh" or not parts.hostname or len(parts.path) < 2 or parts.password:
            raise InvalidInput(f"{url!r} is no address of a far home.", "Write ssh://user@host:port/home.")
        if parts.hostname.startswith("-") or (parts.username or "").startswith("-"):
            raise InvalidInput(f"{url!r} names no host.", "Write ssh://user@host:port/home.")
        home = unquote(parts.path)
        return cls(parts.hostname, port, parts.username, home[1:] if home.startswith("/~/") else home, python)

    def command(self, ssh: str) -> list[str]:
        """What is run here. Never asks: there may be nobody to answer."""
        port = ["-p", str(self.port)] if self.port else []
        to = f"{self.user}@{self.host}" if self.user else self.host
        home = f"~/{shlex.quote(self.home[2:])}" if self.home.startswith("~/") else shlex.quote(self.home)
        # -P: no folder of the far side may pass itself off as ours.
        far = f"{shlex.quote(self.python)} -P -m server.far_dream {home}"
        return [*shlex.split(ssh), "-T", "-o", "BatchMode=yes", *port, to, "--", far]


class Far:
    """The far process, and the two pipes to it."""

    def __init__(self, where: Where, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.where, self._process, self._errors = where, process, errors
        self._to = cast(IO[bytes], process.stdin)
        self._from = cast(IO[bytes], process.stdout)

    def tell(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Sends a frame."""
        try:
            frames.send(cast(Any, self._to), head, body)
        except OSError:
            self._lost("")

    def hear(self) -> tuple[dict[str, Any], bytes]:
        """The next frame. Raises what the far side raised, or Unavailable where it is gone."""
        try:
            head, body = frames.receive(cast(Any, self._from))
        except frames.Broken as broken:
            self._lost(str(broken))
        if "error" in head:
            raise SoulError(f"{self.where.host} says: {head['error']}", str(head.get("remedy", "")))
        return head, body

    def _lost(self, said: str) -> NoReturn:
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()
        at = self.where
        for sign, (fact, remedy) in SAID_BY_SSH.items():
            if sign in words:
                by_hand = f"{f'-p {at.port} ' if at.port else ''}{f'{at.user}@' if at.user else ''}{at.host}"
                raise Unavailable(fact.format(host=at.host), remedy.format(words=by_hand))
        last = (words or said).splitlines()[-1:] or ["it said nothing"]
        raise Unavailable(
            f"The connection to {at.host} was lost: {last[0]}.",
            "Nothing is left there, and nothing was kept here; the same command begins anew.",
        )


@contextmanager
def connected(where: Where, ssh: str) -> Generator[tuple[Far, str]]:
    """The far side and its public key; ended with the block, which makes it wipe what it has.

    Raises Unavailable: no ssh here, no way there, no soul there.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(where.command(ssh), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise Unavailable(
                f"ssh cannot be run: {error}.", "Install an OpenSSH client, or see the setting `ssh`."
            ) from error
        far = Far(where, process, errors)
        try:
            hello, _ = far.hear()
            if hello.get("form") != frames.FORM:
                raise Conflict(f"The soul on {where.host} is of another version.", "Install the same on both sides.")
            yield far, str(hello["key"])
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets go of the pipes, which the far side takes as its order to wipe and leave."""
    assert process.stdin and process.stdout
    try:
        process.stdin.close()
    except OSError:
        process.kill()
    process.stdout.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def dream_there(
    one: Dream, name: str, where: Where, ssh: str, buffer: Path, words: Mapping[str, Any], report: Report
) -> Adapter:
    """Has a dream that was prepared here dreamt there, and keeps its adapter; finds one that is kept. Under the lock.

    Args:
        buffer: the file that `one` was prepared from.
        words: what else the far side must know: `model`, `scope`, `longest`.

    Raises:
        Unavailable: the far side cannot be reached, or was lost.
        Conflict: what came back is not what was planned.
    """
    target = adapter.folder_of(one.home, name)
    if target.exists():
        kept = adapter.load(target)
        if kept.manifest.get("identity") == one.plan.identity:
            return kept
        raise Conflict(f"There is an adapter {name} already.", "Choose another name.")
    before = _files(adapter.folder_of(one.home, one.last.name)) if one.last else {}
    with connected(where, ssh) as (far, key):
        report(f"sending to {where.host}", None)
        order = {**words, "numbers": asdict(one.numbers), "anchor": one.anchor, "identity": one.plan.identity}
        far.tell({**order, "last": one.last.name if one.last else None, "parts": len(before)})
        for body in (buffer.read_bytes(), *before.values()):
            far.tell({}, sealed(body, key))
        while True:
            head, _ = far.hear()
            if "made" in head:
                break
            report(f"{where.host}: {head['detail']}", head["share"])
        files = {part: _checked(part, *far.hear()) for part in head["made"]}
    return _kept(one, name, files, where, target)


def _files(folder: Path) -> dict[str, bytes]:
    return {part: (folder / part).read_bytes() for part in PARTS}


def _checked(part: str, head: Mapping[str, Any], body: bytes) -> bytes:
    if part not in PARTS or hashlib.sha256(body).hexdigest() != head["sha256"]:
        raise Conflict(f"{part} did not come as it was sent.", "The same command begins anew.")
    return body


def _kept(one: Dream, name: str, files: Mapping[str, bytes], where: Where, target: Path) -> Adapter:
    """Keeps what came when it is whole, of this anchor and of this dream."""
    home = one.home / "adapters"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=home, prefix=".far-"))
    try:
        for part, body in files.items():
            (fresh / part).write_bytes(body)
        came = adapter.load(fresh)
        if content_hash(fresh / adapter.WEIGHTS_FILE) != came.manifest.get("sum"):
            raise Conflict("The adapter is not what its manifest names.", "The same command begins anew.")
        came.require(one.anchor, {name: place.shape for name, place in tensors.places_of(one.start).items()})
        if came.manifest.get("identity") != one.plan.identity:
            raise Conflict(
                f"{where.host} dreamt something else than what was planned here.",
                "Install the same soul on both sides.",
            )
        manifest = {**came.manifest, "dreamt_at": where.host, "continues": one.last.name if one.last else None}
        adapter.save(replace(came, name=name, manifest=manifest), target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return adapter.load(target)
