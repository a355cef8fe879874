"""`jointnet panorama`: a wide image with depth, drawn tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jointnet_cli.cli.batch import items_of_prompts, run_batch
from jointnet_cli.cli.options import (
    SAMPLING_PANEL,
    ModelOptions,
    OutputOptions,
    PromptOptions,
    SamplingOptions,
    option,
)
from jointnet_cli.errors import UserError
from jointnet_cli.tasks import Panorama

VIEW_PANEL = "View"
FULL_CIRCLE = 360.0


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

    def wraps(self) -> bool:
        """Whether the picture closes to a ring.

        Raises:
            UserError: a ring was asked for that is no full circle.
        """
        full = self.span == FULL_CIRCLE
        if self.wrap and not full:
            raise UserError(
                f"--wrap needs a span of 360, not {self.span:g}",
                "leave --span out for a full circle, or give --no-wrap",
            )
        return full if self.wrap is None else self.wrap


@dataclass(frozen=True)
class TileOptions:
    """How the tiles of a step are laid out and joined (paper 4.2)."""

    stride: Annotated[
        int | None,
        option(
            "--stride",
            panel=SAMPLING_PANEL,
            min=1,
            metavar="PIXELS",
            help="Step between tiles.",
            show_default="half a tile",
        ),
    ] = None
    whole_image_until: Annotated[
        float,
        option(
            "--whole-image-until",
            panel=SAMPLING_PANEL,
            min=0,
            max=1,
            metavar="FRACTION",
            help="Fraction of the steps in which the whole image takes part as one more tile.",
        ),
    ] = 0.4
    whole_image_weight: Annotated[
        float,
        option("--whole-image-weight", panel=SAMPLING_PANEL, min=0, metavar="WEIGHT", help="Weight of that tile."),
    ] = 5.0
    tile_batch: Annotated[
        int | None,
        option(
            "--tile-batch",
            env="TILE_BATCH",
            panel=SAMPLING_PANEL,
            min=1,
            metavar="N",
            help="Tiles that go through the network at once.",
            show_default="all of a step",
        ),
    ] = None


def panorama(
    prompts: PromptOptions,
    view: ViewOptions,
    sampling: SamplingOptions,
    tiles: TileOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Make a panorama together with its depth from a prompt.

    The picture is drawn by overlapping tiles that share their noise; a full circle joins at its seam. Writes the
    image, a 16-bit disparity PNG, an EXR, the textured mesh of the surroundings and a JSON record per result.
    """
    wrap = view.wraps()

    def request(prompt: str, seed: int) -> Panorama:
        return Panorama(
            prompt=prompt,
            seed=seed,
            negative_prompt=prompts.negative_prompt,
            width=view.width,
            height=view.height,
            span=view.span,
            wrap=wrap,
            stride=tiles.stride,
            whole_image_until=tiles.whole_image_until,
            whole_image_weight=tiles.whole_image_weight,
            sampling=sampling.request(tiles.tile_batch),
        )

    run_batch("panorama", items_of_prompts(prompts, request), sampling, model, output)
