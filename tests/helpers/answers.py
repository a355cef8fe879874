"""Every way in which a web of strangers answers, and the class that each ends in."""

from __future__ import annotations

import gzip

from helpers import web as bad_web
from helpers.web import SIDE, Answer, encoded, head, photo, raw, redirect, reply
from PIL import Image

from jointnet_cli.data.settings import FetchSettings, FilterSettings, ImageSettings, PrepareSettings

JPEG = encoded(photo(), quality=95)
SETTINGS = PrepareSettings(
    filter=FilterSettings(side_above=15, aspect_below=3),
    image=ImageSettings(size=SIDE),
    fetch=FetchSettings(
        max_bytes=100_000,
        max_pixels=1_000_000,
        concurrency=40,
        connect_timeout=10,
        stall_timeout=1,
        min_rate=300,
        rate_grace=2,
        retry_delay=0.02,
        max_retry_delay=2,
        max_redirects=3,
        per_host=100,
        decoders=2,
        allowed_networks=("127.0.0.1/32",),
    ),
)

UNRESOLVABLE = f"http://{'a.' * 130}invalid/"
"""Longer than any name of a host: the resolver says no without asking the network."""

CHUNKED = head(Transfer_Encoding="chunked")

LAST_CHUNK = b"%x\r\n" % len(JPEG) + JPEG + b"\r\n0\r\n"

ANSWERS: dict[str, tuple[Answer, str]] = {
    "good": (reply(JPEG), "success"),
    "404": (reply(b"no", 404), "http_404"),
    "403": (reply(code=403), "http_403"),
    "204": (raw(head(204)), "http_204"),
    "500-heals": (bad_web.heals(reply(code=500), reply(JPEG), after=2), "success"),
    "503": (reply(code=503), "http_503"),
    "999": (reply(code=999), "http_999"),
    "loris-body": (bad_web.drip(head(length=5000) + JPEG[:20], b"z" * 1000, 0.05), "timeout_slow"),
    "slow-but-living": (bad_web.drip(head(length=len(JPEG)) + JPEG[:-16], JPEG[-16:], 0.1), "success"),
    "silence": (bad_web.stall(), "timeout_stall"),
    "stall-in-body": (bad_web.stall(head(length=len(JPEG)) + JPEG[:500]), "timeout_stall"),
    "truncated": (raw(head(length=len(JPEG)) + JPEG[:500]), "truncated"),
    "truncated-chunks": (raw(head(Transfer_Encoding="chunked") + b"200\r\n" + JPEG[:512] + b"\r\n"), "truncated"),
    "heals-after-truncated": (bad_web.heals(raw(head(length=9999) + JPEG), reply(JPEG)), "success"),
    "length-too-short": (raw(head(length=500) + JPEG), "bad_answer"),
    "no-length": (raw(head() + JPEG), "success"),
    "chunks": (raw(head(Transfer_Encoding="chunked") + b"%x\r\n" % len(JPEG) + JPEG + b"\r\n0\r\n\r\n"), "success"),
    "chunk-extensions": (
        bad_web.flood(CHUNKED + b"3\r\n\xff\xd8\xff\r\n", b"20;" + b"x" * 4000 + b"\r\n" + bytes(32) + b"\r\n"),
        "too_large",
    ),
    "trailers": (bad_web.flood(CHUNKED + LAST_CHUNK, b"X: " + b"y" * 4000 + b"\r\n"), "truncated"),
    "empty": (reply(b""), "empty"),
    "html-as-jpeg": (reply(b"<!doctype html><html><body>gone</body></html>"), "not_an_image"),
    "endless-html": (bad_web.endless(b"<html>", b"<p>" * 1000), "not_an_image"),
    "octet-stream": (reply(JPEG, Content_Type="text/html"), "success"),
    "too-large-announced": (raw(head(length=10**9) + JPEG), "too_large"),
    "endless": (bad_web.endless(b"\xff\xd8\xff"), "too_large"),
    "gzip": (reply(gzip.compress(JPEG), Content_Encoding="gzip"), "success"),
    "gzip-bomb": (reply(bad_web.gzip_bomb(), Content_Encoding="gzip"), "too_large"),
    "gzip-cut": (reply(gzip.compress(JPEG)[:-20], Content_Encoding="gzip"), "truncated"),
    "gzip-not": (reply(JPEG, Content_Encoding="gzip"), "bad_encoding"),
    "brotli": (reply(JPEG, Content_Encoding="br"), "bad_encoding"),
    "reset": (bad_web.reset, "connection_reset"),
    "closed": (raw(b""), "connection_reset"),
    "not-http": (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "bad_answer"),
    "endless-headers": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 10**6 + b"\r\n\r\n"), "bad_answer"),
    "redirect": (redirect("/redirect-2"), "success"),
    "redirect-2": (redirect("good", 301), "success"),
    "redirect-loop": (redirect("redirect-loop-2"), "redirect_loop"),
    "redirect-loop-2": (redirect("redirect-loop"), "redirect_loop"),
    "redirect-to-itself": (redirect("redirect-to-itself"), "redirect_loop"),
    **{f"chain-{n}": (redirect(f"chain-{n + 1}"), "too_many_redirects") for n in range(2)},
    "chain-2": (redirect("chain-3"), "success"),
    "chain-3": (redirect("chain-4"), "success"),
    "chain-4": (redirect("good"), "success"),
    "redirect-nowhere": (reply(code=302), "http_302"),
    "redirect-to-a-file": (redirect("file:///etc/passwd"), "bad_redirect"),
    "redirect-to-ftp": (redirect("ftp://127.0.0.1/a.jpg"), "bad_redirect"),
    "redirect-to-data": (redirect("data:image/png;base64,AAAA"), "bad_redirect"),
    "redirect-to-a-unix-socket": (redirect("http+unix://%2Frun%2Fdocker.sock/images"), "bad_redirect"),
    "redirect-to-nonsense": (redirect("http://[::1"), "bad_redirect"),
    "redirect-to-this-machine": (redirect("http://127.0.0.2/"), "private_host"),
    "redirect-to-its-ipv6": (redirect("http://[::1]/"), "private_host"),
    "redirect-to-a-number": (redirect("http://2130706434/"), "private_host"),
    "redirect-to-octal": (redirect("http://0177.0.0.2/"), "private_host"),
    "redirect-to-mapped": (redirect("http://[::ffff:127.0.0.2]/"), "private_host"),
    "redirect-to-metadata": (redirect("http://169.254.169.254/latest/meta-data"), "private_host"),
    "redirect-to-the-neighbour": (redirect("http://192.168.0.1/"), "private_host"),
    "noai": (reply(JPEG, X_Robots_Tag="noai"), "opted_out"),
    "noindex-for-us": (reply(JPEG, X_Robots_Tag="otherbot: nofollow, jointnet: NOINDEX"), "opted_out"),
    "noindex-for-others": (reply(JPEG, X_Robots_Tag="otherbot: noindex, noai"), "success"),
    "404-noindex": (reply(b"no", 404, X_Robots_Tag="noindex"), "http_404"),
    "redirect-noindex": (reply(code=302, Location="good", X_Robots_Tag="noindex"), "success"),
    "odd-cookie": (reply(JPEG, Set_Cookie="a=b; =;\x7f; Expires=@@;,,"), "success"),
    "huge-png": (reply(bad_web.huge_png()), "too_many_pixels"),
    "large-png": (reply(bad_web.huge_png(1001)), "too_many_pixels"),
    "small": (reply(encoded(photo(100, 15))), "too_small"),
    "long": (reply(encoded(photo(100, 20))), "bad_aspect"),
    "jpeg-cut": (reply(JPEG[: len(JPEG) // 2]), "damaged_image"),
    "png-damaged": (reply(bad_web.huge_png(100)), "damaged_image"),
    "jpeg-start-only": (reply(JPEG[:3]), "damaged_image"),
    "png": (reply(encoded(photo(), "PNG")), "success"),
    "gif": (reply(encoded(photo(), "GIF", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))])), "success"),
    "cmyk": (reply(encoded(photo().convert("CMYK"))), "success"),
    "palette": (reply(encoded(photo().convert("P"), "PNG", transparency=0)), "success"),
    "grey-16": (reply(encoded(Image.new("I;16", (SIDE, SIDE), 30000), "PNG")), "success"),
    "webp": (reply(encoded(photo(), "WEBP")), "success"),
    "avif": (reply(encoded(photo(), "AVIF")), "success"),
    "heic": (reply(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)), "needs_heif"),
    "video": (reply(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(100)), "not_an_image"),
    "svg": (reply(b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'), "unsupported_format"),
    "icon": (reply(encoded(photo(), "ICO")), "unsupported_format"),
    "jxl": (reply(b"\xff\x0a" + bytes(50)), "unsupported_format"),
    "float-tiff": (reply(encoded(Image.new("F", (SIDE, SIDE)), "TIFF")), "unsupported_format"),
    "postscript": (reply(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n"), "not_an_image"),
    "rotated": (reply(bad_web.rotated_jpeg()), "success"),
    "profile": (reply(encoded(photo(), icc_profile=bad_web.swapped_profile())), "success"),
}
"""By path: the answer, and the status of its row."""
ELSEWHERE: dict[str, str] = {
    "http://": "bad_url",
    "": "bad_url",
    "http://[::1": "bad_url",
    "ftp://example.com/a.jpg": "bad_url",
    "data:image/png;base64,AAAA": "bad_url",
    "http://256.256.256.256/": "bad_url",
    UNRESOLVABLE: "dns_unknown",
    "http://127.0.0.2:1/": "private_host",
    "http://10.0.0.1/": "private_host",
    "missing.jpg": "missing_file",
    "/dev/zero": "unreadable_file",
    "with\0nul": "unreadable_file",
}
"""What no server is asked for, and the status of its row."""
