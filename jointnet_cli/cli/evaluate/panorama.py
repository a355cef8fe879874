"""`jointnet evaluate panorama`: the paper's Table 3."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from jointnet_cli.cli.console import note
from jointnet_cli.cli.evaluate.options import EvaluateOptions, conclude
from jointnet_cli.cli.evaluate.prompts import Prompts, listed_prompts
from jointnet_cli.cli.options import PROMPT_PANEL, ModelOptions, TiledSamplingOptions, option
from jointnet_cli.params import VIEW_PANEL
from jointnet_cli.projection import FULL_CIRCLE

METHODS = ("direct", "multidiffusion", "syncdiffusion", "jointnet")
"""The rows of Table 3, in its order."""


@dataclass(frozen=True)
class PanoramaOptions:
    """The size and the view of every panorama."""

    width: Annotated[
        int | None,
        option(
            "--width", panel=VIEW_PANEL, min=1, metavar="PIXELS", help="Width.", show_default="four times the height"
        ),
    ] = None
    height: Annotated[
        int | None,
        option("--height", panel=VIEW_PANEL, min=1, metavar="PIXELS", help="Height.", show_default="model's"),
    ] = None
    wrap: Annotated[
        bool, option("--wrap/--no-wrap", panel=VIEW_PANEL, help="Draw full circles instead of 180 degrees.")
    ] = False


def panorama(
    *,
    prompts: Prompts = None,
    seeds: Annotated[
        int,
        option("--seeds", panel=PROMPT_PANEL, min=1, metavar="N", help="Panoramas of every prompt, from seed 0 on."),
    ] = 20,
    perceptual: Annotated[
        str,
        option(
            "--perceptual",
            metavar="NAME[:FILE]",
            help="What compares crops: `st-lpips-alex`, `st-lpips-vgg`, `lpips-alex`, `lpips-vgg`; FILE holds its weights.",
        ),
    ] = "st-lpips-alex",
    view: PanoramaOptions,
    sampling: TiledSamplingOptions,
    model: ModelOptions,
    evaluation: EvaluateOptions,
) -> None:
    """Seconds, coherence (intra-LPIPS) and seams of panoramas, method by method (Table 3).

    Rows: `direct`, `multidiffusion`, `syncdiffusion`, `jointnet`, each also as `METHOD:MODEL`, and `folder:PICTURES`. The
    folder gets the panoramas, the table, its plot and a contact sheet.
    """
    from jointnet_cli.devices import choose_device
    from jointnet_cli.evaluation.methods import parse_rows
    from jointnet_cli.evaluation.panorama_rows import KINDS, Canvas, Drawing, Motif, open_painter
    from jointnet_cli.evaluation.panorama_table import measure_panoramas
    from jointnet_cli.evaluation.runner import Runner
    from jointnet_cli.model.perceptual import open_perceptual

    rows = parse_rows(evaluation.rows or METHODS, KINDS)
    network = open_perceptual(perceptual, choose_device(model.device))
    canvas = Canvas(view.width, view.height, FULL_CIRCLE if view.wrap else FULL_CIRCLE / 2, view.wrap)
    motif = Motif(listed_prompts(prompts, 16), seeds)
    how = Drawing(motif, canvas, sampling.request(), model.model, model.base, model.device, model.dtype)
    painters = {row: open_painter(row, how) for row in rows}
    folder = evaluation.folder("panorama")
    sheet = folder / "sheet.png"
    items = Runner(folder, {"command": "panorama", "prompts": motif.prompts, "canvas": asdict(canvas)})
    table = measure_panoramas(
        painters,
        items,
        how=how,
        perceptual=network,
        distance=perceptual,
        limit=evaluation.limit,
        resamples=evaluation.resamples,
        watch=evaluation.watch(items),
        sheet=sheet,
    )
    if items.main and sheet.exists():
        note(str(sheet), evaluation.quiet)
    conclude(table, items, folder, evaluation)
