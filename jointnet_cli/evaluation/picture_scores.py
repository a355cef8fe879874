"""What the tables of pictures have in common: pictures made and kept, and the numbers of a set of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import Caption, PictureSet
from jointnet_cli.evaluation.intervals import mean_estimate, set_estimate
from jointnet_cli.evaluation.judge.classifier import Judge
from jointnet_cli.evaluation.measure import Watch, row_key
from jointnet_cli.evaluation.methods import ImageRequest, Maker, MethodSpec
from jointnet_cli.evaluation.metrics.captions import QUESTIONS, Clip, count_answers, judge_key
from jointnet_cli.evaluation.metrics.distribution import RealFeatures, inception_score
from jointnet_cli.evaluation.metrics.features import FeatureSpace
from jointnet_cli.evaluation.report import Cell, Column, Estimate
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.images import read_image, write_grey_png, write_png

REAL = "real pictures"
"""The row of what the others are compared to."""
SET_RESAMPLES = 200
"""At most so many for numbers of a set, each of which takes an eigendecomposition."""
_Array = NDArray[np.float32]


@dataclass
class Scoring:
    """The networks that look at pictures, and where what they see is kept."""

    items: Runner
    watch: Watch
    spaces: Sequence[FeatureSpace]
    clip: Clip | None = None
    judge: Judge | None = None
    splits: int = 1
    resamples: int = 1000
    _real: dict[str, RealFeatures] = field(default_factory=dict)

    def columns(self, captions: Sequence[Caption], compared: bool) -> list[Column]:
        """Those of the networks; `compared` says that there are real pictures."""
        found = []
        for space in self.spaces:
            if compared:
                found.append(Column(space.frechet, "lower", 2))
            if space.score:
                found.append(Column(space.score, "higher", 2))
        if self.clip:
            found.append(Column(_similarity(self.clip), "higher", 2))
        if self.judge:
            counted = [question for number, question in enumerate(QUESTIONS) if _asks(captions, number)]
            found += [Column(_question(question), "higher", 1, percent=True) for question in counted]
        return found

    def take_real(self, pictures: PictureSet) -> dict[str, Cell]:
        """See the real pictures; their own Inception Scores.

        Raises:
            UserError: fewer than two can be read.
        """
        cells: dict[str, Cell] = {}
        for space in self.spaces:
            features, logits = self._embed(REAL, pictures, space)
            if len(features) < 2:
                raise UserError("a Fréchet distance needs at least two real pictures")
            self._real[space.name] = RealFeatures(features)
            cells |= self._score(space, logits)
        return cells

    def of_set(self, name: str, pictures: PictureSet) -> dict[str, Cell]:
        """The numbers of a set of pictures; a Fréchet distance where the real ones were seen."""
        cells: dict[str, Cell] = {}
        for space in self.spaces:
            features, logits = self._embed(name, pictures, space)
            if (real := self._real.get(space.name)) and len(features) > 1:
                cells[space.frechet] = self._estimate(len(features), real.distances(features))
            cells |= self._score(space, logits)
        return cells

    def of_captions(self, name: str, pictures: PictureSet, captions: Sequence[Caption]) -> dict[str, Cell]:
        """How well pictures fit the captions of their numbers."""
        cells: dict[str, Cell] = {}
        count = min(pictures.count, len(captions))
        if clip := self.clip:
            records = self._look(
                f"{name}, CLIP",
                f"{pictures.key} CLIP {clip.name}",
                count,
                lambda number: {"similarity": clip.similarity(pictures.tensor(number), captions[number].text)},
            )
            values = [record["similarity"] for record in records]
            cells[_similarity(clip)] = mean_estimate(values, resamples=self.resamples)
        if self.judge and any(caption.asked for caption in captions[:count]):
            cells |= self._answers(name, pictures, captions[:count], self.judge)
        return cells

    def facts(self) -> dict[str, Any]:
        """What the numbers have to come with."""
        found: dict[str, Any] = {"features": {space.name: space.key for space in self.spaces}}
        if any(space.score for space in self.spaces):
            found["splits of the Inception Score"] = self.splits
        if self.clip:
            found["CLIP"] = self.clip.name
        if self.judge:
            held_out = self.judge.facts.get("held_out", {})
            found["judge on held-out worlds"] = {
                "pictures": self.judge.facts.get("held_out_images"),
                "biome": held_out.get("biome"),
                "time": held_out.get("time"),
                "objects": held_out.get("objects_found"),
                "colour": held_out.get("colour"),
            }
        sets = min(self.resamples, SET_RESAMPLES)
        found["intervals"] = f"95 %, {self.resamples} resamples of the pictures, {sets} of numbers of a set"
        return found

    def _look(self, title: str, key: str, count: int, make: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        with self.watch(title) as progress:
            return self.items.run(key, count, make, progress)

    def _embed(self, name: str, pictures: PictureSet, space: FeatureSpace) -> tuple[_Array, _Array | None]:
        """Features (N, D) and logits (N, C) of the pictures that can be read, kept beside each other, a file a picture."""
        key = f"{pictures.key} {space.name} {space.key}"

        def see(number: int) -> dict[str, Any]:
            features, logits = space.run(pictures.tensor(number))
            parts = [features] if logits is None else [features, logits]
            with atomic_file(self.items.path(key, number, ".npy")) as temporary:
                np.save(temporary, np.concatenate([part[0].float().numpy() for part in parts]))
            return {"number": number, "features": features.shape[1]}

        records = self._look(f"{name}, {space.name}", key, pictures.count, see)
        if not records:
            return np.empty((0, 1), np.float32), None
        rows = np.stack([np.load(self.items.path(key, record["number"], ".npy")) for record in records])
        width = records[0]["features"]
        return rows[:, :width], rows[:, width:] if space.score else None

    def _score(self, space: FeatureSpace, logits: _Array | None) -> dict[str, Cell]:
        if space.score is None or logits is None or len(logits) < self.splits:
            return {}
        return {space.score: self._estimate(len(logits), lambda draw: inception_score(logits[draw], self.splits))}

    def _estimate(self, count: int, statistic: Callable[[NDArray[np.int64]], float]) -> Estimate:
        return set_estimate(count, statistic, resamples=min(self.resamples, SET_RESAMPLES))

    def _answers(
        self, name: str, pictures: PictureSet, captions: Sequence[Caption], judge: Judge
    ) -> dict[str, Estimate | None]:
        def ask(number: int) -> dict[str, Any]:
            asked = captions[number].asked
            return (
                vars(count_answers(judge, pictures.tensor(number), asked))
                if asked
                else {"right": [0] * 4, "asked": [0] * 4}
            )

        key = f"{pictures.key} judge {judge_key(judge)}"
        records = self._look(f"{name}, judge", key, len(captions), ask)
        right, asked = (np.array([record[part] for record in records]).reshape(-1, 4) for part in ("right", "asked"))
        return {
            _question(question): share(right[:, number], asked[:, number], self.resamples)
            for number, question in enumerate(QUESTIONS)
        }


def share(right: NDArray[np.int64], asked: NDArray[np.int64], resamples: int) -> Estimate | None:
    """The share of right answers over pictures that were asked different numbers of questions; `None` of none."""
    right, asked = right[asked > 0], asked[asked > 0]
    if not len(asked):
        return None
    found = set_estimate(len(asked), lambda draw: float(right[draw].sum() / asked[draw].sum()), resamples=resamples)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def make_pictures(
    row: MethodSpec, maker: Maker, scoring: Scoring, count: int, wish: Callable[[int], ImageRequest]
) -> tuple[PictureSet, dict[str, Any]]:
    """Make the pictures of a row, those that are not kept already, and keep each beside its record.

    Args:
        row: of the table.
        maker: of that row.
        scoring: where they are kept, and what shows the progress.
        count: how many.
        wish: what is wanted of a number.

    Returns:
        The pictures, and the settings they were made with.
    """
    key, items = row_key(row, maker.identity), scoring.items

    def make(number: int) -> dict[str, Any]:
        wanted = wish(number)
        made = maker(wanted)
        write_png(items.path(key, number, ".image.png"), made.image)
        if made.disparity is not None:
            write_grey_png(items.path(key, number, ".depth.png"), made.disparity)
        return {"prompt": wanted.prompt, "seed": wanted.seed, "settings": made.settings}

    with scoring.watch(row.name) as progress:
        records = items.run(key, count, make, progress)
    pictures = PictureSet(key, count, lambda number: read_image(items.path(key, number, ".image.png")))
    failed = {"failed": count - len(records)} if len(records) < count else {}
    return pictures, {"row": row.spec, **failed, **(records[0]["settings"] if records else {})}


def cells_of(columns: Sequence[Column], cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """The cells of a row, `None` where it has none."""
    return {column.name: cells.get(column.name) for column in columns}


def _similarity(clip: Clip) -> str:
    return f"CLIP similarity ({clip.name})"


def _question(question: str) -> str:
    return f"Judge {question}"


def _asks(captions: Sequence[Caption], number: int) -> bool:
    """Whether any caption asks a question of `QUESTIONS`."""
    labels = [caption.asked for caption in captions if caption.asked]
    asks = (
        lambda asked: asked.biome >= 0,
        lambda asked: asked.time >= 0,
        lambda asked: 1 in asked.present,
        lambda asked: max(asked.colour) >= 0,
    )
    return any(asks[number](asked) for asked in labels)
