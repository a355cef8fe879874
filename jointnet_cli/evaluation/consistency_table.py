"""The consistency table: every row's results, and the same with the maps of other results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from jointnet_cli.engine import NOMINAL_FOV
from jointnet_cli.evaluation.consistency_rows import DEPTH, IMAGE, Place, SampleSource
from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.measure import Record, Watch, row_key
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.consistency import SHARE, consistency, partners, wrap_seam
from jointnet_cli.evaluation.report import Cell, Column, Table
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.files.images import read_disparity_png, read_image

COLUMNS = {
    "edges": Column("edge AUC", "higher"),
    "normals": Column("depth to normals, °", "lower", digits=2),
    "pearson": Column("depth again, Pearson", "higher"),
    "spearman": Column("depth again, Spearman", "higher"),
    "image": Column("image wrap seam", "lower"),
    "depth": Column("depth wrap seam", "lower"),
}
"""By the names of the measures."""
SHUFFLED = "shuffled"
MEANINGS = {
    "edge AUC": f"how likely the image has more contrast at the {SHARE:.0%} strongest depth edges than elsewhere",
    "depth to normals": "mean angle of the normals that follow from the depth to those of the model, at the best shift of "
    f"disparity, for a camera of {NOMINAL_FOV:g}° where none is stated",
    "depth again": "correlation of the depth with the one predicted from the image alone, without its prompt",
    "wrap seam": "step across the ends of a closed panorama over the mean step between latent pixels; 1 is none",
    SHUFFLED: "the maps, or the panorama's other end, of another result",
}

Measures = dict[str, list[float]]
"""Values over results, by the names of the measures."""


def measure_consistency(
    sources: Mapping[MethodSpec, SampleSource],
    items: Runner,
    *,
    width: int | None,
    limit: int | None,
    resamples: int,
    watch: Watch,
) -> Table:
    """Make every row's samples and closed panoramas, keep them, and measure them from the files.

    Args:
        sources: what makes each row.
        items: where finished samples and panoramas are kept.
        width: of the panoramas, which decides whether kept ones are taken.
        limit: only so many samples and panoramas a row.
        resamples: of the bootstrap.
        watch: called with the name of each row.
    """
    cells: dict[str, Mapping[str, Cell]] = {}
    facts: dict[str, Any] = {}
    for row, source in sources.items():
        key = row_key(row, source.identity)
        place = partial(items.path, key)
        count = min(len(source), limit or len(source))
        with watch(row.name) as progress:
            samples = items.run(key, count, partial(source.make, place=place), progress)
        wide_key = f"{key} panoramas {width or '4:1'}"
        wide = partial(items.path, wide_key)
        count = min(source.panoramas, limit or source.panoramas)
        with watch(f"{row.name}, panoramas") as progress:
            panoramas = items.run(wide_key, count, partial(source.make_panorama, place=wide), progress)
        numbers, wide_numbers = ([record["number"] for record in records] for records in (samples, panoramas))
        for shuffled in (False, True):
            name = f"{row.name}, {SHUFFLED}" if shuffled else row.name
            values = _of_samples(source, numbers, place, shuffled) | _of_panoramas(source, wide_numbers, wide, shuffled)
            cells[name] = {
                column.name: mean_estimate(values[measure], resamples=resamples) if values.get(measure) else None
                for measure, column in COLUMNS.items()
            }
        facts[row.name] = _said(row, samples, panoramas)
    about = {
        **MEANINGS,
        "intervals": f"95 %, {resamples} resamples of the results",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "rows": facts,
    }
    controls = [name for name in cells if name.endswith(f", {SHUFFLED}")]
    return Table("Consistency", tuple(COLUMNS.values()), cells, about, controls)


def _of_samples(source: SampleSource, numbers: Sequence[int], place: Place, shuffled: bool) -> Measures:
    """The measures of pictures with maps; shuffled, of each with another's maps of the same size."""
    found: Measures = {}
    for own, other in _couples(numbers, shuffled):
        sample = source.read(own, place)
        partner = source.read(other, place) if shuffled else sample
        if partner.disparity.shape != sample.disparity.shape:
            continue
        for measure, value in consistency(sample, partner).items():
            if value is not None:
                found.setdefault(measure, []).append(value)
    return found


def _of_panoramas(source: SampleSource, numbers: Sequence[int], place: Place, shuffled: bool) -> Measures:
    """The wrap seams of pictures and depth; shuffled, of each with the beginning of another."""
    found: Measures = {}
    readers = {"image": (IMAGE, read_image), "depth": (DEPTH, read_disparity_png)}
    for own, other in _couples(numbers, shuffled):
        for measure, (suffix, read) in readers.items():
            seam = wrap_seam(read(place(own, suffix)), read(place(other, suffix)), source.grid)
            found.setdefault(measure, []).append(seam)
    return found


def _couples(numbers: Sequence[int], shuffled: bool) -> list[tuple[int, int]]:
    """Every number with itself, or with another; a single one has no other."""
    if not shuffled:
        return [(number, number) for number in numbers]
    if len(numbers) < 2:
        return []
    return [(number, numbers[partner]) for number, partner in zip(numbers, partners(len(numbers)), strict=True)]


def _said(row: MethodSpec, samples: Sequence[Record], panoramas: Sequence[Record]) -> dict[str, Any]:
    settings: Iterable[dict[str, Any]] = (record["settings"] for record in samples)
    return {"row": row.spec, "samples": len(samples), "panoramas": len(panoramas), **next(iter(settings), {})}
