"""Which addresses may be read. On one machine all; where tenants write URIs, none inside the network (DESIGN D3)."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlsplit

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


WAY_OUT = "Use a public address, or let the installation allow private sources (privateSources: true)."


class AddressRefusedError(Exception):
    """The host is, or resolves to, an address that may not be read."""


def resolve(host: str) -> list[str]:
    """All addresses of a host name; an empty list when it has none."""
    try:
        return sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)})
    except OSError:
        return []


def check_url(url: str, allow_private: bool, resolver: Callable[[str], list[str]] = resolve) -> None:
    """AddressRefusedError when the URL's host is not public and only public ones are allowed.

    To be called before every request, also the ones that redirects ask for. One bad address among several is enough.
    """
    if allow_private:
        return
    host = urlsplit(url).hostname or ""
    literal = _literal(host)
    for address in [str(literal)] if literal else resolver(host):
        check_address(address, allow_private, host)


def check_address(address: str, allow_private: bool, host: str) -> None:
    """AddressRefusedError when `address` (of `host`) is not public (loopback, link-local, private, multicast)."""
    if allow_private:
        return
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inside = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1] or _translated(parsed)
        parsed = inside or parsed
    if not parsed.is_global or parsed.is_multicast:
        name = host if host == address else f"{host} ({address})"
        raise AddressRefusedError(f"{name} is an address inside this network")


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a NAT64 gateway turns this one into: pods with IPv6 alone reach the old world so."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


@contextmanager
def public_connections_only(proxies: Collection[str]) -> Iterator[None]:
    """Refuse every connection of this process to an address that is not public, whichever library opens it.

    The hubs' own libraries follow redirects out of our sight. `proxies` are URLs of proxies: those addresses stay
    allowed, and what lies behind them is the proxy's business. AddressRefusedError comes out of the library's call.
    """
    allowed = frozenset(address for url in proxies for address in resolve(urlsplit(url).hostname or ""))
    _install_hook()
    _policies.append(allowed)
    try:
        yield
    finally:
        _policies.remove(allowed)


_policies: list[frozenset[str]] = []
"""Addresses that stay allowed, per guard in force; none = everything may be connected to."""


@cache
def _install_hook() -> None:
    """An audit hook can't be removed: one for the whole process, which asks what is in force."""
    sys.addaudithook(_on_audit)


def _on_audit(event: str, args: tuple[object, ...]) -> None:
    if event != "socket.connect" or not _policies or not isinstance(args[1], tuple):
        return
    host = str(args[1][0])
    for address in [host] if _literal(host) else resolve(host):
        if not any(address in allowed for allowed in _policies):
            check_address(address, False, host)


def _literal(host: str) -> Address | None:
    """The address that a host spells, also in the short and numeric forms that inet_aton knows (127.1, 0x7f000001)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
