"""Which flags of a conversion had an effect on a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jointnet_cli.convert.change import TargetOptions
from jointnet_cli.convert.content import Content, Part, kind_of
from jointnet_cli.convert.read import ReadOptions
from jointnet_cli.convert.write import OutputPlan
from jointnet_cli.errors import UserError


def refuse_unused(
    path: Path,
    content: Content,
    changed: Content,
    plans: Sequence[OutputPlan],
    reading: ReadOptions,
    wish: TargetOptions,
    *,
    alone: bool,
) -> None:
    """Refuse a flag that changed neither what was read of a file nor what is written.

    Args:
        path: the file.
        content: what was read.
        changed: what is to be written.
        plans: the files that are to be written.
        reading: what the flags say of the file.
        wish: what the flags ask for.
        alone: whether no other file was named; of several, flags for a part that this one does not hold are passed over.

    Raises:
        UserError: there is one.
    """
    for part, flag, given in _flags_of_parts(reading, wish):
        if given and alone and part not in content.parts:
            raise _without_effect(path, flag, f"the file holds no {part}")
    for flag, reason in (*_unused_of_depth(content, changed, plans, reading, wish), *_unused_of_views(content, wish)):
        raise _without_effect(path, flag, reason)


def _flags_of_parts(reading: ReadOptions, wish: TargetOptions) -> list[tuple[Part, str, bool]]:
    """The flags that concern one part: the part, the flag, and whether it was given."""
    return [
        ("depth", "--as", wish.quantity is not None),
        ("depth", "--axis", wish.axis is not None),
        ("depth", "--white", wish.white is not None),
        ("depth", "--step", wish.step is not None),
        ("depth", _scale_flags(reading), wish.scale is not None),
        ("depth", "--from-as", reading.quantity is not None),
        ("depth", "--from-axis", reading.axis is not None),
        ("depth", "--from-white", reading.white is not None),
        ("depth", "--channel", reading.channel is not None),
        ("normal", "--normals", wish.down),
        ("normal", "--from-normals", reading.down is not None),
        ("normal", "--normal-layer", reading.normal_layer is not None),
    ]


def _without_effect(path: Path, flag: str, reason: str) -> UserError:
    has, it = ("have", "them") if " and " in flag else ("has", "it")
    return UserError(f"{path}: {flag} {has} no effect: {reason}", f"leave {it} out")


def _scale_flags(reading: ReadOptions) -> str:
    return "--scale and --shift" if reading.raw else "--near and --far"


def _unused_of_depth(
    content: Content, changed: Content, plans: Sequence[OutputPlan], reading: ReadOptions, wish: TargetOptions
) -> Iterator[tuple[str, str]]:
    """The flags of a depth map that had no effect, and why."""
    if content.depth is None or changed.depth is None:
        return
    coded = changed.depth.quantity == "distance" and any(plan.code for plan in plans)
    unit = "its distances are metres or have a range of their own"
    if wish.step is not None and not coded and "--step" not in content.used:
        known = "it is disparity" if content.depth.quantity == "disparity" else unit
        yield "--step", f"{known}, and no distance of 16 bits is written"
    scaled = changed.depth.quantity == "disparity" or (coded and wish.step is None)
    if wish.scale is not None and not scaled and "scale" not in content.used:
        yield _scale_flags(reading), f"{unit}, and neither disparity nor a range of 16 bits is written"
    if reading.white is not None and "--from-white" not in content.used:
        yield "--from-white", "its distances have no white"


def _unused_of_views(content: Content, wish: TargetOptions) -> Iterator[tuple[str, str]]:
    """The flags of spheres and cylinders that had no effect, and why."""
    made = wish.kind if wish.kind is not None and wish.kind != kind_of(content.view) else None
    if wish.crop and made != "equirectangular":
        yield "--crop", "no sphere is made of a cylinder"
    if wish.vertical is not None and made != "cylindrical":
        yield "--vertical", "no cylinder is made of a sphere"
    if wish.width is not None and made is None:
        yield "--width", "the projection stays as it is"
