"""Remote dreams over a real sshd: the same adapter as at home, nothing left there, and every way it can fail said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.errors import InvalidInput, SoulError, Unavailable
from evolution import adapter as adapters
from evolution.remote import Where, connected
from evolution.sealing import Key, sealed
from tests.drawn import drawn
from tests.evolution.far_side import FarSide, far_side, missing
from tests.evolution.test_dream import chats, command, run

pytest.importorskip("pyrage", reason="the extra `evolution`")
needs_sshd = pytest.mark.skipif(bool(missing()), reason=missing() or "there is one")
WORDS = ("--targets", "attention", "--rank", "4", "--rate", "0.003", "--hold", "0", "--every", "1", "--json")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[FarSide]:
    with far_side(tmp_path / "sshd") as one:
        yield one


@pytest.fixture
def homes(home: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A home with a golden log, and a far home that has the model alone."""
    drawn(home / "base")
    things = [f"thing {number}" for number in range(12)]
    chats(home / "golden" / "training_buffer.jsonl", [(f"Where is {one}?", "In the harbour.") for one in things])
    far = tmp_path / "far home"
    far.mkdir()
    (far / "config.toml").write_text(f'model = "{home / "base"}"\n')
    return home, far


def remote(there: FarSide, far: Path) -> tuple[str, ...]:
    return ("--remote", there.url(far).replace(" ", "%20"), "--remote-python", sys.executable)


@needs_sshd
@pytest.mark.timeout(400)
def test_a_dream_there_is_the_dream_here_and_leaves_nothing(there: FarSide, homes: tuple[Path, Path]) -> None:
    home, far = homes
    status, out, error = run(home, "dream", *WORDS, "--steps", "2", *remote(there, far), SOUL_SSH=there.ssh)
    assert status == 0, error
    made = json.loads(out)
    assert made["dreamt_at"] == "127.0.0.1"
    plan = json.loads(run(home, "dream", *WORDS, "--steps", "2", "--dry-run")[1])
    assert made["identity"] == plan["identity"]
    assert adapters.names(home) == (made["name"],)
    assert not [path for path in far.rglob("*") if path.name.startswith(".far") or path.suffix == ".jsonl"]
    assert not (far / "adapters").exists()


@needs_sshd
def test_who_cannot_be_reached_or_has_no_soul_is_named(there: FarSide, tmp_path: Path) -> None:
    here = there.url(tmp_path)

    def refused(url: str, ssh: str, python: str = sys.executable) -> str:
        with pytest.raises(Unavailable) as error, connected(Where.of(url, python), ssh):
            pass
        return str(error.value)

    (tmp_path / "nobody").write_text("")
    assert "does not know the key" in refused(here, there.ssh_that_knows(str(tmp_path / "nobody")))
    assert "ssh cannot be run" in refused(here, "no-such-ssh")
    assert "Nothing answers" in refused(here.replace(str(there.port), "1"), there.ssh)
    assert "--remote-python" in refused(here, there.ssh, "no-such-python")
    assert "--remote-python" in refused(here, there.ssh, "/usr/bin/env -i")
    assert "lets nobody in" in refused(here, there.ssh.replace("login", "host"))


@needs_sshd
def test_what_is_wrong_there_is_said_here_and_nothing_stays(there: FarSide, homes: tuple[Path, Path]) -> None:
    home, far = homes
    (far / "config.toml").write_text(f'model = "{drawn(home / "other", "BF16")}"\n')
    status, _, error = run(home, "dream", *WORDS, *remote(there, far), SOUL_SSH=there.ssh)
    assert status == 1
    assert "is another one" in " ".join(error.split())
    assert not list(far.glob(".far-*"))


@pytest.mark.slow
@needs_sshd
@pytest.mark.timeout(600)
def test_a_line_that_breaks_midway_leaves_nothing_and_the_same_command_begins_anew(
    there: FarSide, homes: tuple[Path, Path]
) -> None:
    home, far = homes
    words = ("dream", *WORDS, *remote(there, far))
    process = command(home, *words, "--steps", "1000", SOUL_SSH=there.ssh)
    while process.poll() is None and not list(far.glob(".far-*/dreams/*/checkpoint.safetensors")):
        pass
    lines = [one for one in psutil.Process(process.pid).children(recursive=True) if one.name() == "ssh"]
    for one in lines:
        one.kill()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "was lost" in " ".join(error.split())
    while list(far.glob(".far-*")):
        pass
    assert run(home, *words, "--steps", "2", SOUL_SSH=there.ssh)[0] == 0


def test_an_address_is_a_host_and_a_home() -> None:
    one = Where.of("ssh://me@there:2222/home/me/.soul", "python3")
    assert one.command("ssh -4")[:2] == ["ssh", "-4"]
    assert one.command("ssh")[-1] == "python3 -P -m server.far_dream /home/me/.soul"
    assert Where.of("ssh://there/~/my soul", "python3").command("ssh")[-1].endswith("~/'my soul'")
    for bad in ("http://there/home", "ssh://there", "ssh:///home", "ssh://there:x/home", "ssh://-oProxy@there/home"):
        with pytest.raises(InvalidInput):
            Where.of(bad, "python3")


def test_what_is_sealed_for_another_key_stays_shut() -> None:
    mine, other = Key(), Key()
    assert mine.opened(sealed(b"words", mine.public)) == b"words"
    with pytest.raises(SoulError, match="cannot be opened"):
        other.opened(sealed(b"words", mine.public))
