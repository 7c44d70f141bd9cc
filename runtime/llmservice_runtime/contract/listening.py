"""Where programs listen and how they are reached: every address of a pod, whatever families it has."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from llmservice_runtime.contract.errors import UserError

EVERY = "::"
"""Every address: of IPv6 with IPv4 mapped into it, or of IPv4 alone where the kernel has no IPv6."""
_EVERY_V4 = "0.0.0.0"


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket; port 0 = any free one. OSError when the address can't be had."""
    if host == EVERY and not socket.has_dualstack_ipv6():
        host = _EVERY_V4
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog, dualstack_ipv6=host == EVERY)


def refuse_host(host: str, error: OSError) -> None:
    """UserError BadArgument when it is the address that can't be had (no such name, another machine's)."""
    number = error.errno or 0
    if number < 0:  # of the resolver, whose numbers are negative: no such name
        reason = "no such name"
    elif number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        reason = os.strerror(number)
    else:
        return
    raise UserError(
        f"`host` is {host!r}, on which this machine can't listen: {reason}.",
        "Name an address of this machine, such as 127.0.0.1 or ::.",
    ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def dialled(host: str) -> tuple[str, ...]:
    """Hosts, as URLs spell them, at which this machine may reach what listens on `host`; the first that answers."""
    if host in ("", EVERY, _EVERY_V4):
        return "127.0.0.1", "[::1]"
    return (in_url(host),)


def in_url(host: str) -> str:
    """The host as a URL spells it: IPv6 addresses stand in brackets."""
    return f"[{host}]" if ":" in host else host
