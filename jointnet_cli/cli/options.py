"""The flags that commands share, each written once. Precedence: flag, then `JOINTNET_…`, then default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jointnet_cli.tasks import Sampling

MODEL_PANEL = "Model"
SAMPLING_PANEL = "Sampling"
PROMPT_PANEL = "Prompts and seeds"
OUTPUT_PANEL = "Output"


def option(*names: str, env: str | None = None, panel: str | None = None, **settings: Any) -> Any:
    """A Typer option in a help panel; `env` is the part of the variable's name after `JOINTNET_`."""
    variable = f"JOINTNET_{env}" if env else None
    return typer.Option(*names, envvar=variable, rich_help_panel=panel, **settings)


Seed = Annotated[
    int,
    option(
        "--seed",
        env="SEED",
        panel=PROMPT_PANEL,
        min=0,
        metavar="N",
        help="Seed of the first item; item n of a batch uses seed + n. The same command gives the same bytes.",
    ),
]
Json = Annotated[bool, option("--json", panel=OUTPUT_PANEL, help="Print one JSON object a line instead of paths.")]
Quiet = Annotated[
    bool, option("--quiet", "-q", env="QUIET", panel=OUTPUT_PANEL, help="No progress on stderr; faults still show.")
]
DryRun = Annotated[bool, option("--dry-run", panel=OUTPUT_PANEL, help="Print the plan and stop: no model, no files.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which model to open, and where it computes."""

    model: Annotated[
        str,
        option(
            "--model",
            "-m",
            env="MODEL",
            panel=MODEL_PANEL,
            metavar="NAME|DIR",
            help="`diorama` (built in), or a model's folder.",
        ),
    ] = "diorama"
    device: Annotated[
        str | None,
        option(
            "--device",
            env="DEVICE",
            panel=MODEL_PANEL,
            metavar="DEVICE",
            help="`cpu`, `cuda`, `cuda:1`, `mps`.",
            show_default="the fastest",
        ),
    ] = None
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        option("--dtype", env="DTYPE", panel=MODEL_PANEL, help="Precision.", show_default="fits the device"),
    ] = None


@dataclass(frozen=True)
class SamplingOptions:
    """How to denoise; what is not given is the model's own default."""

    steps: Annotated[
        int | None,
        option(
            "--steps",
            env="STEPS",
            panel=SAMPLING_PANEL,
            min=1,
            metavar="N",
            help="Denoising steps.",
            show_default="model's",
        ),
    ] = None
    guidance: Annotated[
        float | None,
        option(
            "--guidance",
            env="GUIDANCE",
            panel=SAMPLING_PANEL,
            min=0,
            metavar="SCALE",
            help="Classifier-free guidance scale; 1 is off.",
            show_default="model's",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        option(
            "--scheduler",
            env="SCHEDULER",
            panel=SAMPLING_PANEL,
            metavar="NAME",
            help="Sampler, such as `ddim`.",
            show_default="model's",
        ),
    ] = None

    def request(self, tile_batch: int | None = None) -> Sampling:
        """The engine's view of these flags."""
        return Sampling(steps=self.steps, guidance=self.guidance, scheduler=self.scheduler, tile_batch=tile_batch)


@dataclass(frozen=True)
class PromptOptions:
    """What to draw, how often and from which seed."""

    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to draw.", show_default=False)] = None
    prompts: Annotated[
        str | None,
        option(
            "--prompts",
            panel=PROMPT_PANEL,
            metavar="FILE|-",
            help="Read prompts from a text file, or from stdin with `-`: one a line, `#` starts a comment line.",
        ),
    ] = None
    negative_prompt: Annotated[
        str,
        option(
            "--negative-prompt", panel=PROMPT_PANEL, metavar="TEXT", help="What to steer away from.", show_default=False
        ),
    ] = ""
    count: Annotated[
        int, option("--count", "-n", panel=PROMPT_PANEL, min=1, metavar="N", help="Results per prompt.")
    ] = 1
    seed: Seed = 0


@dataclass(frozen=True)
class OutputOptions:
    """Where results go and what is said about them."""

    out: Annotated[
        Path,
        option(
            "--out", "-o", env="OUT", panel=OUTPUT_PANEL, metavar="DIR", help="Folder for the results; made if missing."
        ),
    ] = Path("outputs")
    json: Json = False
    quiet: Quiet = False
    overwrite: Annotated[
        bool,
        option("--overwrite/--no-overwrite", env="OVERWRITE", panel=OUTPUT_PANEL, help="Replace files that exist."),
    ] = False
    metadata: Annotated[
        bool,
        option(
            "--metadata/--no-metadata",
            env="METADATA",
            panel=OUTPUT_PANEL,
            help="Write how each result was made into its files.",
        ),
    ] = True
    dry_run: DryRun = False
