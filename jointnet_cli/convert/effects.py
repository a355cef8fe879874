"""Refuse flags that have no effect on a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jointnet_cli.convert.content import Content, Part, SourceOptions, TargetOptions, kind_of
from jointnet_cli.convert.write import OutputPlan
from jointnet_cli.errors import UserError


def refuse_unused(
    path: Path,
    content: Content,
    changed: Content,
    plans: Sequence[OutputPlan],
    source: SourceOptions,
    target: TargetOptions,
    *,
    alone: bool,
) -> None:
    """Refuse a flag that changed neither what was read of a file nor what is written.

    Args:
        path: the file.
        content: what was read.
        changed: what is to be written.
        plans: the files that are to be written.
        source: what the flags say of the file.
        target: what the flags ask for.
        alone: whether it is the only file; with several, flags for a part that this file lacks are ignored.

    Raises:
        UserError: a flag without effect.
    """
    for part, flag, given in _flags_of_parts(source, target):
        if given and alone and part not in content.parts:
            raise _without_effect(path, flag, f"the file holds no {part}")
    for flag, reason in (
        *_unused_of_depth(content, changed, plans, source, target),
        *_unused_of_views(content, target),
    ):
        raise _without_effect(path, flag, reason)


def _flags_of_parts(source: SourceOptions, target: TargetOptions) -> list[tuple[Part, str, bool]]:
    """Return the flags that concern one part: the part, the flag, and whether it was given."""
    return [
        ("depth", "--as", target.quantity is not None),
        ("depth", "--axis", target.axis is not None),
        ("depth", "--white", target.white is not None),
        ("depth", "--step", target.metres.step is not None),
        ("depth", _scale_flags(source), target.metres.scale is not None),
        ("depth", "--depth-kind", source.depth_kind != "auto"),
        ("depth", "--from-axis", source.axis is not None),
        ("depth", "--from-white", source.white is not None),
        ("depth", "--channel", source.channel is not None),
        ("normal", "--normals", target.normals == "directx"),
        ("normal", "--from-normals", source.normals is not None),
        ("normal", "--normal-layer", source.normal_layer is not None),
    ]


def _without_effect(path: Path, flag: str, reason: str) -> UserError:
    has, it = ("have", "them") if " and " in flag else ("has", "it")
    return UserError(f"{path}: {flag} {has} no effect: {reason}", f"leave {it} out")


def _scale_flags(source: SourceOptions) -> str:
    return "--depth-scale and --depth-shift" if source.metres.fitted else "--near and --far"


def _unused_of_depth(
    content: Content, changed: Content, plans: Sequence[OutputPlan], source: SourceOptions, target: TargetOptions
) -> Iterator[tuple[str, str]]:
    """Yield the flags of a depth map that had no effect, and why."""
    if content.depth is None or changed.depth is None:
        return
    coded = changed.depth.quantity == "distance" and any(plan.code for plan in plans)
    unit = "its distances are metres or have a range of their own"
    if target.metres.step is not None and not coded and "--step" not in content.used:
        known = "it is disparity" if content.depth.quantity == "disparity" else unit
        yield "--step", f"{known}, and no distance of 16 bits is written"
    scaled = changed.depth.quantity == "disparity" or (coded and target.metres.step is None)
    if target.metres.scale is not None and not scaled and "scale" not in content.used:
        yield _scale_flags(source), f"{unit}, and neither disparity nor a range of 16 bits is written"
    if source.white is not None and "--from-white" not in content.used:
        yield "--from-white", "its distances have no white"


def _unused_of_views(content: Content, target: TargetOptions) -> Iterator[tuple[str, str]]:
    """Yield the flags of spheres and cylinders that had no effect, and why."""
    made = target.projection if target.projection is not None and target.projection != kind_of(content.view) else None
    if target.crop and made != "equirectangular":
        yield "--crop", "no sphere is made of a cylinder"
    if target.vertical is not None and made != "cylindrical":
        yield "--vertical", "no cylinder is made of a sphere"
    if target.width is not None and made is None:
        yield "--width", "the projection stays as it is"
