"""Requests to the hub, answered by a server on this machine that does not end its answers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from helpers.web import Answer, Web, drip, flood, head, raw, reply, running
from huggingface_hub import get_session

import jointnet_cli.model.hub_requests as hub_requests
from jointnet_cli.errors import UserError
from jointnet_cli.model.hub_requests import limit_requests

CHUNKED = head(Transfer_Encoding="chunked")


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with running(Web()) as web:
        yield web


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_requests, "TEXT_BYTES", 100_000)
    monkeypatch.setattr(hub_requests, "PACKED_BYTES", 1000)


def test_answers_within_the_limits(web: Web) -> None:
    web.answers["whole"] = reply(b"x" * 90_000)
    web.answers["chunks"] = raw(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", close=False)
    web.answers["packed"] = reply(gzip.compress(b"x" * 90_000), Content_Encoding="gzip")
    with limit_requests(90_000):
        assert get_session().get(web.url("whole")).content == b"x" * 90_000
        assert (
            "Accept-Encoding: identity" in web.headers["whole"] or "accept-encoding: identity" in web.headers["whole"]
        )
        assert get_session().get(web.url("chunks")).content == b"abc"
        assert get_session().get(web.url("packed")).content == b"x" * 90_000
        assert get_session().head(web.url("whole")).headers["Content-Length"] == "90000"
    web.answers["whole"] = reply(b"x" * 200_000)
    with limit_requests(200_000):
        assert len(get_session().get(web.url("whole")).content) == 200_000


def test_limits_end_with_their_context(web: Web) -> None:
    web.answers["whole"] = reply(b"x" * 90_000)
    with limit_requests(80_000), pytest.raises(UserError, match="more than 80,000"):
        get_session().get(web.url("whole"))
    assert len(get_session().get(web.url("whole")).content) == 90_000


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (flood(CHUNKED, b"1000\r\n" + bytes(4096) + b"\r\n"), "has more than 100,000 bytes"),
        (flood(head(), bytes(4096)), "has more than 100,000 bytes"),
        (flood(head(length=10**12), bytes(4096)), "has 1,000,000,000,000 bytes, more than 500,000"),
        (reply(gzip.compress(bytes(10**7)), Content_Encoding="gzip"), "has more than 1,000 bytes"),
        (drip(head(length=1000), b"x" * 1000, 0.02), "took longer than allowed"),
    ],
)
def test_answers_beyond_the_limits(web: Web, answer: Answer, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_requests, "GRACE", 0.1)
    web.answers["bad"] = answer
    refusal = rf"the answer of 127\.0\.0\.1 to a request for /bad {message}"
    with limit_requests(500_000), pytest.raises(UserError, match=refusal):
        get_session().get(web.url("bad"))
