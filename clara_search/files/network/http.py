"""HTTP for names out of data: no private address, no endless answer, no waiting without end.

fsspec takes a function that makes its client of aiohttp. The check of an address sits where a socket is made for it, so
what was checked is what is connected to: no name is resolved twice, no redirect goes around it, no way to write an
address (decimal, octal, IPv4 in IPv6) hides it.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from typing import Any

import aiohttp

from clara_search.files.limits import HTTP_BYTES
from clara_search.files.network import access

_CONNECT_S = 30.0

_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "fec0::/10")))
"""Azure's metadata service has a public address; the others are private, which not every Python says."""

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # by NAT64
_COMPATIBLE = ipaddress.ip_network("::/96")


def client_of(is_typed: bool, private: bool, seconds: int) -> Any:
    """Return a function that makes a client, for `get_client` of fsspec's file system.

    Args:
        is_typed: Whether the user typed the host. A client for others keeps no cookies.
        private: Whether private addresses are reached for hosts that were not typed.
        seconds: The longest time for a request.
    """
    return partial(_new_client, is_typed=is_typed, private=private, seconds=seconds)


async def _new_client(is_typed: bool, private: bool, seconds: int, **options: Any) -> aiohttp.ClientSession:
    options.pop("loop", None)  # the running one
    resolver = _Resolver()
    settings = {
        "connector": aiohttp.TCPConnector(
            resolver=resolver, socket_factory=partial(_open_socket, resolver.typed_addresses, private)
        ),
        "cookie_jar": aiohttp.CookieJar() if is_typed else aiohttp.DummyCookieJar(),
        "response_class": _BoundedResponse,
        "timeout": aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_S),
        "trust_env": False,  # .netrc and proxies
    }
    return aiohttp.ClientSession(**{**options, **settings})


class _Resolver(aiohttp.ThreadedResolver):
    """Resolves names, and notes the addresses of hosts that the user typed."""

    def __init__(self) -> None:
        super().__init__()
        self.typed_addresses: set[tuple[str, int]] = set()

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        """Resolve `host` as the base class does."""
        results = await super().resolve(host, port, family)
        if access.is_typed_host(host, port):
            self.typed_addresses.update((result["host"], port) for result in results)
        return results


def _open_socket(typed_addresses: set[tuple[str, int]], private: bool, addr_info: Any) -> socket.socket:
    """Return a socket for an address that may be connected to. Raises RefusedAddress for others."""
    family, kind, protocol, _, (host, port, *_) = addr_info
    is_typed = (host, port) in typed_addresses or access.is_typed_host(host, port)
    if not (private or is_typed or is_public(host)):
        raise access.RefusedAddress(
            None,
            f"{host} is an address of this machine or a private network, named by data or a redirect: `allow_private`",
        )
    return socket.socket(family=family, type=kind, proto=protocol)


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet, as against private, loopback, link-local and so on.

    What is no address is none: systems connect to forms like 2130706433, which some releases of aiohttp hand on.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and (ip in _TRANSLATED or ip in _COMPATIBLE):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    is_special = ip.is_multicast or ip.is_reserved or any(ip in network for network in _NOT_PUBLIC)
    return ip.is_global and not is_special


class _BoundedResponse(aiohttp.ClientResponse):
    """A response whose whole body is read up to a limit only, whatever length it states."""

    async def read(self) -> bytes:
        """Return the body. Raises FormatError if it is longer than the limit."""
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > HTTP_BYTES.value:
                    self.close()
                    raise HTTP_BYTES.exceeded(self.url)
            self._body = bytes(body)
        return self._body
