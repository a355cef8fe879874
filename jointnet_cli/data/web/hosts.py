"""Allow connections to addresses of the public internet only.

A list of URLs from the web must not make this machine ask its own services or its neighbours'. Addresses are checked
where a name becomes addresses and once more where a socket is made for one: what is connected to is what was checked,
whatever a name server answers the next time (DNS rebinding), and on every redirect alike.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from jointnet_cli.data.web.status import FetchError, Status

PUBLIC_IPV6 = IPv6Network("2000::/3")
"""Global unicast. All other IPv6 addresses are special: loopback, link-local, unique local, site-local, multicast,
IPv4-compatible and IPv4-translated addresses, discard-only, local-use translation (`64:ff9b:1::/48`), segment routing."""

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is reached."""

MAPPED = IPv6Network("::ffff:0:0/96")

NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "3ffe::/16", "3fff::/20"),
        ),
    )
)
"""IANA's special-purpose registries of IPv4 and IPv6, without the addresses that no single host of the web has. `2001::/23`
holds Teredo, benchmarking, ORCHID and the anycast addresses of gateways; `192.0.0.0/24` their IPv4 forms. The list is our
own because that of `ipaddress` differs between versions of Python."""

EVERYWHERE = ("0.0.0.0/0", "::/0")

RESOLVER_THREADS = 128
"""As many as rows in work by default: a look-up whose name server is silent cannot be interrupted."""

_NUMBERS = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)

_UNSENDABLE = re.compile(r"""[\x00-\x20\x7f"<>\\^`{|}]""")


def is_public(address: str) -> bool:
    """Return whether an IPv4 or IPv6 address is a single host of the public internet.

    For an IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4, ISATAP) the IPv4 address decides.

    Raises:
        ValueError: the text is not an address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and not any(parsed in network for network in (PUBLIC_IPV6, NAT64, MAPPED)):
        return False
    return not any(each in network for each in (parsed, _embedded(parsed)) if each for network in NOT_PUBLIC)


def parse_url(text: str) -> URL:
    """Return an http(s) URL whose host has its only spelling: lower case, IDNA, without a trailing dot.

    A host written as a number (`2130706433`, `0177.1`) becomes the address that it means.

    Raises `FetchError` (`bad_url`).
    """
    try:
        # As it is where that can be sent: a signed URL is void when its escapes are written in another way.
        url = URL(text, encoded=text.isascii() and not _UNSENDABLE.search(text))
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("not an http(s) URL with a host")
        host = (url.raw_host or "").lower().removesuffix(".")
        if _NUMBERS.fullmatch(host):
            # As browsers and the C library read it, in decimal, octal or hexadecimal.
            host = socket.inet_ntoa(socket.inet_aton(host))
        return url if host == url.raw_host else url.with_host(host)
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
            os.close(os.open(os.devnull, os.O_RDONLY))  # raises where the reason is that no file can be opened
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

    def check(self, address: str, host: str | None = None) -> None:
        """Refuse a host whose address may not be connected to.

        Raises:
            FetchError: `private_host`.
        """
        if not is_public(address) and not any(ip_address(address) in network for network in self._allowed):
            name = address if host in (None, address) else f"{host} at {address}"
            raise FetchError(Status.PRIVATE_HOST, f"{name} is not on the public internet")

    async def close(self) -> None:
        """Give up look-ups that have not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def host_name(url: URL) -> str:
    """Return what is the same for all URLs of one host: whatever the scheme, the port and the form of its address."""
    host = url.raw_host or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(_embedded(address) or address)


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    isatap = int(address) >> 32 & 0xFDFFFFFF == 0x5EFE
    if isatap or address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
