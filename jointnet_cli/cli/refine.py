"""`jointnet refine`: raise the resolution of an image and its depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from jointnet_cli.cli.options import ModelOptions, OutputOptions, SamplingOptions, Seed, option
from jointnet_cli.errors import UserError

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to refine.", show_default=False)]
Depth = Annotated[Path, typer.Argument(metavar="DEPTH", help="Its depth: PNG or EXR.", show_default=False)]


@dataclass(frozen=True)
class RefineOptions:
    """What is refined, and how far it may move."""

    what: Annotated[
        Literal["both", "image", "depth"], option("--what", help="The side that is not refined guides the other.")
    ] = "both"
    scale: Annotated[
        float, option("--scale", min=1, metavar="FACTOR", help="Factor by which width and height grow.")
    ] = 2.0
    strength: Annotated[
        float, option("--strength", min=0, max=1, metavar="FRACTION", help="How much of the input is forgotten.")
    ] = 0.4
    wrap: Annotated[bool, option("--wrap/--no-wrap", help="The input is a full circle.")] = False
    prompt: Annotated[str, option("--prompt", metavar="TEXT", help="What the image shows.", show_default=False)] = ""


def refine(
    image: Image,
    depth: Depth,
    *,
    refinement: RefineOptions,
    seed: Seed = 0,
    sampling: SamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Refine an image and its depth at a higher resolution. *Not in this version yet.*"""
    raise UserError("jointnet refine is not available in this version yet")
