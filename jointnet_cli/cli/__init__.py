"""The command line: parse, build one typed request, call the engine, hand the result to the writers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import jointnet_cli
from jointnet_cli.cli.console import open_streams, silence_libraries
from jointnet_cli.cli.convert import convert
from jointnet_cli.cli.doctor import DoctorCommand, doctor
from jointnet_cli.cli.evaluate import evaluate
from jointnet_cli.cli.images import image_command
from jointnet_cli.cli.models import models
from jointnet_cli.cli.options import expand_flags
from jointnet_cli.cli.prepare import prepare
from jointnet_cli.cli.recipe import recipe
from jointnet_cli.cli.train import train
from jointnet_cli.cli.usage import Command, CommandGroup
from jointnet_cli.cli.view import view
from jointnet_cli.tasks import TASKS

EXAMPLES: dict[Callable[..., None], str] = {
    **{image_command(task): task.example for task in TASKS.values()},
    view: "jointnet view outputs/00000_0_ocean-reef.rgbdn.exr",
    convert: "jointnet convert reef.rgbdn.exr --to exr --as distance --near 1 --far 30",
    prepare: "jointnet prepare worlds --count 20000 --out shards",
    train: "jointnet train diorama/joint-depth --set model=diorama/base --max-minutes 30",
    doctor: "jointnet doctor",
}

app = typer.Typer(
    name="jointnet",
    help="RGB and geometry from one diffusion model: images with depth, depth of photos, RGBD panoramas.",
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command, _example in EXAMPLES.items():
    _kind = DoctorCommand if _command is doctor else Command
    app.command(cls=_kind, epilog=f"Example: {_example}", no_args_is_help=_command not in (doctor, prepare))(
        expand_flags(_command)
    )
app.add_typer(models)
app.add_typer(recipe)
app.add_typer(evaluate)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"jointnet {jointnet_cli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    silence_libraries()


def main() -> None:
    """Run the command line on `sys.argv`."""
    open_streams()
    app(prog_name="jointnet")
