"""Allow connections to addresses of the public internet only.

A list of URLs from the web must not make this machine ask its own services or its neighbours'. Addresses are checked
where a name becomes addresses and once more where a socket is made for one: what is connected to is what was checked,
whatever a name server answers the next time (DNS rebinding), and on every redirect alike.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from jointnet_cli.data.web.status import FetchError, Status

NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""RFC 6052 and RFC 8215: the last 32 bits are the IPv4 address that is reached."""

SITE_LOCAL = IPv6Network("fec0::/10")
"""Private networks before RFC 3879, which `ipaddress` takes for public."""

EVERYWHERE = ("0.0.0.0/0", "::/0")

RESOLVER_THREADS = 32

_NUMBERS = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)

_UNSENDABLE = re.compile(r"""[\x00-\x20\x7f"<>\\^`{|}]""")


def is_public(address: str) -> bool:
    """Return whether an IPv4 or IPv6 address is a single host of the public internet.

    Of an IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4) the IPv4 address decides. Raises ValueError if
    it is no address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and (inner := _embedded(parsed)) is not None:
        parsed = inner
    if parsed in SITE_LOCAL:
        return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def parse_url(text: str) -> URL:
    """Return an http(s) URL; a host written as a number (`2130706433`, `0177.1`) becomes the address that it means.

    Raises `FetchError` (`bad_url`).
    """
    try:
        # As it is where that can be sent: a signed URL is void when its escapes are written in another way.
        url = URL(text, encoded=text.isascii() and not _UNSENDABLE.search(text))
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("not an http(s) URL with a host")
        if _NUMBERS.fullmatch(url.host):
            # As browsers and the C library read it, in decimal, octal or hexadecimal.
            url = url.with_host(socket.inet_ntoa(socket.inet_aton(url.host)))
        return url
    except (ValueError, OSError) as error:
        raise FetchError(Status.BAD_URL, str(error)) from error


class PublicResolver(AbstractResolver):
    """Resolve names by the system's resolver, in threads of its own.

    Raises `FetchError` (`private_host`) for a name with any address that is neither public nor in one of the `allowed`
    networks.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = [ip_network(network) for network in allowed]
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host, as aiohttp's connector asks for them."""
        look_up = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except socket.gaierror as error:
            again = error.errno == socket.EAI_AGAIN
            raise FetchError(Status.DNS_FAILED if again else Status.DNS_UNKNOWN, f"{host}: {error.strerror}") from error
        except UnicodeError as error:
            raise FetchError(Status.BAD_URL, f"{host!r} is no name of a host") from error
        for *_, address in found:
            self.check(str(address[0]), host)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, protocol, _, address in found
        ]

    def open_socket(self, target: tuple[Any, ...]) -> socket.socket:
        """Return a socket for one of getaddrinfo's tuples, if its address may be connected to."""
        family, kind, protocol, _, address = target
        self.check(address[0], address[0])
        return socket.socket(family, kind, protocol)

    def check(self, address: str, host: str) -> None:
        """Refuse a host whose address may not be connected to.

        Raises:
            FetchError: `private_host`.
        """
        if not is_public(address) and not any(ip_address(address) in network for network in self._allowed):
            at = "" if host == address else f" at {address}"
            raise FetchError(Status.PRIVATE_HOST, f"{host}{at} is not on the public internet")

    async def close(self) -> None:
        """Give up look-ups that have not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if any(address in network for network in NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
