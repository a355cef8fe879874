"""Input files of the image tasks, and how they are read: groups of flags that several tasks and `view` share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from jointnet_cli.errors import UserError
from jointnet_cli.modality import MODALITIES, RGB, DepthKind
from jointnet_cli.params import INPUT_PANEL, VIEW_PANEL, Param
from jointnet_cli.projection import FULL_CIRCLE, Projection, closes

_File = partial(Param, metavar="FILE", panel=INPUT_PANEL, shown=False)
_Channel = partial(Param, metavar="NAME", panel=INPUT_PANEL, shown="by name")

DEPTH_KIND = Param(
    "What the depth file's numbers are: disparity (near is large) or distance (near is small).", panel=INPUT_PANEL
)
CHANNEL = _Channel("The channel of an EXR that is depth, such as `ViewLayer.Depth.Z`.")
NORMAL_LAYER = _Channel("The layer of an EXR whose X, Y, Z are normals, such as `ViewLayer.Normal`.")


@dataclass(frozen=True)
class ImageFile:
    """The image that a request starts from."""

    image: Annotated[Path | None, Param("The image to start from.", "IMAGE", argument=True, shown=False)] = None


@dataclass(frozen=True)
class MapFiles:
    """Files of the dense maps that are known, and how they are read."""

    depth: Annotated[Path | None, _File(MODALITIES["depth"].file_help)] = None
    normal: Annotated[Path | None, _File(MODALITIES["normal"].file_help)] = None
    depth_kind: Annotated[DepthKind, DEPTH_KIND] = "auto"
    channel: Annotated[str | None, CHANNEL] = None
    normal_layer: Annotated[str | None, NORMAL_LAYER] = None

    @property
    def paths(self) -> dict[str, Path]:
        """The files that are given, by modality."""
        return {name: path for name in MODALITIES if (path := getattr(self, name, None)) is not None}

    def channel_of(self, modality: str) -> str | None:
        """Return the channel or layer of an EXR that is asked for."""
        return {"depth": self.channel, "normal": self.normal_layer}.get(modality)

    @property
    def settings(self) -> dict[str, str]:
        """How the files are read, where it differs from the defaults.

        Raises:
            UserError: a setting for a file that is not given.
        """
        stated = {"depth_kind": self.depth_kind, "channel": self.channel, "normal_layer": self.normal_layer}
        settings = {name: value for name, value in stated.items() if value not in (None, "auto")}
        for name in settings:
            of = "normal" if name == "normal_layer" else "depth"
            if of not in self.paths:
                raise UserError(f"--{name.replace('_', '-')} has no effect: no {of} file is given", "leave it out")
        return settings


@dataclass(frozen=True)
class RefinedMapFiles(MapFiles):
    """The same with the depth as an argument."""

    depth: Annotated[Path | None, Param("Its depth: PNG, TIFF, EXR or npy.", "DEPTH", argument=True, shown=False)] = (
        None
    )


@dataclass(frozen=True)
class MaskFiles:
    """Files of masks: white is repainted."""

    mask: Annotated[Path | None, _File("White is repainted.")] = None
    depth_mask: Annotated[Path | None, _File("White is repainted in the depth.", shown="same as --mask")] = None
    normal_mask: Annotated[Path | None, _File("White is repainted in the normals.", shown="same as --mask")] = None

    @property
    def paths(self) -> dict[str, Path]:
        """The masks that are given, by modality."""
        return {name: path for name in MODALITIES if (path := getattr(self, self.flag(name), None)) is not None}

    @staticmethod
    def flag(modality: str) -> str:
        """Name of the field that holds the mask of a modality."""
        return "mask" if modality == RGB else f"{modality}_mask"


@dataclass(frozen=True)
class ViewOptions:
    """What is known of the view in given images; `None` leaves it to the files."""

    span: Annotated[
        float | None,
        Param(
            "The image is a panorama with this horizontal field of view.",
            "DEGREES",
            ge=1,
            le=FULL_CIRCLE,
            panel=VIEW_PANEL,
            shown="what the files say",
        ),
    ] = None
    wrap: Annotated[
        bool | None,
        Param("Its left edge continues its right edge.", panel=VIEW_PANEL, shown="what the files say"),
    ] = None

    def projection(self, stated: Projection | None) -> Projection | None:
        """Return the projection by these options and, where they are silent, what the files state.

        `None` is a perspective image, or one about which nothing is known.

        Raises:
            UserError: `--wrap` with a span other than 360.
        """
        if self.span is None and (self.wrap is None or (stated is None and not self.wrap)):
            return stated
        span = (stated.span if stated else FULL_CIRCLE) if self.span is None else self.span
        return Projection("cylindrical", span, closes(span, self.wrap))
