"""The paper's Table 5: pictures painted for given depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.evaluation.cases import Case, FolderPictures, PictureSet, ShardPictures, true_disparity
from jointnet_cli.evaluation.depth_rows import Predicting, open_predictor
from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.makers import DEPTH_TO_IMAGE, FOLDER, open_maker
from jointnet_cli.evaluation.measure import row_key
from jointnet_cli.evaluation.methods import ImageRequest, Making, MethodSpec
from jointnet_cli.evaluation.metrics.consistency import OTHER_NOISE, partners, pearson, spearman
from jointnet_cli.evaluation.metrics.depth import align
from jointnet_cli.evaluation.picture_scores import REAL, Scoring, cells_of, make_pictures
from jointnet_cli.evaluation.report import Cell, Column, Table
from jointnet_cli.tensors import relative_disparity, resize, to_array, to_tensor

KINDS = (*DEPTH_TO_IMAGE, FOLDER)
PREDICTORS = ("jointnet", "midas", "midas+refine")
AGREEMENT = (
    Column("depth correlation", "higher"),
    Column("depth rank correlation", "higher"),
    Column("correlation with another's depth"),
    Column("RMSE of disparity", "lower"),
)
METRICS = dict(zip((column.name for column in AGREEMENT), ("pearson", "spearman", "shuffled", "rmse"), strict=True))


def measure_depth_to_image(
    shards: ShardPictures,
    rows: Sequence[MethodSpec],
    scoring: Scoring,
    *,
    real: ShardPictures | FolderPictures,
    predictor: MethodSpec,
    predicting: Predicting,
    how: Making,
    count: int,
) -> Table:
    """Paint pictures for the depth of samples, and compare them with real ones and the depth in them with the given.

    Depth is predicted from the painted picture alone, from other noise. The control is the depth of another sample.

    Args:
        shards: depth and captions; a sample's number is the seed of its picture.
        rows: of `KINDS`.
        scoring: the networks.
        real: what Fréchet distances are taken from, all of it.
        predictor: of depth, of a kind of `PREDICTORS`.
        predicting: its settings.
        how: settings of the painting.
        count: so many samples, from the first on.

    Raises:
        UserError: a row that cannot be opened.
    """
    makers = {row.name: open_maker(row, DEPTH_TO_IMAGE, how) for row in rows if row.kind != FOLDER}
    folders = {row.name: FolderPictures(Path(row.value)).pictures(count) for row in rows if row.kind == FOLDER}
    captions = shards.captions
    agreement = DepthAgreement(shards, scoring, predictor, predicting)
    columns = [*scoring.columns(captions[:count], compared=True), *AGREEMENT]
    own = scoring.take_real(real.pictures())
    given = shards.pictures()
    own |= scoring.of_captions(REAL, given, captions)
    own |= agreement.measure(REAL, PictureSet(given.key, count, given.read))
    cells: dict[str, Mapping[str, Cell]] = {REAL: cells_of(columns, own)}
    settings: dict[str, Any] = {}
    for row in rows:
        if finished := folders.get(row.name):
            pictures, settings[row.name] = finished, {"row": row.spec, "pictures": finished.count}
        else:
            maker = makers.pop(row.name)  # one model in memory at a time
            pictures, settings[row.name] = make_pictures(
                row,
                maker,
                scoring,
                count,
                lambda number: ImageRequest(captions[number].text, number, agreement.given(number)),
            )
            del maker
        found = scoring.of_set(row.name, pictures) | scoring.of_captions(row.name, pictures, captions)
        cells[row.name] = cells_of(columns, found | agreement.measure(row.name, pictures))
    return Table(
        "Depth to image",
        tuple(columns),
        cells,
        {
            "depth": shards.facts,
            "pictures a row": count,
            "real": real.facts,
            "depth of pictures predicted by": predictor.spec,
            **scoring.facts(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "rows": settings,
        },
        references=(REAL,),
    )


class DepthAgreement:
    """Does a painted picture have the depth it was painted for?"""

    def __init__(self, shards: ShardPictures, scoring: Scoring, predictor: MethodSpec, predicting: Predicting) -> None:
        self._shards, self._scoring = shards, scoring
        self._predict = open_predictor(predictor, predicting)
        self._key = row_key(predictor, self._predict.identity)
        self._partners = partners(len(shards))

    def given(self, number: int) -> NDArray[np.float32]:
        """(H, W) relative disparity of a sample.

        Raises:
            UserError: the sample has no depth.
        """
        truth = true_disparity(self._shards.sample(number, ("depth",)))
        return relative_disparity(truth[None])[0].numpy().astype(np.float32)

    def measure(self, name: str, pictures: PictureSet) -> dict[str, Cell]:
        """The numbers of `AGREEMENT`, over the pictures that are there."""
        key = f"{pictures.key} depth {self._key}"
        with self._scoring.watch(f"{name}, depth") as progress:
            compare = partial(self._compare, pictures)
            records = self._scoring.items.run(key, pictures.count, compare, progress)
        resamples = self._scoring.resamples
        return {
            column: mean_estimate([record[metric] for record in records], resamples=resamples)
            for column, metric in METRICS.items()
        }

    def _compare(self, pictures: PictureSet, number: int) -> dict[str, float]:
        picture = to_array(pictures.tensor(number))
        found = self._predict(Case(str(number), picture), number + OTHER_NOISE).values
        given = self.given(number)
        height, width = given.shape
        predicted = resize(found[None].float(), (height, width), "depth")[0]
        another = resize(to_tensor(self.given(self._partners[number])), (height, width), "depth")[0].numpy()
        return {
            "pearson": pearson(given, predicted.numpy()),
            "spearman": spearman(given, predicted.numpy()),
            "shuffled": pearson(another, predicted.numpy()),
            "rmse": aligned_error(predicted, torch.from_numpy(given), number),
        }


def aligned_error(predicted: Tensor, given: Tensor, seed: int = 0) -> float:
    """Root mean squared difference of a disparity (H, W) up to scale and shift from a given one in [0, 1]."""
    estimate, target = predicted.flatten().double(), given.flatten().double()
    scale, shift = align(estimate, target, torch.Generator().manual_seed(seed))
    return (estimate * scale + shift - target).square().mean().sqrt().item()
