"""All settings of `prepare`: defaults of the kind of source, recipe, `--set` and flags, later ones winning."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from jointnet_cli import __version__
from jointnet_cli.data.rows import PLACE_DIGITS
from jointnet_cli.data.source_files import WORLDS
from jointnet_cli.errors import UserError
from jointnet_cli.params import Param

STRICT = {"extra": "forbid"}
"""Pydantic's configuration of the tables: unknown keys are refused."""

ResizeMode = Literal["center_crop", "keep_ratio", "border", "no"]

ROBOT = "jointnet"
"""The name that `X-Robots-Tag` may address."""

OPT_OUT = ("noai", "noimageai", "noindex", "noimageindex")

LARGEST_PIXELS = 178_000_000
"""Where Pillow itself refuses to open an image."""

COYO = "prepare/coyo"
"""The recipe of a preparation without a source, and of tables with COYO's columns."""

WORLD_DEFAULTS = {"image": {"size": 128}, "shards": {"size": 500}}
"""Defaults of rendered worlds that are not those of images."""


_Bound = partial(Param, panel="Filter", shown="recipe's")
_Download = partial(Param, panel="Download")
_Worlds = partial(Param, panel="Worlds")


@dataclass(frozen=True)
class FilterSettings:
    """Strict bounds; `None` is no bound. A row without a value does not pass a bound."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**STRICT, "allow_inf_nan": False}

    side_above: Annotated[int | None, _Bound("Both sides are larger.", "PIXELS", ge=0)] = None
    """Pixels of the shorter side, as the source states it and again as measured after the download."""
    watermark_below: Annotated[float | None, _Bound("Of COYO's detector.", "SCORE")] = None
    aesthetic_above: Annotated[float | None, _Bound("LAION's aesthetic score.", "SCORE")] = None
    nsfw_below: Annotated[float | None, _Bound("Of both detectors.", "SCORE")] = None
    """Both detectors of COYO have to agree."""
    clip_above: Annotated[float | None, _Bound("Similarity of image and caption, ViT-L/14.", "SCORE")] = None
    aspect_below: Annotated[float | None, _Bound("Longer side over shorter.", "RATIO"), Gt(1)] = None
    caption_above: Annotated[int | None, _Bound("Characters of the caption.", "N", ge=0)] = None
    caption_below: Annotated[int | None, _Bound("Characters of the caption.", "N", ge=1)] = None
    dedupe: tuple[str, ...] = ("url",)
    """Columns to deduplicate by, in this order. Of rows with equal values the first in the source's order is kept; rows
    without a value are all kept."""


@dataclass(frozen=True)
class ImageSettings:
    """Size and encoding of the images."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    size: Annotated[int, Param("Pixels of a side.", "PIXELS", ge=1, shown="128 for worlds, recipe's, else 512")] = 512
    resize: Annotated[
        ResizeMode, _Download("How an image becomes --size large.", shown="recipe's, else center_crop")
    ] = "center_crop"
    """`center_crop`: the middle square, size x size. `keep_ratio`: the shorter side becomes `size`. `border`: the longer
    side becomes `size`, white added to a square. `no`: as it is."""
    quality: Annotated[int, Ge(1), Le(100)] = 95
    """Of the JPEG, where one has to be written."""


@dataclass(frozen=True)
class FetchSettings:
    """Limits and timeouts of downloads. Times are in seconds.

    Memory is bounded by twice `concurrency` bodies of at most `max_bytes`, and `decoders` processes of at most `decode_bytes`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    max_bytes: Annotated[int, Ge(1)] = 32 * 1024**2
    """Of a body."""
    max_wire_bytes: Annotated[int | None, Ge(1)] = None
    """Of all that comes for one image: redirects, headers, body, its encoding in chunks and trailers together. `None` is
    1 MiB and 1.25 times `max_bytes`."""
    max_pixels: Annotated[int, Ge(1), Le(LARGEST_PIXELS)] = 64_000_000

    concurrency: Annotated[int, _Download("Requests at a time.", "N", ge=1, shown="recipe's, else 128")] = 128
    """Rows in work at a time: from the request until the result is taken. A request that lasts longer than `rate_grace`
    gives its place to another row; as many again may last longer."""
    per_host: Annotated[int, _Download("Of these, at one host.", "N", ge=1, shown="recipe's, else 8")] = 8
    decoders: Annotated[int | None, Ge(1)] = None
    """Processes that decode and encode; `None` takes one a core."""
    decode_timeout: Annotated[float, Gt(0)] = 30.0
    """Processor time of one image."""
    decode_bytes: Annotated[int, Ge(1)] = 4 * 1024**3
    """Memory that decoding one image may take (Linux)."""
    request_timeout: Annotated[float, Gt(0)] = 300.0
    """Of the requests for one image, from the host's name to the last byte, redirects together."""
    connect_timeout: Annotated[float, Gt(0)] = 10.0
    """From the host's name to the connection."""
    stall_timeout: Annotated[float, Gt(0)] = 20.0
    """Without a byte, and for the headers as a whole."""
    min_rate: Annotated[int, Ge(0)] = 2048
    """Bytes a second, on average since the body's first byte, once `rate_grace` has passed."""
    rate_grace: Annotated[float, Gt(0)] = 10.0
    retries: Annotated[int, Ge(0)] = 2
    """Further attempts after a failure that may be transient."""
    retry_delay: Annotated[float, Ge(0)] = 1.0
    """Before the first further attempt; doubled before each one after it, with jitter."""
    max_retry_delay: Annotated[float, Ge(0)] = 60.0
    """A host that asks to wait longer is not asked again."""
    host_pauses: Annotated[int, Ge(0)] = 4
    """Times in a row that a host may ask to be left alone (429, or 503 with `Retry-After`); then it is not asked again."""
    max_redirects: Annotated[int, Ge(0)] = 5

    allow_private_hosts: Annotated[
        bool,
        _Download("Fetch from this machine and its network too.", flag="--allow-private-hosts", shown=False),
    ] = False
    allowed_networks: tuple[str, ...] = ()
    """Networks that are allowed although they are not public, such as `10.1.0.0/16`."""
    roots: tuple[str, ...] = ()
    """Folders in which a table may name files, beside its own and the working directory."""
    verify_certificates: bool = True
    opt_out: tuple[str, ...] = OPT_OUT
    """Directives of `X-Robots-Tag` that are honoured."""
    user_agent: str = f"Mozilla/5.0 (compatible; {ROBOT}/{__version__})"

    @property
    def decoder_count(self) -> int:
        """`decoders`, or the number of cores."""
        return self.decoders or os.cpu_count() or 1

    @property
    def wire_bytes(self) -> int:
        """`max_wire_bytes`, or what it is by default."""
        return self.max_wire_bytes or 1024**2 + self.max_bytes + self.max_bytes // 4


@dataclass(frozen=True)
class ShardSettings:
    """Size of the shards."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    size: Annotated[
        int,
        Param("Images per shard.", "N", ge=1, flag="--shard-size", shown="500 for worlds, recipe's, else 1000"),
    ] = 1000
    """Images that are wanted, a shard; those that fail leave gaps."""


@dataclass(frozen=True)
class WorldSettings:
    """Which worlds are rendered."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**STRICT, "allow_inf_nan": False}

    seed: Annotated[
        int | None,
        _Worlds(
            "Seed of the first scene; scene n has seed + n.",
            "N",
            ge=0,
            shown="0, with --evaluation the first reserved one",
        ),
    ] = None
    evaluation: Annotated[
        bool,
        _Worlds("Use the seeds reserved for evaluation; never train on these.", flag="--evaluation", shown=False),
    ] = False
    tilted: Annotated[
        float | None,
        _Worlds(
            "Share of the scenes whose camera looks up, down or wide.",
            "SHARE",
            ge=0,
            le=1,
            shown="0.25, 0 with --evaluation",
        ),
    ] = None


@dataclass(frozen=True)
class PrepareSettings:
    """Settings of a preparation, as a recipe has them."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    description: str = ""
    source: str = ""
    """What a command without a source reads: `worlds`, a path, a pattern or an address. A table `worlds` implies the first."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name of a column -> the source's. Needed only where the two differ: `url`, `caption` and COYO's names."""
    filter: FilterSettings = FilterSettings()
    image: ImageSettings = ImageSettings()
    fetch: FetchSettings = FetchSettings()
    shards: ShardSettings = ShardSettings()
    worlds: WorldSettings = WorldSettings()

    @property
    def min_side(self) -> int:
        """Least shorter side of an original, in pixels."""
        return 0 if self.filter.side_above is None else self.filter.side_above + 1

    @property
    def content(self) -> dict[str, Any]:
        """The settings that change the images of a set, without those that change only its speed."""
        image, fetch = self.image, self.fetch
        return {
            "size": image.size,
            "resize": image.resize,
            "quality": image.quality,
            "min_side": self.min_side,
            "max_aspect": self.filter.aspect_below,
            "max_bytes": fetch.max_bytes,
            "max_pixels": fetch.max_pixels,
            "opt_out": list(fetch.opt_out),
        }


def prepare_settings(
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    worlds: bool | None = None,
) -> PrepareSettings:
    """Merge defaults, recipe, `--set` and flags, later ones winning, and validate the result once.

    Args:
        recipe: a TOML file, or the name of a shipped recipe.
        overrides, flags: as for `read_values`.
        worlds: whether the source is rendered worlds, which have other defaults; `None` looks at the recipe's `source`.

    Raises:
        UserError: no such recipe, invalid TOML, an unknown key (with the nearest valid one) or a value out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    from jointnet_cli.files.paths import shipped_files
    from jointnet_cli.recipe_file import find_recipe, merge, read_values, refusal, require_command

    path = None if recipe is None else find_recipe(recipe, shipped_files())
    where = path or "settings"
    given, values = read_values(path, overrides, flags), dict[str, Any]()
    require_command("prepare", str(recipe), given)
    if worlds is None:
        if "worlds" in given:
            given.setdefault("source", WORLDS)
        worlds = given.get("source") == WORLDS
    merge(values, WORLD_DEFAULTS if worlds else {})
    merge(values, given)
    try:
        settings = TypeAdapter(PrepareSettings).validate_python(values)
    except ValidationError as error:
        raise refusal(where, error, PrepareSettings) from None
    _check(settings, where, worlds)
    return settings


def _check(settings: PrepareSettings, where: str | Path, worlds: bool) -> None:
    if not worlds and settings.shards.size > 10**PLACE_DIGITS:
        raise UserError(
            f"{where}: shards.size: a shard holds 1 to {10**PLACE_DIGITS} images, not {settings.shards.size}"
        )
    if worlds and settings.image.size < 16:
        raise UserError(
            f"{where}: image.size must be at least 16 for worlds, got {settings.image.size}", hint="--size 16"
        )
    agent = settings.fetch.user_agent
    if not (agent.isprintable() and agent.isascii()):
        raise UserError(f"{where}: fetch.user_agent must be one line of ASCII")
    try:
        [ip_network(network) for network in settings.fetch.allowed_networks]
    except ValueError as error:
        hint = "10.1.0.0/16, 192.168.1.7/32 or fd00::/8, for example"
        raise UserError(f"{where}: fetch.allowed_networks: {error}", hint=hint) from error
