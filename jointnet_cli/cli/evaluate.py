"""`jointnet evaluate`: every class of `evaluation/commands/` is a command; its fields are the flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from jointnet_cli.cli.console import RUN_FAILED, progress
from jointnet_cli.cli.options import command_group
from jointnet_cli.evaluation.commands.autoencoder import AutoencoderCommand
from jointnet_cli.evaluation.commands.compare import CompareCommand, TallyCommand
from jointnet_cli.evaluation.commands.consistency import ConsistencyEvaluation
from jointnet_cli.evaluation.commands.depth import DepthEvaluation
from jointnet_cli.evaluation.commands.depth_to_image import DepthToImageEvaluation
from jointnet_cli.evaluation.commands.generation import GenerationEvaluation
from jointnet_cli.evaluation.commands.judge import JudgeCommand, PromptsCommand
from jointnet_cli.evaluation.commands.normal import NormalEvaluation
from jointnet_cli.evaluation.commands.panorama import PanoramaEvaluation
from jointnet_cli.evaluation.commands.resources import ResourcesCommand
from jointnet_cli.evaluation.commands.speed import SpeedEvaluation

COMMANDS: tuple[Any, ...] = (
    DepthEvaluation,
    NormalEvaluation,
    GenerationEvaluation,
    DepthToImageEvaluation,
    PanoramaEvaluation,
    SpeedEvaluation,
    ConsistencyEvaluation,
    AutoencoderCommand,
    ResourcesCommand,
    JudgeCommand,
    PromptsCommand,
    CompareCommand,
    TallyCommand,
)


def _command(kind: Any) -> Callable[..., None]:
    """Return the function of a command."""

    def run(evaluation: Any) -> None:
        if evaluation.run(lambda title: progress(title, evaluation.quiet)):
            raise typer.Exit(RUN_FAILED)

    run.__annotations__ = {"evaluation": kind, "return": None}
    run.__doc__, run.__name__ = kind.__doc__, kind.name
    return run


app = command_group(
    "evaluate",
    "Measure models: the paper's tables, with intervals.",
    {kind.name: (_command(kind), kind.example) for kind in COMMANDS},
)
