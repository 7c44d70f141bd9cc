"""Which addresses may be read. On one machine all; where tenants write URIs, none inside the network (DESIGN D3)."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_CARRIERS = tuple(ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96"))
"""Whose last 32 bits are an IPv4 address: NAT64, by which pods with IPv6 alone reach the old world, the deprecated
"IPv4-compatible" form (RFC 4291) and "IPv4-translated" (RFC 2765)."""
_ISATAP = (0x00005EFE, 0x02005EFE)
"""Before the last 32 bits: those are the IPv4 address of the tunnel's end (RFC 5214)."""
_INSIDE = tuple(
    ipaddress.ip_network(net)
    for net in (
        "fec0::/10",  # site-local, deprecated and still routed inside
        "64:ff9b:1::/48",  # NAT64 of a network's own, with the IPv4 address at places that only the network knows
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing, inside a network
        "192.0.0.0/24",  # special purposes
        "192.88.99.0/24",  # relays of 6to4, deprecated
    )
)
"""What this Python's `is_global` takes for public, or some releases of it do (IANA's special-purpose registries)."""


WAY_OUT = "Use a public address, or let the installation allow private sources (privateSources: true)."


class AddressRefusedError(Exception):
    """The host is, or resolves to, an address that may not be read."""


def raise_refusal(error: BaseException) -> None:
    """Raise the AddressRefusedError that a library has wrapped in an error of its own, if it has."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, AddressRefusedError):
            raise found from None
        found = found.__cause__ or found.__context__


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
    if not _is_public(parsed):
        name = host if host == address else f"{host} ({address})"
        raise AddressRefusedError(f"{name} is an address inside this network")


def _is_public(address: Address) -> bool:
    """Whether this address, and every IPv4 address that a gateway or tunnel would make of it, is of the internet."""
    if isinstance(address, ipaddress.IPv6Address) and (mapped := address.ipv4_mapped):
        return _is_public(mapped)  # as a socket for both spells its peer
    if not address.is_global or address.is_multicast or any(address in net for net in _INSIDE):
        return False
    return isinstance(address, ipaddress.IPv4Address) or all(map(_is_public, _carried(address)))


def _carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in net for net in _CARRIERS) or int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        yield last
    if address.sixtofour is not None:
        yield address.sixtofour


@contextmanager
def public_connections_only(proxies: Collection[str], lent: Collection[str] = ()) -> Iterator[None]:
    """Refuse every connection of this process to an address that is not public, whichever library opens it.

    The hubs' own libraries follow redirects out of our sight. `proxies` are URLs of proxies: those addresses stay
    allowed, and what lies behind them is the proxy's business; so do the addresses `lent`, which is for what the
    platform gives to pods. AddressRefusedError comes out of the library's call.
    """
    allowed = frozenset(address for url in proxies for address in resolve(urlsplit(url).hostname or "")) | {*lent}
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
