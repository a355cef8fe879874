"""The horizontal field of view of pictures, and whether panoramas wrap."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jointnet_cli.cli.options import option
from jointnet_cli.errors import UserError
from jointnet_cli.projection import FULL_CIRCLE, Projection, closes

VIEW_PANEL = "View"


@dataclass(frozen=True)
class ProjectionOptions:
    """What is known of the view in pictures that are given."""

    span: Annotated[
        float | None,
        option(
            "--span",
            panel=VIEW_PANEL,
            min=1,
            max=FULL_CIRCLE,
            metavar="DEGREES",
            help="The picture is a panorama of that horizontal field of view.",
            show_default="what the files say",
        ),
    ] = None
    wrap: Annotated[
        bool | None,
        option(
            "--wrap/--no-wrap",
            panel=VIEW_PANEL,
            help="Its left edge continues its right edge.",
            show_default="what the files say",
        ),
    ] = None

    def projection(self, *files: Path) -> Projection | None:
        """The projection by these flags and, where they are silent, by the first file that says one.

        `None` is a perspective picture, or one of which nothing is known.

        Raises:
            UserError: `--wrap` with a span other than 360, or a file that shows a sphere.
        """
        stated = next(filter(None, map(stated_panorama, files)), None)
        if self.span is None and (self.wrap is None or (stated is None and not self.wrap)):
            return stated
        stated_span = stated.span if stated else FULL_CIRCLE
        span = stated_span if self.span is None else self.span
        return Projection("cylindrical", span, closes(span, self.wrap))


def stated_panorama(path: Path) -> Projection | None:
    """The projection of a panorama that a file says it is, in its record or in GPano; `None` for any other picture.

    Raises:
        UserError: the file shows a sphere, whose rows are no heights on a cylinder.
    """
    from jointnet_cli.convert.conventions import view_of

    view = view_of(path)
    if isinstance(view, Projection):
        return view if view.kind == "cylindrical" else None
    if view is not None:
        to = "exr" if path.suffix.lower() == ".exr" else "png"
        command = shlex.join(["jointnet", "convert", str(path), "--to", to, "--projection", "cylindrical"])
        raise UserError(f"{path} shows a sphere (equirectangular)", f"make a cylinder of it first: {command}")
    return None
