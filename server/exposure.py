"""Who may reach the daemon over HTTP: addresses, ports, and which Host and Origin headers are ours.

Light: `soul doctor` and the start of the daemon ask it before anything is served.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from engine.errors import Conflict, Forbidden, InvalidInput
from server.settings import Settings

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings

_INTERNET = (socket.AF_INET, socket.AF_INET6)


def check_exposure(settings: Settings) -> None:
    """Refuses to be reachable from other machines without a token.

    Raises:
        Forbidden: the address is beyond loopback and no token is set.
    """
    if settings.http_token is None and not is_loopback(settings.http_host):
        raise Forbidden(
            f"{settings.http_host} is beyond loopback, where anybody on the network could use this Soul.",
            "Set a token with SOUL_HTTP_TOKEN (or --token), or bind to 127.0.0.1.",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def security(settings: Settings, port: int) -> TransportSecuritySettings:
    """Which Host and Origin headers are ours: a page on the web must not reach us through a name it owns."""
    from mcp.server.transport_security import TransportSecuritySettings

    names = ["127.0.0.1", "localhost", "[::1]"]
    if not is_loopback(settings.http_host):
        names.append(socket.gethostname())
        if not _unspecified(settings.http_host):
            names.append(bracketed(settings.http_host))
        else:
            names += _own_addresses()
    hosts = [f"{name}:{port}" for name in names] + (names if port == 80 else [])
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts],
    )


def _unspecified(host: str) -> bool:
    """Whether the address stands for all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _own_addresses() -> list[str]:
    import psutil

    found = [one.address for some in psutil.net_if_addrs().values() for one in some if one.family in _INTERNET]
    return [bracketed(address.split("%")[0]) for address in found]


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def listen(settings: Settings) -> socket.socket:
    """The listening socket of the settings' address.

    Raises:
        Forbidden: an address beyond loopback without a token.
        InvalidInput: the address is unknown.
        Conflict: the port is taken, or the address is none of this machine.
    """
    check_exposure(settings)
    host, port = settings.http_host.strip("[]"), settings.http_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InvalidInput(
            f"The address {host!r} is unknown: {error.strerror}.", "Use 127.0.0.1, or --host."
        ) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"Port {port} of {host} cannot be used: {(error.strerror or str(error)).lower()}.",
            "Choose another one with --port (0 takes any free one), or stop what uses it.",
        ) from error
    listener.setblocking(False)
    return listener
