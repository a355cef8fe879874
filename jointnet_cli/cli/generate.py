"""`jointnet generate`: an image and its dense maps from a prompt, or an image for given maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jointnet_cli.cli.batch import Item, run_batch
from jointnet_cli.cli.inputs import Inputs, require_one_size
from jointnet_cli.cli.items import list_items
from jointnet_cli.cli.options import (
    BatchOptions,
    MapOptions,
    ModelOptions,
    OutputOptions,
    PromptOptions,
    SamplingOptions,
    option,
)
from jointnet_cli.cli.view import stated_panorama
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import Generate

MODEL_OR_MAP = "model's, or the map's shape"


@dataclass(frozen=True)
class SizeOptions:
    """How large the image is."""

    width: Annotated[
        int | None, option("--width", min=1, metavar="PIXELS", help="Width of the image.", show_default=MODEL_OR_MAP)
    ] = None
    height: Annotated[
        int | None, option("--height", min=1, metavar="PIXELS", help="Height of the image.", show_default=MODEL_OR_MAP)
    ] = None


def generate(
    prompts: PromptOptions,
    batch: BatchOptions,
    *,
    size: SizeOptions,
    maps: MapOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
    scene: SceneOptions,
) -> None:
    """Make an image together with its depth (and normals) from a prompt.

    With `--depth` or `--normal` the map is given and the image is painted for it. Writes the image, a 16-bit disparity
    PNG (relative inverse depth: near is bright), an EXR with everything and a JSON record per result, and prints their
    paths.
    """
    inputs = Inputs(output.quiet)

    def item(
        index: int, prompts: PromptOptions, size: SizeOptions, maps: MapOptions, sampling: SamplingOptions
    ) -> Item:
        for path in maps.files().values():
            stated_panorama(path)  # refuses a sphere

        def load() -> Generate:
            arrays = inputs.maps(maps)
            require_one_size(*((path, arrays[name]) for name, path in maps.files().items()))
            return Generate(
                prompt=prompts.prompt,
                seed=prompts.seed,
                negative_prompt=prompts.negative_prompt,
                width=size.width,
                height=size.height,
                maps=arrays,
                sources=maps.files(),
                sampling=sampling.request(),
            )

        return Item(
            kind="generate",
            index=index,
            prompt=prompts.prompt,
            seed=prompts.seed,
            sampling=sampling,
            load=load,
            files=maps.files(),
            settings=maps.settings(),
        )

    run_batch(list_items(item, batch, prompts, size, maps, sampling), model, output, scene)
