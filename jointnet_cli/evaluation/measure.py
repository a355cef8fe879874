"""What tables of predicted maps have in common: every row predicts every scene, and means over scenes are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jointnet_cli.evaluation.cases import Cases
from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.report import Cell, Column, Table
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.files.paths import text_digest
from jointnet_cli.progress import Progress

if TYPE_CHECKING:
    from jointnet_cli.evaluation.depth_rows import Predictor

Watch = Callable[[str], AbstractContextManager[Progress]]
"""Shows the progress of a row by its name."""
Record = dict[str, Any]
"""Of one scene: `key`, the row's `settings`, and a number for every metric, `None` for a scene without truth."""


@dataclass(frozen=True)
class Metric:
    """A column and what a scene's record calls it."""

    column: Column
    key: str


def measure(
    title: str,
    metrics: Sequence[Metric],
    scenes: Cases,
    rows: Mapping[MethodSpec, Predictor],
    items: Runner,
    judge: Callable[[Predictor, int], Record],
    *,
    count: int,
    resamples: int,
    watch: Watch,
    facts: Mapping[str, Any],
    references: Sequence[str] = (),
) -> Table:
    """The table of means over scenes.

    Args:
        title: of the table.
        metrics: its columns.
        scenes: pictures with their truth.
        rows: what predicts in each row.
        items: where finished scenes are kept.
        judge: from a predictor and a scene's number to the scene's record.
        count: so many scenes, from the first on.
        resamples: of the bootstrap.
        watch: called with each row's name.
        facts: what the table says of itself beside the truth, the counts and the rows.
        references: rows that do not compete.
    """
    cells: dict[str, Mapping[str, Cell]] = {}
    said: dict[str, Any] = {}
    blind = scenes_measured = 0
    for row, predictor in rows.items():
        with watch(row.name) as progress:
            records = items.run(row_key(row, predictor.identity), count, _of(judge, predictor), progress)
        known = [record for record in records if record[metrics[0].key] is not None]
        blind = max(blind, len(records) - len(known))
        scenes_measured = max(scenes_measured, len(known))
        cells[row.name] = {
            metric.column.name: mean_estimate([record[metric.key] for record in known], resamples=resamples)
            for metric in metrics
        }
        failed = {"failed": count - len(records)} if len(records) < count else {}
        said[row.name] = {"row": row.spec, **failed, **(known[0]["settings"] if known else {})}
    about = {
        "truth": scenes.facts,
        "scenes": scenes_measured,
        **({"scenes without truth": blind} if blind else {}),
        **facts,
        "intervals": f"95 %, {resamples} resamples of the scenes",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "rows": said,
    }
    return Table(title, tuple(metric.column for metric in metrics), cells, about, references)


def row_key(row: MethodSpec, identity: str) -> str:
    """What the items of a row are kept under: its spec, and the model or files behind it."""
    return f"{row.spec} {text_digest(identity, 8)}" if identity else row.spec


def _of(judge: Callable[[Predictor, int], Record], predictor: Predictor) -> Callable[[int], Record]:
    return lambda number: judge(predictor, number)
