"""A far side for remote dreams: a real sshd on loopback, with a host key, a port and a login key of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
SEPARATION = Path("/run/sshd")
"""Where root's sshd locks its unprivileged half in; a service makes it, a bare container has none."""

CONFIG = """\
HostKey {folder}/host
AuthorizedKeysFile {folder}/login.pub
PidFile none
ListenAddress 127.0.0.1
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""


def missing() -> str:
    """Why there can be no far side here; "" when there can."""
    if SSHD is None or shutil.which("ssh") is None:
        return "needs sshd and ssh (Debian: openssh-server)"
    if os.geteuid() == 0 and not SEPARATION.is_dir():
        try:
            SEPARATION.mkdir(mode=0o755)
        except OSError:
            return f"needs {SEPARATION}, which cannot be made here"
    return ""


@dataclass(frozen=True)
class FarSide:
    """A running sshd, and how to get to it."""

    folder: Path
    port: int

    @property
    def ssh(self) -> str:
        """The command that knows the host and has the key."""
        return self.ssh_that_knows(f"{self.folder}/known_hosts")

    def ssh_that_knows(self, known_hosts: str) -> str:
        known = f"-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=/dev/null"
        return f"ssh -F /dev/null -i {self.folder}/login -o IdentitiesOnly=yes {known}"

    def url(self, home: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{home}"


@contextmanager
def far_side(folder: Path) -> Generator[FarSide]:
    """An sshd for the block."""
    assert SSHD
    folder.mkdir()
    for name in ("host", "login"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(CONFIG.format(folder=folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
    command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config"), "-p", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        told = ""
        for line in process.stderr:
            told += line
            if "Server listening" in line:
                break
        else:
            raise AssertionError(f"sshd did not start: {told}")
        yield FarSide(folder, port)
    finally:
        process.terminate()
        process.communicate()
