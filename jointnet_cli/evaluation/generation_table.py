"""The paper's Table 1: pictures from captions, as a set and one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import Caption, FolderPictures, PictureSet, ShardPictures
from jointnet_cli.evaluation.makers import FOLDER, GENERATION, open_maker
from jointnet_cli.evaluation.methods import ImageRequest, Making, MethodSpec
from jointnet_cli.evaluation.picture_scores import REAL, Scoring, cells_of, make_pictures
from jointnet_cli.evaluation.report import Cell, Table
from jointnet_cli.files.metadata import read_record

KINDS = (*GENERATION, FOLDER)


def measure_generation(
    captions: Sequence[Caption],
    rows: Sequence[MethodSpec],
    scoring: Scoring,
    *,
    real: ShardPictures | FolderPictures | None,
    captioned: bool,
    how: Making,
    count: int,
    facts: Mapping[str, Any],
) -> Table:
    """Compare the pictures of all rows with real ones and with their captions.

    A caption's number is the seed of its picture.

    Args:
        captions: a picture of every row for each.
        rows: of `KINDS`.
        scoring: the networks.
        real: what Fréchet distances are taken from, all of it.
        captioned: whether the captions are those of the real pictures, in their order.
        how: settings of the sampling.
        count: so many captions, from the first on.
        facts: about the captions.

    Raises:
        UserError: a row that cannot be opened, a folder whose pictures are of other captions, or nothing to measure.
    """
    makers = {row.name: open_maker(row, GENERATION, how) for row in rows if row.kind != FOLDER}
    folders = {row.name: _finished(row, captions, count) for row in rows if row.kind == FOLDER}
    columns = scoring.columns(captions[:count], real is not None)
    if not columns:
        raise UserError("nothing to measure: these features need real pictures", hint="give --shards or --reference")
    cells: dict[str, Mapping[str, Cell]] = {}
    settings: dict[str, Any] = {}
    if real is not None:
        pictures = real.pictures()
        own = scoring.take_real(pictures)
        if captioned:
            own |= scoring.of_captions(REAL, pictures, captions)
        cells[REAL] = cells_of(columns, own)
    for row in rows:
        if finished := folders.get(row.name):
            pictures, settings[row.name] = finished, {"row": row.spec, "pictures": finished.count}
        else:
            maker = makers.pop(row.name)  # one model in memory at a time
            pictures, settings[row.name] = make_pictures(
                row, maker, scoring, count, lambda number: ImageRequest(captions[number].text, number)
            )
            del maker
        found = scoring.of_set(row.name, pictures) | scoring.of_captions(row.name, pictures, captions)
        cells[row.name] = cells_of(columns, found)
    return Table(
        "Generation",
        tuple(columns),
        cells,
        {
            **facts,
            "pictures a row": count,
            **({} if real is None else {"real": real.facts}),
            **scoring.facts(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "rows": settings,
        },
        references=(REAL,),
    )


def _finished(row: MethodSpec, captions: Sequence[Caption], count: int) -> PictureSet:
    """The pictures of a folder; picture n is of caption n, and where our own record says otherwise it is refused."""
    folder = FolderPictures(Path(row.value))
    for path, caption in zip(folder.paths[:count], captions, strict=False):
        prompt = read_record(path).get("prompt")
        if prompt is not None and prompt != caption.text:
            raise UserError(
                f"{path} was made for {prompt!r}, not for caption {caption.text!r}",
                hint="a folder's pictures belong to the captions in the order of their names",
            )
    return folder.pictures(count)
