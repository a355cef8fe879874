"""Which hosts may be asked, what their headers say, and the names of failures."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest

from jointnet_cli.data.web.hosts import EVERYWHERE, PublicResolver, host_name, is_public, parse_url
from jointnet_cli.data.web.http import retry_after
from jointnet_cli.data.web.status import GROUPS, FetchError, Status, failure_filter, is_transient
from jointnet_cli.errors import UserError


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "172.32.0.1",
        "2001:200::1",
    ],
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
        *("fec0::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "64:ff9b:1::808:808", "64:ff9b:1:ffff::1", "64:ff9b:2::1"),
        *("0.1.2.3", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.19.255.255", "198.51.100.1"),
        *(
            "::ffff:0:8.8.8.8",
            "::ffff:0:10.0.0.1",
            "::8.8.8.8",
            "::ffff:192.88.99.1",
            "2002:c0a8:1::1",
            "2002:e000:1::",
        ),
        *("64:ff9b::c000:201", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:192.168.0.1", "fe80::5efe:8.8.8.8"),
        "2001:db8::5efe:8.8.8.8",
        *("100::1", "100:0:0:1::1", "2001:2::1", "2001:10::1", "2001:1::1", "2001:20::1", "2001:1ff:ffff::1"),
        *("3fff::1", "3ffe::1", "5f00::1", "4000::1", "fdff::1", "ff0e::1", "ffff::1"),
    ],
)
def test_addresses_that_are_not(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(FetchError, match=rf"^{re.escape(address)} is not on the public internet$") as caught:
        PublicResolver().check(address)
    assert caught.value.status == Status.PRIVATE_HOST
    PublicResolver(EVERYWHERE).check(address)


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
        ("http://127.0.0.1./", "127.0.0.1"),
        ("http://example.com./a%2Fb", "example.com"),
    ],
)
def test_hosts_of_urls(text: str, host: str) -> None:
    assert parse_url(text).host == host


@pytest.mark.parametrize(
    "texts",
    [
        [
            "http://b\u00fccher.example/",
            "https://xn--bcher-kva.example:443",
            "HTTP://B\u00dcCHER.EXAMPLE.:80/x",
            "http://b\u00fccher\u3002example",
        ],
        ["http://example.com/", "http://example.com:80/", "https://example.com:8443/", "https://EXAMPLE.com./"],
        [
            "http://8.8.8.8/",
            "http://[::ffff:8.8.8.8]/",
            "http://[::ffff:808:808]:80/",
            "http://0x8.8.8.8",
            "http://134744072",
        ],
        ["http://[2606:4700::1111]/", "http://[2606:4700:0:0:0:0:0:1111]:80/"],
    ],
)
def test_one_host_has_one_name(texts: list[str]) -> None:
    assert len({host_name(parse_url(text)) for text in texts}) == 1


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
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("\u0664", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, datetime(2024, 1, 1, tzinfo=UTC)) == seconds


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
