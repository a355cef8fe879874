"""What an evaluation is: cases, methods that predict them, metrics, one table. The one loop over all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.methods import MethodSettings
from jointnet_cli.files.paths import check_folder
from jointnet_cli.params import OUTPUT_PANEL, QUIET, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import Case, Cases
    from jointnet_cli.evaluation.figures import SheetCell
    from jointnet_cli.evaluation.methods import Kinds, Method, MethodSpec, Prediction
    from jointnet_cli.evaluation.metrics.metric import Metric, Predictions
    from jointnet_cli.evaluation.report import Cell
    from jointnet_cli.evaluation.runner import Record, Runner, Watch

Json = Annotated[bool, Param("Print one JSON object a line instead of Markdown.", panel=OUTPUT_PANEL, flag="--json")]
Quiet = Annotated[bool, QUIET]
Measure = Callable[["Case", "Prediction"], Mapping[str, Any]]


def _measured(case: Case, prediction: Prediction) -> Mapping[str, Any]:
    """Record the numbers that the method measured itself."""
    return prediction.measured


@dataclass(frozen=True)
class TablePart:
    """One kind of prediction in a table."""

    cases: Cases
    metrics: Sequence[Metric]
    kinds: Kinds
    """The kinds of methods that predict it; other methods of the table have none of its numbers."""
    keep: Collection[str] = ()
    """The parts of a prediction that are kept as files: `image`, `depth`, `normal`, `again`."""
    measure: Measure = _measured
    """Measures a prediction in memory, before it is rounded to a file."""
    has_truth: Callable[[Case], bool] = lambda case: True
    """Whether a case can be measured; a case without truth is not predicted and counts for no column."""
    title: str = ""
    """Its name where a table has several parts."""
    key: str = ""
    """What tells its predictions from those of other parts."""


Made = Sequence[tuple[TablePart, "Predictions"]]
"""The predictions of one method, by part."""
Row = Sequence[tuple["Metric", "Predictions"]]
"""What is measured for one row of a table."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One table. The fields are the flags of its command.

    Raises:
        UserError: a mistake in the flags, found before anything is predicted.
    """

    name: ClassVar[str]
    """Of the command."""
    example: ClassVar[str]
    """Of its use."""
    title: ClassVar[str]
    """Of the table."""
    defaults: ClassVar[tuple[str, ...]]
    """The methods if none are given."""
    kind_names: ClassVar[tuple[str, ...]]
    """The keys of `kinds`, which imports torch."""

    methods: Annotated[
        list[str] | None,
        Param(
            "A method, which is a row of the table. Repeatable.",
            "[NAME=]KIND[:VALUE]",
            flag="--method",
            former="--row --rows",
        ),
    ] = None
    limit: Annotated[int | None, Param("Use only the first items.", "N", ge=1)] = None
    resamples: Annotated[int, Param("Resamples that the 95 % intervals are taken of.", "N", ge=1)] = 1000
    settings: MethodSettings = field(default_factory=MethodSettings)
    out: Annotated[
        Path | None,
        Param(
            "Folder of the items and the table; finished items in it are not made again.",
            "DIR",
            shown="evaluation/ and the command",
            panel=OUTPUT_PANEL,
            flag="--out -o",
            out=True,
        ),
    ] = None
    json: Json = False
    quiet: Quiet = False

    @property
    def folder(self) -> Path:
        """Where items and table are kept."""
        return self.out or Path("evaluation", self.name)

    def check(self) -> None:
        """Refuse mistakes in the flags before torch is imported.

        Raises:
            UserError: input is missing, or `--out` is no folder.
        """
        check_folder(self.folder)

    def kinds(self) -> Kinds:
        """Return the kinds of methods of the table, by `kind_names`."""
        raise NotImplementedError

    def parts(self) -> Sequence[TablePart]:
        """Open the data and the networks that measure."""
        raise NotImplementedError

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        """Return what decides the results besides methods and numbers of cases."""
        raise NotImplementedError

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        """Return what the numbers must be stated with."""
        raise NotImplementedError

    def references(self, parts: Sequence[TablePart]) -> Mapping[str, Row]:
        """Return rows of no method, which do not compete."""
        return {}

    def rows(self, name: str, made: Made) -> Mapping[str, Row]:
        """Return the rows of one method; all but the one with its own name are controls, which do not compete."""
        return {name: [(metric, predictions) for part, predictions in made for metric in part.metrics]}

    def method_facts(self, made: Made) -> Mapping[str, Any]:
        """Return what a table states about one method besides its spec."""
        ((part, predictions),) = made
        known = [record for record in predictions.records.values() if record.get("settings")]
        failed = self.count(part, None) - len(predictions.records)
        return {**({"failed": failed} if failed else {}), **(known[0]["settings"] if known else {})}

    def sheet_cells(self, name: str, made: Made, runner: Runner) -> Mapping[int, SheetCell]:
        """Return the cells of one method on the contact sheet, by case. Every process calls it."""
        return {}

    def count(self, part: TablePart, method: Method | None) -> int:
        """Return how many cases a method predicts."""
        available = len(part.cases) if method is None else method.count(part.cases)
        return min(available, self.limit or available)

    def run(self, watch: Watch) -> int:
        """Predict, measure and publish. Finished items are not made again.

        Args:
            watch: shows progress.

        Returns:
            The number of items that failed.
        """
        self.check()
        from jointnet_cli.evaluation.methods import expand_checkpoints, parse_methods

        texts, steps = expand_checkpoints(self.methods or self.defaults)
        specs = parse_methods(texts, self.kind_names)
        for spec in specs:
            spec.check(self.settings)
        from jointnet_cli.evaluation.figures import publish, write_columns
        from jointnet_cli.evaluation.report import Table
        from jointnet_cli.evaluation.runner import Runner, join_processes
        from jointnet_cli.processes import leave

        join_processes()
        parts = self.parts()
        opened = [(spec, [self._open(spec, part) for part in parts if spec.kind in part.kinds]) for spec in specs]
        columns = {column.name: column for part in parts for metric in part.metrics for column in metric.columns}
        if not columns:
            raise UserError("nothing to measure: these features need real images", hint="give --shards or --reference")
        runner = Runner(self.folder, {"command": self.name, **self.identity(parts)}, watch)
        cells = {name: _measure(row, runner) for name, row in self.references(parts).items()}
        references = list(cells)
        facts: dict[str, Any] = {}
        made: list[Made] = []
        sheet: list[Mapping[int, SheetCell]] = []
        while opened:
            spec, predicted, ranked = self._predict(opened, runner)  # one model in memory at a time
            made.append(predicted)
            for name, row in self.rows(spec.name, predicted).items():
                cells[name] = _measure(row, runner)
                references += [] if name == spec.name and ranked else [name]
            facts[spec.name] = {"row": spec.spec, **self.method_facts(predicted)}
            sheet.append(self.sheet_cells(spec.name, predicted, runner))
        about = {**self.facts(parts, made), "date": f"{datetime.now(UTC):%Y-%m-%d}", "rows": facts}
        if runner.main:
            if any(sheet):
                write_columns(sheet, self.folder / "sheet.png", quiet=self.quiet)
            table = Table(self.title, tuple(columns.values()), cells, about, references, steps)
            publish(table, self.folder, as_json=self.json, quiet=self.quiet)
        leave()
        return runner.failed

    def _open(self, spec: MethodSpec, part: TablePart) -> tuple[TablePart, Method]:
        method = spec.open(part.kinds, self.settings)
        method.require(part.cases, self.count(part, method))
        return part, method

    def _predict(
        self, opened: list[tuple[MethodSpec, list[tuple[TablePart, Method]]]], runner: Runner
    ) -> tuple[MethodSpec, Made, bool]:
        """Take the next method and predict its cases; the method is dropped on return."""
        spec, methods = opened.pop(0)
        made = [(part, predict(method, part, self.count(part, method), runner)) for part, method in methods]
        return spec, made, all(method.ranked for _, method in methods)


def predict(method: Method, part: TablePart, count: int, runner: Runner) -> Predictions:
    """Predict cases that have no record yet, and keep their records and files.

    Finished predictions are not copied; each is read once, so that an unreadable one fails alone.
    """
    from jointnet_cli.evaluation.cases import Case
    from jointnet_cli.evaluation.methods import Prediction
    from jointnet_cli.evaluation.metrics.metric import Predictions

    key = f"{method.key} {part.key}" if part.key else method.key
    title = f"{method.name}, {part.title}" if part.title else method.name

    def make(number: int) -> Record:
        if method.finished:
            method.predict(Case(number))
            return {"number": number, "settings": {}}
        case = part.cases[number]
        record = {"number": number, "prompt": case.prompt, "seed": case.seed} if part.keep else {"key": case.key}
        if not part.has_truth(case):
            return {**record, "settings": {}}
        prediction = method.predict(case)
        for name in part.keep:
            if (values := getattr(prediction, name)) is not None:
                write, _ = _files()[name]
                write(runner.path(key, number, f".{name}.png"), values)
        return {**record, **part.measure(case, prediction), "settings": dict(prediction.settings)}

    def read_kept(number: int, names: Collection[str]) -> Prediction:
        paths = {name: runner.path(key, number, f".{name}.png") for name in names}
        return Prediction(**{name: _files()[name][1](path) for name, path in paths.items() if path.exists()})

    records = runner.run(key, range(count), make, title)
    if method.finished:
        return Predictions(method.name, key, records, lambda number, names: method.predict(Case(number)), True)
    return Predictions(method.name, key, records, read_kept, grid=method.grid)


def _files() -> dict[str, tuple[Callable[[Path, Any], None], Callable[[Path], Any]]]:
    """Return how the parts of a prediction are written and read."""
    from jointnet_cli.files.images import read_disparity_png, read_image, write_grey_png, write_normal_png, write_png
    from jointnet_cli.files.maps import read_map

    return {
        "image": (write_png, read_image),
        "depth": (write_grey_png, read_disparity_png),
        "normal": (write_normal_png, lambda path: read_map(path, "normal").values),
        "again": (write_grey_png, read_disparity_png),
    }


def _measure(row: Row, runner: Runner) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for metric, predictions in row:
        cells |= metric(predictions, runner)
    return cells
