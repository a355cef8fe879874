"""Damaged answers of a real server on this machine: status lines, headers, chunked and compressed bodies, redirects."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from helpers.answers import JPEG
from helpers.fuzzing import ask, damaged, some
from helpers.web import Web, head, raw, running
from hypothesis import given
from hypothesis import strategies as st

CHUNKS = b"".join(
    b"%x;a=b\r\n" % len(JPEG[at : at + 97]) + JPEG[at : at + 97] + b"\r\n" for at in range(0, len(JPEG), 97)
)
ODD = {
    "Set_Cookie": "a=b; Expires=Wed, 09 Jun 2031 10:18:14 GMT",
    "X_Robots_Tag": "otherbot: noai, nofollow",
    "Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT",
}
ANSWERS = {
    "length": head(length=len(JPEG), **ODD) + JPEG,
    "chunked": head(Transfer_Encoding="chunked", **ODD) + CHUNKS + b"0\r\nX-Trailer: words\r\n\r\n",
    "until the end": head() + JPEG,
    "gzip": head(Content_Encoding="gzip", Transfer_Encoding="chunked") + b"%x\r\n" % len(gzip.compress(JPEG))
    + gzip.compress(JPEG) + b"\r\n0\r\n\r\n",
    "redirect": head(302, length=0, Location="http://127.0.0.1:1/a?b#c"),
    "busy": head(503, length=2, Retry_After="120") + b"no",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head(length=len(JPEG)) + JPEG,
}  # fmt: skip

NAMES = ["Content-Length", "Transfer-Encoding", "Content-Encoding", "Location", "Retry-After", "X-Robots-Tag"]
VALUES = ["", "-1", "0", "9" * 400, "chunked", "gzip, br", "http://[::1", "//a\x00b", "\xff\xfe", "1e9", "\t"]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with running(Web()) as web:
        yield web


@pytest.mark.parametrize("kind", ANSWERS)
@some
@given(st.data())
def test_answers(web: Web, kind: str, draw: st.DataObject) -> None:
    web.answers["a"] = raw(damaged(draw, ANSWERS[kind]))
    ask(web.url("a"))


@some
@given(st.data())
def test_headers(web: Web, draw: st.DataObject) -> None:
    lines = draw.draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20)), max_size=5)
    )
    status = draw.draw(st.sampled_from([b"200 OK", b"302 Found", b"429", b"999 \xff", b"-1", b"99999", b"204 None"]))
    told = b"".join(f"{name}: {value}\r\n".encode("utf-8", "replace") for name, value in lines)
    web.answers["a"] = raw(damaged(draw, b"HTTP/1.1 " + status + b"\r\n" + told + b"\r\n" + JPEG))
    ask(web.url("a"))
