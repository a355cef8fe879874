"""The command line: parse, build one typed request, call the engine, hand the result to the writers."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

import jointnet_cli
from jointnet_cli.cli.console import open_streams, silence_libraries
from jointnet_cli.cli.usage import CommandGroup, Unloaded

if TYPE_CHECKING:
    from typer._click import Context

COMMANDS = {
    "generate": ("images", "Make an image together with its depth (and normals) from a prompt."),
    "depth": ("images", "Predict the depth (and normals) of photos."),
    "panorama": ("images", "Make a panorama together with its depth from a prompt."),
    "inpaint": ("images", "Repaint a part of an image together with its depth (and normals)."),
    "refine": ("images", "Raise the resolution of an image together with its depth (and normals), tile by tile."),
    "view": ("view", "Turn images with depth into navigable 3D scenes."),
    "convert": ("convert", "Convert images and maps between conventions and formats."),
    "prepare": (
        "prepare",
        "Write training shards: image, caption and record of every sample, with depth and normals where available.",
    ),
    "train": ("train", "Train a model as a recipe describes, and print its folder."),
    "doctor": (
        "doctor",
        "Show versions, devices, the model, the settings that apply, and problems, ready to paste into a report.",
    ),
    "models": ("models", "List, show, import and export models; print the words that a model knows."),
    "recipe": ("recipe", "List, show, copy and check recipes."),
    "evaluate": ("evaluate", "Measure models: the paper's tables, with intervals."),
}
"""By name the module that holds the command, which is imported when it is called, and what it does."""


class Root(CommandGroup):
    """All commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: Unloaded(summary) for name, (_, summary) in COMMANDS.items()}  # type: ignore[misc]

    def get_command(self, ctx: Context, cmd_name: str) -> Any:
        """Return a command; its module is imported now."""
        if isinstance(self.commands.get(cmd_name), Unloaded):
            group = typer.main.get_group(import_module(f"jointnet_cli.cli.{COMMANDS[cmd_name][0]}").app)
            self.commands[cmd_name] = group if group.name == cmd_name else group.commands[cmd_name]
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="jointnet",
    help="RGB and geometry from one diffusion model: images with depth, depth of photos, RGBD panoramas.",
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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
    """Run the command line on `sys.argv`.

    What torch and diffusers make when they are imported stays: to look for garbage among it would take a fifth of a command's
    start, and a second at its end.
    """
    gc.set_threshold(10_000)
    open_streams()
    try:
        app(prog_name="jointnet")
    finally:
        gc.freeze()
