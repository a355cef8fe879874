"""The flags that say which teachers label the maps of shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.cli.options import option

if TYPE_CHECKING:
    from jointnet_cli.data.labels.specs import TeacherSpec

LABEL_PANEL = "Labels"


@dataclass(frozen=True)
class LabelOptions:
    """Which maps the samples get, and from which networks."""

    label: Annotated[
        list[str] | None,
        option(
            "--label",
            panel=LABEL_PANEL,
            metavar="MAP=TEACHER",
            help="Add a map to every sample, once per map: `depth=midas`, `depth=depth-anything-v2-small`, "
            "`normal=omnidata:FILE`, `depth=onnx:FILE?mean=0.5&std=0.5`, `depth=DIR`.",
            show_default=False,
        ),
    ] = None
    relabel: Annotated[
        bool, option("--relabel", panel=LABEL_PANEL, help="Replace maps of another origin; worlds have exact ones.")
    ] = False
    label_batch: Annotated[
        int, option("--label-batch", panel=LABEL_PANEL, min=1, metavar="N", help="Images that a teacher gets at once.")
    ] = 16
    device: Annotated[
        str | None,
        option(
            "--device",
            env="DEVICE",
            panel=LABEL_PANEL,
            metavar="DEVICE",
            help="Where teachers compute: `cpu`, `cuda`, `cuda:1`, `mps`.",
            show_default="the fastest",
        ),
    ] = None

    def specs(self) -> list[TeacherSpec]:
        """The teachers, checked as far as that goes without opening them.

        Raises:
            UserError: a wrong one, or two for one map.
        """
        from jointnet_cli.data.labels.specs import parse_specs

        return parse_specs(self.label or ())
