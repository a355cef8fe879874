"""All settings of `prepare`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from jointnet_cli import __version__
from jointnet_cli.data.rows import PLACE_DIGITS
from jointnet_cli.errors import UserError, did_you_mean
from jointnet_cli.recipe_file import RecipeTable, find_recipe, read_values, refusal, shipped_files, telling_fault


class Filter(RecipeTable, allow_inf_nan=False):
    """Bounds, all of them strict; `None` asks for nothing. A row without a value for a bound does not pass it."""

    side_above: int | None = Field(None, ge=0)
    """Pixels of the shorter side, by the source's word and again when the image has come."""
    watermark_below: float | None = None
    aesthetic_above: float | None = None
    nsfw_below: float | None = None
    """Both detectors of COYO have to agree."""
    clip_above: float | None = None
    """Similarity of image and caption (ViT-L/14)."""
    aspect_below: float | None = Field(None, gt=1)
    """Longer side over shorter side."""
    caption_above: int | None = Field(None, ge=0)
    """Characters of the caption."""
    caption_below: int | None = Field(None, ge=1)
    dedupe: list[str] = Field(["url"])
    """Columns to deduplicate by, in this order. Of rows with equal values the first in the source's order is kept; rows
    without a value are all kept."""


@dataclass(frozen=True)
class Sifting:
    """All that decides the set."""

    source: str
    columns: dict[str, str]
    filter: Filter
    shard_size: int
    image: dict[str, Any] = field(default_factory=dict)
    """What becomes of an image: a set has images of one kind."""

    def __post_init__(self) -> None:
        if not 1 <= self.shard_size <= 10**PLACE_DIGITS:
            raise UserError(f"a shard of a download holds 1 to {10**PLACE_DIGITS} images, not {self.shard_size}")

    def facts(self) -> dict[str, Any]:
        """As it is recorded: the source by a name that means the same from every folder."""
        source = self.source if "://" in self.source else str(Path(self.source).absolute())
        return {**asdict(self), "source": source, "filter": self.filter.model_dump()}


IMAGE = ("size", "resize", "quality")
"""The settings of the fetcher that the table `image` has; `fetch` has the others."""

DERIVED = ("min_side", "max_aspect")
"""The settings of the fetcher that follow from the filter."""

CONTENT = (*IMAGE, *DERIVED, "max_bytes", "max_pixels", "opt_out")
"""The settings of the fetcher that decide which images there are and what they are like, not only how fast they come."""


class Shards(RecipeTable):
    """How the images are divided."""

    size: int = Field(1000, ge=1, le=10_000)
    """Images that are wanted, a shard; those that fail leave gaps."""


class PrepareRecipe(RecipeTable):
    """A download."""

    description: str = ""
    columns: dict[str, str] = Field({})
    """Our name of a column -> the source's. Needed only where the two differ: `url`, `caption` and COYO's names."""
    filter: Filter = Filter()
    image: dict[str, Any] = Field({})
    fetch: dict[str, Any] = Field({})
    shards: Shards = Shards()

    def settings(self, **changes: Any) -> FetchSettings:
        """The fetcher's settings; the size that images really have is checked against the filter's bounds.

        Raises:
            UserError: an unknown setting, with the nearest name, or a value out of range.
        """
        names = [field.name for field in fields(FetchSettings) if field.name not in DERIVED]
        _check_names("image", self.image, IMAGE)
        _check_names("fetch", self.fetch, [name for name in names if name not in IMAGE])
        side = self.filter.side_above
        derived = {"min_side": 0 if side is None else side + 1, "max_aspect": self.filter.aspect_below}
        try:
            return TypeAdapter(FetchSettings).validate_python({**self.image, **self.fetch, **derived, **changes})
        except ValidationError as error:
            fault = telling_fault(error)
            raise UserError(f"{fault['loc'][0]}: {fault['msg'].lower()}") from None

    def sifting(self, source: str) -> Sifting:
        """What the set of images from a source follows from."""
        settings = TypeAdapter(FetchSettings).dump_python(self.settings(), mode="json")
        return Sifting(
            source,
            dict(self.columns),
            self.filter,
            self.shards.size,
            image={name: settings[name] for name in CONTENT},
        )


def prepare_recipes() -> dict[str, Path]:
    """The recipes of downloads that come with the package, by name such as `prepare/coyo`."""
    return {name: path for name, path in shipped_files().items() if name.startswith("prepare/")}


def load_prepare_recipe(
    name: str | None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> PrepareRecipe:
    """Read and validate a recipe; without a name, the one that asks for nothing.

    Args:
        name: a TOML file, or the name of a shipped recipe.
        overrides: `table.key=value` settings that replace the file's; values are TOML, bare words are strings.
        flags: tables of values that replace both.

    Raises:
        UserError: no such recipe, invalid TOML, an unknown key (with the nearest valid one) or a value out of range.
    """
    path = None if name is None else find_recipe(name, prepare_recipes())
    values = read_values(path, overrides, flags)
    try:
        return PrepareRecipe.model_validate(values)
    except ValidationError as error:
        fault = telling_fault(error)
        table = PrepareRecipe.model_fields.get(str(fault["loc"][0]))
        kind = table.annotation if table and len(fault["loc"]) > 1 else PrepareRecipe
        valid = list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, RecipeTable) else []
        raise refusal(path or "settings", ".".join(map(str, fault["loc"])), fault, valid) from None


def _check_names(table: str, given: dict[str, Any], valid: Sequence[str]) -> None:
    for name in given:
        if name not in valid:
            hint = did_you_mean(name, valid) or f"valid keys: {', '.join(sorted(valid))}"
            raise UserError(f"unknown key {table}.{name}", hint=hint)


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
