"""`jointnet inpaint`: repaint a part of an image, of its dense maps, or of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jointnet_cli.cli.batch import Item, run_batch
from jointnet_cli.cli.inputs import Inputs, require_one_size
from jointnet_cli.cli.items import list_items
from jointnet_cli.cli.options import (
    INPUT_PANEL,
    BatchOptions,
    ImageOptions,
    MapOptions,
    MaxSide,
    ModelOptions,
    OutputOptions,
    PromptOptions,
    TiledSamplingOptions,
    option,
)
from jointnet_cli.cli.view import ProjectionOptions
from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import Inpaint

MASKS = {"rgb": "mask", "depth": "depth_mask", "normal": "normal_mask"}
"""The masks' flags by modality."""


@dataclass(frozen=True)
class MaskOptions:
    """What is repainted, and how far it may move."""

    mask: Annotated[
        Path | None,
        option("--mask", panel=INPUT_PANEL, metavar="FILE", help="White is repainted.", show_default=False),
    ] = None
    depth_mask: Annotated[
        Path | None,
        option(
            "--depth-mask",
            panel=INPUT_PANEL,
            metavar="FILE",
            help="White is repainted in the depth.",
            show_default="same as --mask",
        ),
    ] = None
    normal_mask: Annotated[
        Path | None,
        option(
            "--normal-mask",
            panel=INPUT_PANEL,
            metavar="FILE",
            help="White is repainted in the normals.",
            show_default="same as --mask",
        ),
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
    max_side: MaxSide = None

    def files(self) -> dict[str, Path]:
        """The masks that are given, by modality."""
        named = {modality: getattr(self, flag) for modality, flag in MASKS.items()}
        return {modality: path for modality, path in named.items() if path is not None}

    def require_one(self) -> None:
        """Raise `UserError` where no mask is given."""
        if not self.files():
            raise UserError("no mask", "--mask FILE: white is repainted, black stays; --depth-mask for the depth alone")


def inpaint(
    picture: ImageOptions,
    prompts: PromptOptions,
    batch: BatchOptions,
    *,
    masks: MaskOptions,
    maps: MapOptions,
    view: ProjectionOptions,
    sampling: TiledSamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
    scene: SceneOptions,
) -> None:
    """Repaint a part of an image together with its depth (and normals).

    What is white in `--mask` is painted anew, in the image and in its maps alike; `--depth-mask` and `--normal-mask` say
    something else for their map, and alone they leave the image as it is. Everything outside of the masks stays as it
    was, bit for bit. A map that is not given is predicted first. A panorama of this program stays one, with its mesh.
    """
    inputs = Inputs(output.quiet)

    def item(
        index: int,
        prompts: PromptOptions,
        picture: ImageOptions,
        masks: MaskOptions,
        maps: MapOptions,
        view: ProjectionOptions,
        sampling: TiledSamplingOptions,
    ) -> Item:
        image = picture.required()
        masks.require_one()
        projection = view.projection(image, *maps.files().values())
        return Item(
            kind="inpaint",
            index=index,
            prompt=prompts.prompt,
            seed=prompts.seed,
            sampling=sampling,
            load=lambda: _load(inputs, image, prompts, masks, maps, projection, sampling),
            files={"image": image, **_sources(masks, maps)},
            settings=maps.settings(),
            panorama=projection is not None,
        )

    run_batch(list_items(item, batch, prompts, picture, masks, maps, view, sampling), model, output, scene)


def _load(
    inputs: Inputs,
    image: Path,
    prompts: PromptOptions,
    masks: MaskOptions,
    maps: MapOptions,
    projection: Projection | None,
    sampling: TiledSamplingOptions,
) -> Inpaint:
    photo, arrays, marked = inputs.image(image), inputs.maps(maps), inputs.masks(masks.files())
    sized = [(maps.files()[name], array) for name, array in arrays.items()]
    sized += [(masks.files()[name], array) for name, array in marked.items()]
    require_one_size((image, photo), *sized)
    if not any((mask > 0.5).any() for mask in marked.values()):
        raise UserError(f"{next(iter(masks.files().values()))} marks nothing", "white is repainted")
    if "rgb" not in marked:
        marked["rgb"] = 0 * photo[..., 0]
    return Inpaint(
        image=photo,
        prompt=prompts.prompt,
        seed=prompts.seed,
        masks=marked,
        maps=arrays,
        sources={"image": image, **_sources(masks, maps)},
        negative_prompt=prompts.negative_prompt,
        strength=masks.strength,
        max_side=masks.max_side,
        projection=projection,
        sampling=sampling.request(),
    )


def _sources(masks: MaskOptions, maps: MapOptions) -> dict[str, Path]:
    """The files of a request by the name of the flag that gives them."""
    return maps.files() | {MASKS[name]: path for name, path in masks.files().items()}
