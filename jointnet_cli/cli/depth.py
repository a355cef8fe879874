"""`jointnet depth`: the depth (and normals) of given photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jointnet_cli.cli.batch import Item, run_batch
from jointnet_cli.cli.inputs import Inputs
from jointnet_cli.cli.options import (
    PROMPT_PANEL,
    MaxSide,
    ModelOptions,
    OutputOptions,
    Seed,
    TiledSamplingOptions,
    option,
)
from jointnet_cli.files.paths import list_photos
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import Depth

Photos = Annotated[
    list[str],
    typer.Argument(metavar="PHOTO", help="Files, folders or patterns; `-` reads paths from stdin.", show_default=False),
]
Prompt = Annotated[
    str,
    option(
        "--prompt", panel=PROMPT_PANEL, metavar="TEXT", help="What the photos show, if you know it.", show_default=False
    ),
]
Ensemble = Annotated[
    int,
    option("--ensemble", env="ENSEMBLE", min=1, metavar="N", help="Take the median of this many aligned predictions."),
]


def depth(
    photos: Photos,
    *,
    ensemble: Ensemble = 1,
    max_side: MaxSide = None,
    prompt: Prompt = "",
    seed: Seed = 0,
    sampling: TiledSamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
    scene: SceneOptions,
) -> None:
    """Predict the depth (and normals) of photos.

    Writes a 16-bit disparity PNG (relative inverse depth: near is bright), a coloured preview, an EXR and a JSON record
    per photo, and prints their paths. With `--ensemble` also how far the predictions differ, pixel by pixel.
    """
    inputs = Inputs(output.quiet)

    def item(index: int, photo: Path) -> Item:
        def load() -> Depth:
            return Depth(
                image=inputs.image(photo),
                source=photo,
                prompt=prompt,
                seed=seed + index,
                ensemble=ensemble,
                max_side=max_side,
                sampling=sampling.request(),
            )

        return Item(
            kind="depth",
            index=index,
            prompt=prompt,
            seed=seed + index,
            sampling=sampling,
            load=load,
            files={"image": photo},
            uncertain=ensemble > 1,
            independent=True,
        )

    run_batch([item(index, photo) for index, photo in enumerate(list_photos(photos))], model, output, scene)
