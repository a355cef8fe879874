"""`jointnet generate`: an image and its dense maps from a prompt."""

from __future__ import annotations

from typing import Annotated

from jointnet_cli.cli.batch import items_of_prompts, run_batch
from jointnet_cli.cli.options import ModelOptions, OutputOptions, PromptOptions, SamplingOptions, option
from jointnet_cli.tasks import Generate

Width = Annotated[
    int | None, option("--width", min=1, metavar="PIXELS", help="Width of the image.", show_default="model's")
]
Height = Annotated[
    int | None, option("--height", min=1, metavar="PIXELS", help="Height of the image.", show_default="model's")
]


def generate(
    prompts: PromptOptions,
    *,
    width: Width = None,
    height: Height = None,
    sampling: SamplingOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Make an image together with its depth (and normals) from a prompt.

    Writes the image, a 16-bit disparity PNG (relative inverse depth: near is bright), an EXR with everything and a JSON
    record per result, and prints their paths.
    """

    def request(prompt: str, seed: int) -> Generate:
        return Generate(
            prompt=prompt,
            seed=seed,
            negative_prompt=prompts.negative_prompt,
            width=width,
            height=height,
            sampling=sampling.request(),
        )

    run_batch("generate", items_of_prompts(prompts, request), sampling, model, output)
