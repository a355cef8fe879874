"""The flags of a download: which images of which source, and how they are fetched."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

import typer

from jointnet_cli.cli.options import option

SOURCE_PANEL, FILTER_PANEL, FETCH_PANEL, WORK_PANEL = (
    "Images: source",
    "Images: filter",
    "Images: fetching",
    "Images: work",
)


@dataclass(frozen=True)
class ImageSourceOptions:
    """What is wanted of which source; what is not given is the recipe's."""

    recipe: Annotated[
        str | None,
        option(
            "--recipe",
            panel=SOURCE_PANEL,
            metavar="RECIPE",
            help="A TOML file, or `prepare/coyo`: columns, filter, size and limits. The flags here override it.",
            show_default=False,
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        option(
            "--set",
            panel=SOURCE_PANEL,
            metavar="KEY=VALUE",
            help="Replace a setting, as in `fetch.retries=4`. Repeatable.",
        ),
    ] = None
    columns: Annotated[
        list[str] | None,
        option(
            "--columns",
            panel=SOURCE_PANEL,
            metavar="NAME=COLUMN …",
            help="Which column of the source is `url`, `caption`, `width` and so on; further pairs follow after a space "
            "or a comma.",
            show_default="by their names",
        ),
    ] = None
    more_columns: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="NAME=COLUMN")] = None
    """The pairs that follow `--columns` after a space."""
    side_above: Annotated[
        int | None,
        option(
            "--side-above",
            panel=FILTER_PANEL,
            min=0,
            metavar="PIXELS",
            help="Both sides are larger.",
            show_default="recipe's",
        ),
    ] = None
    watermark_below: Annotated[
        float | None,
        option(
            "--watermark-below",
            panel=FILTER_PANEL,
            metavar="SCORE",
            help="Of COYO's detector.",
            show_default="recipe's",
        ),
    ] = None
    aesthetic_above: Annotated[
        float | None,
        option(
            "--aesthetic-above",
            panel=FILTER_PANEL,
            metavar="SCORE",
            help="LAION's aesthetic score.",
            show_default="recipe's",
        ),
    ] = None
    nsfw_below: Annotated[
        float | None,
        option("--nsfw-below", panel=FILTER_PANEL, metavar="SCORE", help="Of both detectors.", show_default="recipe's"),
    ] = None
    clip_above: Annotated[
        float | None,
        option(
            "--clip-above",
            panel=FILTER_PANEL,
            metavar="SCORE",
            help="Similarity of image and caption, ViT-L/14.",
            show_default="recipe's",
        ),
    ] = None
    aspect_below: Annotated[
        float | None,
        option(
            "--aspect-below",
            panel=FILTER_PANEL,
            metavar="RATIO",
            help="Longer side over shorter.",
            show_default="recipe's",
        ),
    ] = None
    caption_above: Annotated[
        int | None,
        option(
            "--caption-above",
            panel=FILTER_PANEL,
            metavar="N",
            help="Characters of the caption.",
            show_default="recipe's",
        ),
    ] = None
    caption_below: Annotated[
        int | None,
        option(
            "--caption-below",
            panel=FILTER_PANEL,
            metavar="N",
            help="Characters of the caption.",
            show_default="recipe's",
        ),
    ] = None
    dedupe: Annotated[
        str | None,
        option(
            "--dedupe",
            panel=FILTER_PANEL,
            metavar="COLUMN,…",
            help="Keep one row of each value, column after column; empty for none.",
            show_default="recipe's, else url",
        ),
    ] = None


@dataclass(frozen=True)
class FetchOptions:
    """How the images are fetched, and by how many."""

    resize: Annotated[
        Literal["center_crop", "keep_ratio", "border", "no"] | None,
        option(
            "--resize",
            panel=FETCH_PANEL,
            help="How an image becomes --size large.",
            show_default="recipe's, else center_crop",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        option(
            "--concurrency",
            panel=FETCH_PANEL,
            min=1,
            metavar="N",
            help="Requests at a time.",
            show_default="recipe's, else 128",
        ),
    ] = None
    per_host: Annotated[
        int | None,
        option(
            "--per-host",
            panel=FETCH_PANEL,
            min=1,
            metavar="N",
            help="Of these, at one host.",
            show_default="recipe's, else 8",
        ),
    ] = None
    allow_private_hosts: Annotated[
        bool, option("--allow-private-hosts", panel=FETCH_PANEL, help="Fetch from this machine and its network too.")
    ] = False
    retry_failed: Annotated[
        str | None,
        option(
            "--retry-failed",
            panel=WORK_PANEL,
            metavar="CAUSE,…",
            help="Also fetch again what failed before for these causes: `timeout`, `5xx`, `http_404`, `all` and so on.",
            show_default=False,
        ),
    ] = None
    worker: Annotated[
        str | None,
        option(
            "--worker",
            panel=WORK_PANEL,
            metavar="I/N",
            help="Do the I-th of N parts, I from 1 to N.",
            show_default=False,
        ),
    ] = None
    cluster: Annotated[
        str | None,
        option(
            "--cluster",
            panel=WORK_PANEL,
            metavar="ray[=ADDRESS]",
            help="Send shards to the workers of a Ray cluster; without an address, to one on this machine.",
            show_default=False,
        ),
    ] = None


BOUNDS = tuple(field.name for field in fields(ImageSourceOptions) if field.name.endswith(("_above", "_below")))
"""The flags that are bounds of the filter."""
