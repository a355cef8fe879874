"""`jointnet refine`: raise the resolution of an image and its dense maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jointnet_cli.cli.batch import Item, run_batch
from jointnet_cli.cli.inputs import Inputs, require_one_shape
from jointnet_cli.cli.items import list_items
from jointnet_cli.cli.options import (
    BatchOptions,
    CaptionOptions,
    ImageOptions,
    MapOptions,
    ModelOptions,
    OutputOptions,
    TiledSamplingOptions,
    option,
)
from jointnet_cli.cli.view import ProjectionOptions
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import Refine, What


@dataclass(frozen=True)
class RefinedMapOptions(MapOptions):
    """The image's dense maps, the depth as an argument."""

    depth: Annotated[
        Path | None, typer.Argument(metavar="DEPTH", help="Its depth: PNG, TIFF, EXR or npy.", show_default=False)
    ] = None


@dataclass(frozen=True)
class RefineOptions:
    """What is refined, and how far it may move."""

    what: Annotated[What, option("--what", help="What is refined; the rest is given and guides it.")] = "both"
    scale: Annotated[
        float, option("--scale", min=1, metavar="FACTOR", help="Factor by which width and height grow.")
    ] = 2.0
    strength: Annotated[
        float, option("--strength", min=0, max=1, metavar="FRACTION", help="How much of the input is forgotten.")
    ] = 0.4


def refine(
    picture: ImageOptions,
    maps: RefinedMapOptions,
    *,
    captions: CaptionOptions,
    batch: BatchOptions,
    refinement: RefineOptions,
    view: ProjectionOptions,
    sampling: TiledSamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
    scene: SceneOptions,
) -> None:
    """Raise the resolution of an image together with its depth (and normals), tile by tile.

    The image grows by `--scale` and gets detail that its depth has too. A map may be of any size in the image's shape;
    one that is not given is predicted first. A panorama of this program stays one, with its mesh.
    """
    inputs = Inputs(output.quiet)

    def item(
        index: int,
        captions: CaptionOptions,
        picture: ImageOptions,
        maps: RefinedMapOptions,
        refinement: RefineOptions,
        view: ProjectionOptions,
        sampling: TiledSamplingOptions,
    ) -> Item:
        sources = {"image": picture.required(), **maps.files()}
        projection = view.projection(*sources.values())

        def load() -> Refine:
            image, arrays = inputs.image(sources["image"]), inputs.maps(maps)
            require_one_shape(*((path, arrays.get(name, image)) for name, path in sources.items()))
            return Refine(
                image=image,
                maps=arrays,
                seed=captions.seed,
                prompt=captions.prompt,
                negative_prompt=captions.negative_prompt,
                what=refinement.what,
                scale=refinement.scale,
                strength=refinement.strength,
                projection=projection,
                sources=sources,
                sampling=sampling.request(),
            )

        return Item(
            kind="refine",
            index=index,
            prompt=captions.prompt,
            seed=captions.seed,
            sampling=sampling,
            load=load,
            files=sources,
            settings=maps.settings(),
            panorama=projection is not None,
        )

    run_batch(list_items(item, batch, captions, picture, maps, refinement, view, sampling), model, output, scene)
