"""`jointnet panorama`: a wide image with depth, drawn tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jointnet_cli.cli.batch import Item, run_batch
from jointnet_cli.cli.items import list_items
from jointnet_cli.cli.options import (
    SAMPLING_PANEL,
    BatchOptions,
    ModelOptions,
    OutputOptions,
    PromptOptions,
    TiledSamplingOptions,
    option,
)
from jointnet_cli.cli.view import VIEW_PANEL
from jointnet_cli.projection import FULL_CIRCLE, closes
from jointnet_cli.sampling.presets import Method
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import Panorama


@dataclass(frozen=True)
class ViewOptions:
    """What part of the surroundings the panorama shows, and in how many pixels."""

    width: Annotated[
        int, option("--width", panel=VIEW_PANEL, min=1, metavar="PIXELS", help="Width of the whole picture.")
    ] = 2048
    height: Annotated[
        int | None,
        option("--height", panel=VIEW_PANEL, min=1, metavar="PIXELS", help="Height.", show_default="model's"),
    ] = None
    span: Annotated[
        float,
        option("--span", panel=VIEW_PANEL, min=1, max=FULL_CIRCLE, metavar="DEGREES", help="Horizontal field of view."),
    ] = FULL_CIRCLE
    wrap: Annotated[
        bool | None,
        option(
            "--wrap/--no-wrap",
            panel=VIEW_PANEL,
            help="Let the left edge continue the right edge.",
            show_default="on exactly when the span is 360",
        ),
    ] = None


@dataclass(frozen=True)
class TileOptions:
    """How the tiles of a step are laid out and joined (paper 4.2)."""

    method: Annotated[
        Method,
        option(
            "--method",
            panel=SAMPLING_PANEL,
            help="This paper's way, or one of those that it compares itself with; decides the defaults below.",
        ),
    ] = "jointnet"
    stride: Annotated[
        int | None,
        option(
            "--stride",
            panel=SAMPLING_PANEL,
            min=1,
            metavar="PIXELS",
            help="Step between tiles.",
            show_default="the method's",
        ),
    ] = None
    taper: Annotated[
        int | None,
        option(
            "--taper",
            panel=SAMPLING_PANEL,
            min=0,
            metavar="PIXELS",
            help="Width over which a tile fades out towards its left and right side.",
            show_default="the method's",
        ),
    ] = None
    whole_image_until: Annotated[
        float | None,
        option(
            "--whole-image-until",
            panel=SAMPLING_PANEL,
            min=0,
            max=1,
            metavar="FRACTION",
            help="Fraction of the steps in which the whole image takes part as one more tile.",
            show_default="the method's",
        ),
    ] = None
    whole_image_weight: Annotated[
        float | None,
        option(
            "--whole-image-weight",
            panel=SAMPLING_PANEL,
            min=0,
            metavar="WEIGHT",
            help="Weight of that tile.",
            show_default="the method's",
        ),
    ] = None


def panorama(
    prompts: PromptOptions,
    batch: BatchOptions,
    *,
    view: ViewOptions,
    tiles: TileOptions,
    sampling: TiledSamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
    scene: SceneOptions,
) -> None:
    """Make a panorama together with its depth from a prompt.

    The picture is drawn by overlapping tiles that share their noise; a full circle joins at its seam. Writes the
    image, a 16-bit disparity PNG, an EXR, the textured mesh of the surroundings and a JSON record per result.
    """

    def item(
        index: int, prompts: PromptOptions, view: ViewOptions, tiles: TileOptions, sampling: TiledSamplingOptions
    ) -> Item:
        task = Panorama(
            prompt=prompts.prompt,
            seed=prompts.seed,
            negative_prompt=prompts.negative_prompt,
            width=view.width,
            height=view.height,
            span=view.span,
            wrap=closes(view.span, view.wrap),
            method=tiles.method,
            stride=tiles.stride,
            taper=tiles.taper,
            whole_image_until=tiles.whole_image_until,
            whole_image_weight=tiles.whole_image_weight,
            sampling=sampling.request(),
        )
        return Item(
            kind="panorama",
            index=index,
            prompt=task.prompt,
            seed=task.seed,
            sampling=sampling,
            load=lambda: task,
            panorama=True,
        )

    run_batch(list_items(item, batch, prompts, view, tiles, sampling), model, output, scene)
