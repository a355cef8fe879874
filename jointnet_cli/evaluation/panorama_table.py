"""The paper's Table 3: time and coherence of panoramas, method by method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.figures import Cell as Place
from jointnet_cli.evaluation.figures import write_cells
from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.measure import Record, Watch, row_key
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.panoramas import intra_distance
from jointnet_cli.evaluation.panorama_rows import Drawing, PanoramaMethod
from jointnet_cli.evaluation.report import Cell, Column, Table
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.files.color import colorize
from jointnet_cli.files.images import read_disparity_png, read_image, write_grey_png, write_png
from jointnet_cli.model.perceptual import Perceptual
from jointnet_cli.sampling.syncdiffusion import DECAY, WEIGHT
from jointnet_cli.tensors import resize, to_array, to_tensor

IMAGE, DEPTH = ".image.png", ".depth.png"
SHOWN = 6
"""Panoramas of every row on the sheet, of the first prompts."""
SHOWN_WIDTH = 480
"""Pixels across one of them."""
SEAMS = {
    "image seam": ("image", "tiles"),
    "depth seam": ("depth", "tiles"),
    "image wrap seam": ("image", "wrap"),
    "depth wrap seam": ("depth", "wrap"),
}
"""Map and place of the seam errors by column."""
SEAM = "mean step of the columns where tiles of the last step begin or end, over that of other columns between latent pixels"


def measure_panoramas(
    painters: Mapping[MethodSpec, PanoramaMethod],
    items: Runner,
    *,
    how: Drawing,
    perceptual: Perceptual,
    distance: str,
    limit: int | None,
    resamples: int,
    watch: Watch,
    sheet: Path,
) -> Table:
    """Draw every row's panoramas, keep them, and measure them.

    Args:
        painters: what draws each row.
        items: where finished panoramas are kept, and then their distances, which another perceptual distance does not share.
        how: prompts, seeds, canvas, model and sampling.
        perceptual: compares the crops.
        distance: what `perceptual` was opened by.
        limit: only so many panoramas a row.
        resamples: of the bootstrap.
        watch: called with the name of each row.
        sheet: PNG file for the first panoramas of every row with their scores.
    """
    intra = f"intra {perceptual.name}"
    cells: dict[str, Mapping[str, Cell]] = {}
    facts: dict[str, Any] = {}
    shown: dict[str, dict[int, Place]] = {}
    for row, painter in painters.items():
        count = min(len(painter), limit or len(painter))
        key = row_key(row, painter.identity)
        with watch(row.name) as progress:
            drawn = items.run(key, count, _drawer(painter, items, key), progress)
        with watch(f"{row.name}, {perceptual.name}") as progress:
            compared = items.run(f"{key} {distance}", count, _comparer(perceptual, items, key), progress)
        distances = {record["number"]: record["intra"] for record in compared}
        values = {**_values(drawn), intra: list(distances.values())}
        strides = {record["stride"] for record in drawn} - {None}
        cells[row.name] = {
            "stride": float(strides.pop()) if strides else None,
            **{column: _estimate(numbers, resamples) for column, numbers in values.items()},
        }
        facts[row.name] = {
            "row": row.spec,
            "panoramas": len(drawn),
            **(
                {"hardware": hardware}
                if (hardware := sorted({record["hardware"] for record in drawn} - {None}))
                else {}
            ),
            **(drawn[0]["settings"] if drawn else {}),
        }
        if items.main:
            shown[row.name] = _places(row.name, drawn, distances, items, key)
    if items.main and any(shown.values()):
        _write_sheet(sheet, shown)
    columns = (
        Column("stride", digits=0),
        Column("seconds", "lower", digits=2),
        Column(intra, "lower"),
        *(Column(name, "lower") for name in SEAMS if how.canvas.wrap or "wrap" not in name),
    )
    return Table("Panoramas", columns, cells, _facts(how, painters, facts, distance, resamples))


def _values(drawn: Sequence[Record]) -> dict[str, list[float | None]]:
    """What was measured when panoramas were drawn, by column."""
    return {
        "seconds": [record["seconds"] for record in drawn],
        **{
            name: [record["seams"].get(modality, {}).get(place) for record in drawn]
            for name, (modality, place) in SEAMS.items()
        },
    }


def _drawer(painter: PanoramaMethod, items: Runner, key: str) -> Callable[[int], Record]:
    def make(number: int) -> Record:
        drawn = painter(number)
        write_png(items.path(key, number, IMAGE), drawn.image)
        if drawn.disparity is not None:
            write_grey_png(items.path(key, number, DEPTH), drawn.disparity)
        return {"number": number, **drawn.record}

    return make


def _comparer(perceptual: Perceptual, items: Runner, key: str) -> Callable[[int], Record]:
    """Distances are those of the picture as it is kept, in 8 bits, as anybody's finished picture is."""

    def make(number: int) -> Record:
        picture = items.path(key, number, IMAGE)
        if not picture.exists():
            raise UserError("there is no panorama to measure")
        return {"number": number, "intra": intra_distance(perceptual, read_image(picture))}

    return make


def _estimate(values: Sequence[float | None], resamples: int) -> Cell:
    """The estimate over the items that have a value; nothing where none has."""
    known = [value for value in values if value is not None]
    return mean_estimate(known, resamples=resamples) if known else None


def _facts(
    how: Drawing, rows: Iterable[MethodSpec], said: Mapping[str, Any], distance: str, resamples: int
) -> dict[str, Any]:
    canvas = how.canvas
    synchronized = any(row.kind == "syncdiffusion" for row in rows)
    return {
        "prompts": len(how.motif.prompts),
        "seeds": how.motif.seeds,
        "canvas": {"width": canvas.width or "4 x height", "height": canvas.height or "model's", "span": canvas.span}
        | {"wrap": canvas.wrap},
        "stride": "in latent pixels",
        "seam": f"{SEAM}; 1 is none",
        "distance": distance,
        **(
            {"syncdiffusion": f"weight {WEIGHT:g}, decay {DECAY:g}, on features of the model's own encoder, not LPIPS"}
            if synchronized
            else {}
        ),
        "intervals": f"95 %, {resamples} resamples of the panoramas",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "rows": said,
    }


def _places(
    name: str, drawn: Sequence[Record], distances: Mapping[int, float], items: Runner, key: str
) -> dict[int, Place]:
    """The sheet's places of a row by number: picture, depth and scores."""
    places = {}
    for record in drawn:
        if (number := record["number"]) >= SHOWN:
            break
        pictures = [_small(read_image(items.path(key, number, IMAGE)))]
        if (depth := items.path(key, number, DEPTH)).exists():
            pictures.append(_small(colorize(read_disparity_png(depth))))
        scores = [f"intra {distances[number]:.3f}"] if number in distances else []
        seam = record["seams"].get("image", {}).get("tiles")
        scores += [f"seam {seam:.2f}"] if seam is not None else []
        scores += [f"{record['seconds']:.1f} s"] if record["seconds"] is not None else []
        places[number] = Place(pictures, f"{name}: {', '.join(scores)}; {record['prompt']}")
    return places


def _write_sheet(path: Path, shown: Mapping[str, Mapping[int, Place]]) -> None:
    """A column a row of the table, a prompt below the other."""
    numbers = sorted({number for places in shown.values() for number in places})
    blank = Place((), "")
    write_cells(path, [places.get(number, blank) for number in numbers for places in shown.values()], len(shown))


def _small(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    size = (max(1, round(height * SHOWN_WIDTH / width)), SHOWN_WIDTH)
    return to_array(resize(to_tensor(picture), size, "rgb"))
