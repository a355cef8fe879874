"""`jointnet inpaint`: repaint a part of an image, of its depth, or of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jointnet_cli.cli.options import ModelOptions, OutputOptions, SamplingOptions, Seed, option
from jointnet_cli.errors import UserError

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to change.", show_default=False)]
Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the result shows.", show_default=False)]


@dataclass(frozen=True)
class MaskOptions:
    """What is repainted, and how far it may move."""

    mask: Annotated[Path | None, option("--mask", metavar="FILE", help="White is repainted.", show_default=False)] = (
        None
    )
    depth: Annotated[
        Path | None,
        option("--depth", metavar="FILE", help="The image's depth: PNG or EXR.", show_default="predicted first"),
    ] = None
    depth_mask: Annotated[
        Path | None,
        option("--depth-mask", metavar="FILE", help="White is repainted in the depth.", show_default="same as --mask"),
    ] = None
    strength: Annotated[
        float,
        option(
            "--strength",
            min=0,
            max=1,
            metavar="FRACTION",
            help="How much of the masked part is forgotten; 1 is all of it.",
        ),
    ] = 1.0


def inpaint(
    image: Image,
    prompt: Prompt,
    *,
    masks: MaskOptions,
    seed: Seed = 0,
    sampling: SamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Repaint a part of an image together with its depth. *Not in this version yet.*"""
    raise UserError("jointnet inpaint is not available in this version yet")
