"""Flags of `jointnet prepare`."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from jointnet_cli.cli.options import DRY_RUN
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.devices import DEVICE
from jointnet_cli.params import JSON, QUIET, Param

if TYPE_CHECKING:
    from jointnet_cli.data.labels.specs import TeacherSpec

_Source = partial(Param, panel="Source")
_Work = partial(Param, panel="Parallel work", shown=False)
_Labels = partial(Param, panel="Labels")


@dataclass(frozen=True)
class ImageSourceOptions:
    """Which images."""

    sources: Annotated[
        list[str] | None,
        Param(
            "`worlds` renders scenes (`./worlds` is a folder). Otherwise tables (parquet, csv, jsonl), images or shards: "
            "files, folders, patterns, `hf://`, `s3://`, `https://`.",
            "SOURCE",
            argument=True,
            shown="COYO-700M from the hub, or the recipe's",
        ),
    ] = None
    source: Annotated[str | None, Param("", hidden=True)] = None
    """The former flag for a source."""
    count: Annotated[
        int | None, Param("Number of images.", "N", ge=1, flag="--count -n", shown="all; worlds need it")
    ] = None
    everything: Annotated[
        bool, Param("Take all images. A command without a SOURCE needs this or --count.", flag="--all", shown=False)
    ] = False
    recipe: Annotated[
        str | None,
        _Source(
            "A TOML file, or `prepare/coyo`: source, columns, filter, size and limits. Flags override it; `none` is for none.",
            "RECIPE",
            shown="prepare/coyo for tables with COYO's columns",
            complete="recipe",
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        _Source("Replace a setting, as in `fetch.retries=4`. Repeatable.", "KEY=VALUE", flag="--set"),
    ] = None
    columns: Annotated[
        list[str] | None,
        _Source(
            "Which column of the source is `url`, `caption`, `width` and so on; further pairs follow after a space or a "
            "comma.",
            "NAME=COLUMN …",
            shown="by their names",
        ),
    ] = None
    dedupe: Annotated[
        str | None,
        Param(
            "Keep one row of each value, column after column; empty for none.",
            "COLUMN,…",
            panel="Filter",
            shown="recipe's, else url",
            pattern=".*",
        ),
    ] = None


@dataclass(frozen=True)
class PrepareOptions:
    """Where the shards go, and who makes them."""

    out: Annotated[Path, Param("Folder for the shards; made if missing.", "DIR", flag="--out -o", out=True)] = Path(
        "shards"
    )
    workers: Annotated[int | None, Param("Processes.", "N", ge=1, env=True, panel="Worlds", shown="one a core")] = None
    retry_failed: Annotated[
        str | None,
        _Work(
            "Also fetch again what failed before for these causes: `timeout`, `5xx`, `http_404`, `all` and so on.",
            "CAUSE,…",
        ),
    ] = None
    worker: Annotated[str | None, _Work("Do the I-th of N parts, I from 1 to N.", "I/N")] = None
    cluster: Annotated[
        str | None,
        _Work(
            "Send shards to the workers of a Ray cluster; without an address, to one on this machine.",
            "ray[=ADDRESS]",
        ),
    ] = None
    verify: Annotated[
        bool,
        _Work(
            "Check the set in SOURCE, a folder of shards: hashes, counts, members and records. Prints one line a fault.",
            flag="--verify",
            shown=False,
        ),
    ] = False
    repair: Annotated[
        bool,
        _Work(
            "Check the set in SOURCE and make again what is damaged or missing: records from shards, shards from the plan.",
            flag="--repair",
            shown=False,
        ),
    ] = False
    json: Annotated[bool, JSON] = False
    quiet: Annotated[bool, QUIET] = False
    dry_run: Annotated[bool, DRY_RUN] = False


@dataclass(frozen=True)
class LabelOptions:
    """Which maps the samples get, and from which networks."""

    label: Annotated[
        list[str] | None,
        _Labels(
            "Add a map to every sample, once per map: `depth=midas`, `depth=depth-anything-v2-small`, "
            "`normal=omnidata:FILE`, `depth=onnx:FILE?mean=0.5&std=0.5`, `depth=DIR`.",
            "MAP=TEACHER",
            shown=False,
        ),
    ] = None
    relabel: Annotated[
        bool, _Labels("Replace maps of another origin; worlds have exact ones.", flag="--relabel", shown=False)
    ] = False
    label_batch: Annotated[int, _Labels("Images that a teacher gets at once.", "N", ge=1)] = 16
    device: Annotated[
        str | None,
        replace(DEVICE, help="Where teachers compute: `cpu`, `cuda`, `cuda:1`, `mps`.", panel="Labels"),
    ] = None

    def specs(self) -> list[TeacherSpec]:
        """Return the teachers, checked as far as that goes without opening them.

        Raises:
            UserError: a wrong one, or two for one map.
        """
        from jointnet_cli.data.labels.specs import parse_specs

        return parse_specs(self.label or ())


def _optional(table: type) -> type:
    """Return a dataclass of the same described fields, each `None` unless its flag is given."""
    hints = get_type_hints(table, include_extras=True)
    made: list[tuple[str, Any, Any]] = []
    for name in (field.name for field in fields(table)):
        if is_dataclass(hints[name]):
            inner = _optional(hints[name])
            made.append((name, inner, inner()))
        elif metadata := getattr(hints[name], "__metadata__", ()):
            made.append((name, Annotated[hints[name].__origin__ | None, *metadata], None))
    return make_dataclass(f"{table.__name__}Flags", made, frozen=True)


SettingFlags = _optional(PrepareSettings)
"""Settings that are given by flags: tables of values, `None` for what the recipe decides."""
