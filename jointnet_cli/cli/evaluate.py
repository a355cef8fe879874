"""`jointnet evaluate`: every class of `evaluation/commands/` is a command; its fields are the flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

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
from jointnet_cli.evaluation.evaluation import Evaluation

COMMANDS: tuple[Any, ...] = (
    DepthEvaluation,
    NormalEvaluation,
    GenerationEvaluation,
    DepthToImageEvaluation,
    PanoramaEvaluation,
    ConsistencyEvaluation,
    AutoencoderCommand,
    ResourcesCommand,
    JudgeCommand,
    PromptsCommand,
    CompareCommand,
    TallyCommand,
)

FormerName = Annotated[list[str] | None, typer.Option("--row", "--rows", hidden=True)]
"""The former name of `--method`."""


def _command(kind: Any) -> Callable[..., None]:
    """Return the function of a command."""

    def run(evaluation: Any) -> None:
        if evaluation.run(lambda title: progress(title, evaluation.quiet)):
            raise typer.Exit(RUN_FAILED)

    def run_table(evaluation: Any, row: list[str] | None = None) -> None:
        run(replace(evaluation, methods=[*(evaluation.methods or []), *(row or [])] or None))

    command: Callable[..., None] = run
    types = {"evaluation": kind, "return": None}
    if issubclass(kind, Evaluation):
        command, types = run_table, {**types, "row": FormerName}
    command.__annotations__, command.__doc__, command.__name__ = types, kind.__doc__, kind.name
    return command


evaluate = command_group(
    "evaluate",
    "Measure models: the paper's tables, with intervals.",
    {kind.name: (_command(kind), kind.example) for kind in COMMANDS},
)
