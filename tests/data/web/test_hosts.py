"""Which hosts may be asked, what their headers say, and the names of failures."""

from __future__ import annotations

import asyncio
import re
import socket
from datetime import UTC, datetime

import pytest

from jointnet_cli.data.web.hosts import EVERYWHERE, PublicResolver, is_public, parse_url
from jointnet_cli.data.web.http import forbidding_directive, retry_after
from jointnet_cli.data.web.status import GROUPS, FetchError, Status, failure_filter, is_transient
from jointnet_cli.errors import UserError

OURS = ("noai", "noimageai", "noindex", "noimageindex")


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "172.32.0.1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "127.0.0.1", "127.255.0.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "198.18.0.1", "203.0.113.7", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::127.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::7f00:1", "2002:7f00:1::"),
        *("fec0::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_addresses_that_are_not(address: str) -> None:
    assert not is_public(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(FetchError, match=rf"^{re.escape(address)} is not on the public internet$") as caught:
        PublicResolver().open_socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))
    assert caught.value.status == Status.PRIVATE_HOST
    PublicResolver(EVERYWHERE).open_socket((family, socket.SOCK_STREAM, 0, "", (address, 80))).close()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://2130706433/x", "127.0.0.1"),
        ("http://0177.0.0.1/", "127.0.0.1"),
        ("http://0x7f.1:8080/", "127.0.0.1"),
        ("https://127.1", "127.0.0.1"),
        ("http://[::1]/", "::1"),
        ("HTTP://Example.COM/", "example.com"),
        ("http://b\u00fccher.example/", "b\u00fccher.example"),
    ],
)
def test_hosts_of_urls(text: str, host: str) -> None:
    assert parse_url(text).host == host


def test_a_url_that_can_be_sent_is_sent_as_it_is() -> None:
    signed = "http://example.com/a%2Fb%7E?sig=%2b%20c+/=&x=(1)"
    assert str(parse_url(signed)) == signed
    assert parse_url("http://example.com/a b\u00e9").raw_path == "/a%20b%C3%A9"


def test_names_are_resolved_and_checked() -> None:
    async def resolve(resolver: PublicResolver, host: str) -> set[str]:
        try:
            return {found["host"] for found in await resolver.resolve(host, 80)}
        finally:
            await resolver.close()

    for host in ("localhost", "0x7f000001"):
        with pytest.raises(FetchError, match=f"^{host} at .* is not on the public internet$") as caught:
            asyncio.run(resolve(PublicResolver(), host))
        assert caught.value.status == Status.PRIVATE_HOST
    assert asyncio.run(resolve(PublicResolver(["127.0.0.0/8", "::1/128"]), "localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(FetchError, match=r"^'a{70}.example' is no name of a host$") as caught:
        asyncio.run(resolve(PublicResolver(), "a" * 70 + ".example"))
    assert caught.value.status == Status.BAD_URL


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("Mon, 01 Jan 2024 00:01:30 GMT", 90),
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("\u0664", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, datetime(2024, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        (["noai"], "noai"),
        (["all", " NoFollow , NOIMAGEAI"], "noimageai"),
        (["none"], "noindex"),
        (["nofollow, max-snippet: 20"], None),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noindex"], "noindex"),
        (["somebot: noindex, noai"], None),
        (["somebot: noindex, *: noai"], "noai"),
        (["JointNet: noindex"], "noindex"),
        (["somebot: noindex", "noai"], "noai"),
    ],
)
def test_robots(values: list[str], expected: str | None) -> None:
    assert forbidding_directive(values, "jointnet", OURS) == expected


def test_groups_of_failures() -> None:
    chosen = failure_filter(["timeout", "5xx", "http_404", "truncated"])
    assert all(map(chosen, ["timeout_stall", "timeout_connect", "http_503", "http_599", "http_404", "truncated"]))
    assert not any(map(chosen, ["success", "http_403", "empty"]))
    everything = failure_filter(["all"])
    assert everything("http_999") and everything("unexpected") and not everything("success")
    named = set().union(*GROUPS.values())
    assert {name for name in named if not name.startswith("http_")} <= set(Status)
    assert is_transient("http_429") and is_transient("http_503") and not is_transient("http_404")


@pytest.mark.parametrize(("name", "hint"), [("timeouts", "timeout"), ("success", "groups"), ("http_4", "http_404")])
def test_names_of_no_failure(name: str, hint: str) -> None:
    with pytest.raises(UserError, match="unknown failure class") as caught:
        failure_filter([name])
    assert caught.value.hint and hint in caught.value.hint
