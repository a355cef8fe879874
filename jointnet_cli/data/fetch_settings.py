"""What a download may take, and what its images become."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal, get_args

from jointnet_cli import __version__
from jointnet_cli.errors import UserError

ResizeMode = Literal["center_crop", "keep_ratio", "border", "no"]
ROBOT = "jointnet"
"""The name that `X-Robots-Tag` may address."""
OPT_OUT = ("noai", "noimageai", "noindex", "noimageindex")
LARGEST_PIXELS = 178_000_000
"""Where Pillow itself refuses to open an image."""


@dataclass(frozen=True)
class FetchSettings:
    """How rows are fetched. Times are in seconds. Raises `UserError` for values that make no sense.

    Memory is bounded by `concurrency` bodies of at most `max_bytes`, and `decoders` images of at most `max_pixels`.
    """

    size: int = 512
    """Pixels of a side, as `resize` takes it."""
    resize: ResizeMode = "center_crop"
    """`center_crop`: the middle square, size x size. `keep_ratio`: the shorter side becomes `size`. `border`: the longer
    side becomes `size`, white added to a square. `no`: as it is."""
    quality: int = 95
    """Of the JPEG, where one has to be written."""
    min_side: int = 0
    """The shorter side of the original has at least so many pixels."""
    max_aspect: float | None = None
    """The longer side of the original is at most so many times the shorter one."""
    max_bytes: int = 32 * 1024**2
    max_pixels: int = 64_000_000

    concurrency: int = 128
    """Rows in work at a time: from the request until the result is taken."""
    per_host: int = 8
    """Of these, at one host."""
    decoders: int | None = None
    """Threads that decode and encode; `None` takes one a core."""
    connect_timeout: float = 10.0
    """From the host's name to the connection."""
    stall_timeout: float = 20.0
    """Without a byte, and for the headers as a whole."""
    min_rate: int = 2048
    """Bytes a second, on average since the body's begin, once `stall_timeout` has passed."""
    retries: int = 2
    """Further attempts after a failure that may be transient."""
    retry_delay: float = 1.0
    """Before the first further attempt; doubled before each one after it, with jitter."""
    max_retry_delay: float = 60.0
    """A host that asks to wait longer is not asked again."""
    max_redirects: int = 5

    allow_private_hosts: bool = False
    allowed_networks: tuple[str, ...] = ()
    """Networks that are allowed although they are not public, such as `10.1.0.0/16`."""
    verify_certificates: bool = True
    opt_out: tuple[str, ...] = OPT_OUT
    """Directives of `X-Robots-Tag` that are honoured."""
    user_agent: str = f"Mozilla/5.0 (compatible; {ROBOT}/{__version__})"

    def __post_init__(self) -> None:
        for name in ("size", "concurrency", "per_host", "max_bytes", "max_pixels"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("connect_timeout", "stall_timeout"):
            self._require(getattr(self, name) > 0, name, "more than 0")
        for name in ("min_side", "min_rate", "retries", "retry_delay", "max_retry_delay", "max_redirects"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        self._require(self.decoders is None or self.decoders >= 1, "decoders", "at least 1")
        self._require(1 <= self.quality <= 100, "quality", "between 1 and 100")
        self._require(self.max_aspect is None or self.max_aspect >= 1, "max_aspect", "at least 1")
        self._require(self.max_pixels <= LARGEST_PIXELS, "max_pixels", f"at most {LARGEST_PIXELS}")
        self._require(self.resize in get_args(ResizeMode), "resize", f"one of {', '.join(get_args(ResizeMode))}")
        self._require(self.user_agent.isprintable() and self.user_agent.isascii(), "user_agent", "one line of ASCII")

        try:
            [ip_network(network) for network in self.allowed_networks]
        except ValueError as error:
            raise UserError(
                f"allowed networks: {error}", hint="10.1.0.0/16, 192.168.1.7/32 or fd00::/8, for example"
            ) from error

    @property
    def decoder_threads(self) -> int:
        """`decoders`, or the number of cores."""
        return self.decoders or os.cpu_count() or 1

    @staticmethod
    def _require(holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise UserError(f"{name.replace('_', ' ')} must be {rule}")
