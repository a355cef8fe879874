"""`python -m jointnet_cli.evaluation NAME`: one measurement, one JSON object on stdout."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jointnet_cli.cli.console import RUN_FAILED, handle_errors, silence_libraries
from jointnet_cli.cli.options import ModelOptions, SamplingOptions, expand_flags
from jointnet_cli.files.text import to_json
from jointnet_cli.sampling.presets import Method

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine
    from jointnet_cli.progress import Progress

app = typer.Typer(
    help="Measurements of a trained model. Each prints one JSON object.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Evaluation = Annotated[
    Path, typer.Option("--shards", help="Worlds of `jointnet prepare --source worlds --evaluation`.")
]
Training = Annotated[Path, typer.Option("--training", help="Shards of the training set.")]
HeldOut = Annotated[Path, typer.Option("--held-out", help="Worlds of `jointnet prepare --source worlds --evaluation`.")]
JudgeFolder = Annotated[Path, typer.Option("--judge", help="Folder of the classifier.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first pictures.")]
Sheet = Annotated[Path | None, typer.Option("--sheet", help="PNG file for a contact sheet.")]


def attributes(
    training: Training,
    held_out: HeldOut,
    judge: JudgeFolder,
    *,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training set.")] = 8,
    limit: Limit = None,
) -> None:
    """Train the classifier that judges pictures, keep it in a folder, and measure it on held-out worlds."""
    from jointnet_cli.evaluation.judge.classifier import load_labelled, train_judge

    trained = train_judge(
        load_labelled(training, limit),
        load_labelled(held_out, evaluation=True),
        epochs=epochs,
        progress=_steps("training steps"),
    )
    trained.save(judge)
    _print(trained.facts)


def follow(
    judge: JudgeFolder,
    *,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", help="Also judge these worlds after a pass through the model's VAE.")
    ] = None,
    sheet: Sheet = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Use so many of the 200 prompts.")] = None,
    model: ModelOptions,
    sampling: SamplingOptions,
) -> None:
    """Do pictures show what their prompts ask for? Accuracy of biome, time of day, object and colour."""
    from jointnet_cli.evaluation.follow import evaluate_following
    from jointnet_cli.evaluation.judge.classifier import Judge
    from jointnet_cli.evaluation.judge.prompts import fixed_prompts, spread_evenly

    trained = Judge.load(judge)
    prompts = fixed_prompts()
    _print(
        evaluate_following(
            _open(model),
            trained,
            prompts=prompts if count is None else spread_evenly(prompts, count),
            sampling=sampling.request(),
            held_out=held_out,
            sheet=sheet,
            progress=_steps("pictures"),
        )
    )


def autoencoder(
    shards: Evaluation,
    *,
    limit: Limit = None,
    model: ModelOptions,
) -> None:
    """PSNR of RGB, depth and normals after the model's autoencoder: what no picture of the model can exceed."""
    from jointnet_cli.evaluation.autoencoder import evaluate_autoencoder

    _print(evaluate_autoencoder(_open(model), shards, limit=limit, progress=_steps("worlds")))


def seams(
    *,
    count: Annotated[int, typer.Option("--count", min=1, help="Panoramas.")] = 8,
    width: Annotated[int, typer.Option("--width", min=1, help="Pixels.")] = 2048,
    method: Annotated[Method, typer.Option("--method", help="How tiles are laid and joined.")] = "jointnet",
    model: ModelOptions,
    sampling: SamplingOptions,
) -> None:
    """Column steps of panoramas at tile borders and at the wrap, against elsewhere."""
    from jointnet_cli.evaluation.metrics.panoramas import evaluate_seams

    _print(
        evaluate_seams(
            _open(model),
            count=count,
            width=width,
            method=method,
            sampling=sampling.request(),
            progress=_steps("panoramas"),
        )
    )


def refinement(
    shards: Evaluation,
    *,
    reduction: Annotated[int, typer.Option("--reduction", min=2, help="Factor by which depth is reduced.")] = 4,
    strength: Annotated[float, typer.Option("--strength", min=0, max=1, help="Strength of the refinement.")] = 0.4,
    limit: Limit = 128,
    model: ModelOptions,
    sampling: SamplingOptions,
) -> None:
    """Errors of reduced depth maps before and after refinement."""
    from jointnet_cli.evaluation.refinement import evaluate_refinement

    report = evaluate_refinement(
        _open(model),
        shards,
        reduction=reduction,
        strength=strength,
        sampling=sampling.request(),
        limit=limit,
        progress=_steps("pictures"),
    )
    _print(report)
    _fail_if(report["left_out"])


def progression(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders with snapshots (`models/`).")],
    *,
    judge: JudgeFolder,
    shards: Evaluation,
    base: Annotated[Path | None, typer.Option("--base", help="The base model, for comparison.")] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=2, help="Pictures of every model.")] = 256,
    depths: Annotated[int, typer.Option("--depths", min=1, help="Depth predictions of every model.")] = 64,
    figure: Annotated[Path | None, typer.Option("--figure", help="PNG file for the figure.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Where to compute.")] = None,
    sampling: SamplingOptions,
) -> None:
    """Fréchet distance of pictures and error of depth over the steps of training runs (the paper's Fig. 8)."""
    from jointnet_cli.engine import Engine
    from jointnet_cli.evaluation.judge.classifier import Judge
    from jointnet_cli.evaluation.progression import draw_figure, evaluate_progression, find_snapshots
    from jointnet_cli.evaluation.report import run_facts

    models = [(run.name, step, folder) for run in runs for step, folder in find_snapshots(run).items()]
    snapshots = evaluate_progression(
        [*([("base", 0, base)] if base else []), *models],
        lambda folder: Engine.open(str(folder), device=device),
        Judge.load(judge),
        shards,
        pictures=pictures,
        depths=depths,
        sampling=sampling.request(),
        progress=_steps("models"),
    )
    if figure:
        draw_figure(snapshots, figure)
    rows = [
        {name: getattr(each, name) for name in ("run", "step", "frechet", "abs_rel", "left_out")} for each in snapshots
    ]
    settings = {"pictures": pictures, "depths": depths, **run_facts(snapshots[0].shown[0].settings)}
    _print({**settings, "models": rows})
    _fail_if(any(each.left_out for each in snapshots))


def resources(
    *,
    width: Annotated[int, typer.Option("--width", min=1, help="Pixels of the panorama.")] = 2048,
    model: Annotated[str, typer.Option("--model", "-m", help="`diorama`, or a model's folder.")] = "diorama",
) -> None:
    """Wall time and peak memory of every command, split into phases."""
    from jointnet_cli.evaluation.resources import evaluate_resources

    _print(evaluate_resources(model, width, progress=_steps("commands")))


def prompts() -> None:
    """The fixed prompts and what their pictures must show."""
    from dataclasses import asdict

    from jointnet_cli.evaluation.judge.prompts import fixed_prompts

    _print({"prompts": [asdict(prompt) for prompt in fixed_prompts()]})


for _command in (attributes, prompts, follow, autoencoder, refinement, seams, progression, resources):
    app.command()(handle_errors(expand_flags(_command)))


def _open(options: ModelOptions) -> Engine:
    from jointnet_cli.engine import Engine

    return Engine.open(options.model, base=options.base, device=options.device, dtype=options.dtype)


def _steps(what: str) -> Progress:
    """A line on stderr every ten seconds, and at the end."""
    started = said = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done == total or now - said >= 10:
            said = now
            print(f"{done}/{total} {what}, {now - started:.0f} s", file=sys.stderr, flush=True)

    return say


def _fail_if(left_out: object) -> None:
    """Exit with code 1 if pictures could not be measured, after the report."""
    if left_out:
        raise typer.Exit(RUN_FAILED)


def _print(report: dict[str, Any]) -> None:
    print(to_json(report, indent=2))


if __name__ == "__main__":
    silence_libraries()
    app(prog_name="python -m jointnet_cli.evaluation")
