"""Write the parts of content as files whose records state their conventions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.convert.change import covering, distances
from jointnet_cli.convert.content import Code, Content, DepthMap, TargetOptions, kind_of
from jointnet_cli.convert.conventions import SPACE, depth_convention, view_record
from jointnet_cli.convert.sphere import FILTER
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file, write_text
from jointnet_cli.files.color import by_bands, linear_to_srgb
from jointnet_cli.files.exr import write_channels
from jointnet_cli.files.images import write_deep_png, write_grey_png, write_jpeg, write_png
from jointnet_cli.files.metadata import NORMAL_QUANTITY, gpano_xmp
from jointnet_cli.files.text import PNG_KEY, to_json
from jointnet_cli.projection import Sphere
from jointnet_cli.record import SOFTWARE

SUFFIXES = {"exr": ".exr", "png": ".png", "tiff": ".tiff", "npy": ".npy", "jpg": ".jpg"}
_OWN_SUFFIX = re.compile(r"\.rgb[dn]*$")
_BITS = {
    "png": {"image": (8, 16), "depth": (16,), "normal": (16, 8)},
    "tiff": {"image": (8, 16), "depth": (32, 16), "normal": (32, 16, 8)},
}
"""Bits per sample that a format can have by part, the default first."""


@dataclass(frozen=True)
class OutputPlan:
    """A file to write."""

    path: Path
    parts: tuple[str, ...]
    record: dict[str, Any]
    code: Code | None
    """The depths of black and white."""
    bits: int
    """Bits per sample; 0 where the format has no choice."""
    cut: int = 0
    """Pixels whose distance lies beyond black or white."""

    @property
    def extra(self) -> tuple[Path, ...]:
        """Files beside it: the record, if the format cannot hold one."""
        return (self.path.with_name(self.path.name + ".json"),) if self.path.suffix == ".npy" else ()


def plan_files(source: Path, content: Content, target: TargetOptions, out: Path, command: str) -> list[OutputPlan]:
    """Return the files of one source: a single EXR, or one file per part.

    Raises:
        UserError: a part that the format cannot hold, or --white where it has no meaning.
    """
    parts = tuple(content.parts)
    stem = _OWN_SUFFIX.sub("", source.stem) if len(parts) > 1 and target.to != "exr" else source.stem
    groups = [parts] if target.to == "exr" else [(part,) for part in parts]
    plans = []
    for group in groups:
        name = stem if len(groups) == 1 else f"{stem}.{group[0]}"
        bits = _bits(target, group[0])
        code = _code(content.depth, target, bits) if "depth" in group and content.depth else None
        record = _record(source, content, target, group, code, bits, command)
        cut = _beyond(content.depth, code) if code and content.depth else 0
        plans.append(OutputPlan(out / f"{name}{SUFFIXES[target.to]}", group, record, code, bits, cut))
    return plans


def write_plan(plan: OutputPlan, content: Content, target: TargetOptions, metadata: bool) -> None:
    """Write a file and the files beside it; without `metadata` no record."""
    record = to_json(plan.record, ensure_ascii=False) if metadata else None
    if target.to == "exr":
        _write_exr(plan, content, target, record)
        return
    part = plan.parts[0]
    samples = _samples(plan, content, target)
    xmp = _xmp(content)
    if target.to == "png":
        text = {"Software": SOFTWARE, "jointnet": record, **content.texts} if record else {}
        if xmp:
            text[PNG_KEY] = xmp
        write = write_grey_png if part == "depth" else write_deep_png if plan.bits == 16 else write_png
        write(plan.path, samples, text)
    elif target.to == "jpg":
        write_jpeg(plan.path, samples, xmp, record)
    elif target.to == "tiff":
        _write_tiff(plan, samples, record)
    else:
        plan.extra[0].unlink(missing_ok=True)  # an old record would be read as this file's
        with atomic_file(plan.path) as temporary:
            np.save(temporary, samples.astype(np.float32), allow_pickle=False)
        if record:
            write_text(plan.extra[0], to_json(plan.record, indent=2) + "\n")


def stored_words(plan: OutputPlan) -> str:
    """Return the precision of the file in words."""
    if plan.path.suffix == ".exr":
        return "EXR, R G B half, maps float32" if "image" in plan.parts else "EXR, float32"
    if plan.path.suffix == ".npy":
        return "array of float32"
    name = {".png": "PNG", ".tiff": "TIFF", ".jpg": "JPEG"}[plan.path.suffix]
    return f"{name} of {plan.bits} bits"


def _bits(target: TargetOptions, part: str) -> int:
    if target.to == "jpg":
        if part != "image":
            raise UserError(f"JPEG is lossy and holds no {part} map", "pass --to png, tiff, exr or npy")
        return 8
    if target.to not in _BITS:
        if target.bits is not None:
            raise UserError(f"--bits has no effect on {target.to}", "leave --bits out, or pass --to png or --to tiff")
        return 0
    choices = _BITS[target.to][part]
    if target.bits is not None and target.bits not in choices:
        raise UserError(
            f"{target.to} cannot hold {part} in {target.bits} bits", f"pass --bits {' or '.join(map(str, choices))}"
        )
    return target.bits or choices[0]


def _code(depth: DepthMap, target: TargetOptions, bits: int) -> Code | None:
    """Return what black and white mean; `None` where the file holds the values themselves."""
    if target.to == "exr" and target.white:
        raise UserError("an EXR holds values, not black and white", "leave --white out")
    if depth.quantity == "disparity":
        return Code(1, 0) if target.white == "far" else Code() if bits == 16 or target.white else None
    if bits != 16:
        if target.white:
            raise UserError(
                "--white has no effect on distance in floating point", "leave --white out, or add --bits 16"
            )
        return None
    if target.metres.step is not None:
        if target.white:
            raise UserError("--white has no effect with --step: 0 is black", "leave one of them out")
        return Code(0, target.metres.step * 65535)
    given = target.metres.scale
    scale = given if given and not depth.scale else covering(distances(depth), depth.scale)
    return Code(scale.far, scale.near) if target.white == "near" else Code(scale.near, scale.far)


def _beyond(depth: DepthMap, code: Code) -> int:
    if depth.quantity == "disparity":
        return 0
    metres = distances(depth)
    stored = code.encode(metres[np.isfinite(metres)])
    return int(np.count_nonzero((stored < -1e-6) | (stored > 1 + 1e-6)))


def _samples(plan: OutputPlan, content: Content, target: TargetOptions) -> NDArray[np.float32]:
    """Return the numbers of a file that is no EXR.

    They are in [0, 1], except for distances in metres and normals in floating point.
    """
    part, code = plan.parts[0], plan.code
    if part == "image":
        assert content.image is not None
        return by_bands(lambda band: linear_to_srgb(np.clip(band, 0, 1)), content.image)
    if part == "normal":
        normal = _turned(content, target)
        return np.asarray((normal + 1) / 2 if plan.bits in (8, 16) else normal, np.float32)
    assert content.depth is not None
    if code is None:
        return content.depth.values
    if content.depth.quantity == "disparity":
        return code.encode(content.depth.values).astype(np.float32)
    metres = distances(content.depth)
    # Sky and unknown lie at the far end, or are 0 where that means unknown.
    far = 0.0 if target.metres.step is not None else max(code.black, code.white)
    return np.clip(code.encode(np.where(np.isfinite(metres), metres, far).astype(np.float32)), 0, 1).astype(np.float32)


def _write_exr(plan: OutputPlan, content: Content, target: TargetOptions, record: str | None) -> None:
    channels: dict[str, NDArray[Any]] = {}
    if content.image is not None:
        half = by_bands(lambda band: np.minimum(band, np.finfo(np.float16).max), content.image, np.float16)
        channels |= {name: half[..., index] for index, name in enumerate("RGB")}
    if content.depth is not None:
        channels["Z" if content.depth.quantity == "distance" else "disparity.Y"] = content.depth.values
    if content.normal is not None:
        normal = _turned(content, target)
        channels |= {f"normal.{axis}": normal[..., index] for index, axis in enumerate("XYZ")}
    attributes = {"software": SOFTWARE, "jointnet": record} if record else {}
    if record and "parameters" in content.texts:
        attributes["comments"] = content.texts["parameters"]
    height, width = content.size
    view = content.view
    if isinstance(view, Sphere):
        write_channels(
            plan.path, channels, attributes, wrap=width == view.full_width, sphere=view.is_whole(height, width)
        )
    else:
        write_channels(plan.path, channels, attributes, wrap=view is not None and view.wrap)


def _write_tiff(plan: OutputPlan, samples: NDArray[np.float32], record: str | None) -> None:
    import tifffile

    if plan.bits != 32:
        full = 2**plan.bits - 1
        samples = np.rint(np.clip(samples, 0, 1) * full).astype(np.uint16 if plan.bits == 16 else np.uint8)
    with atomic_file(plan.path) as temporary:
        tifffile.imwrite(
            temporary,
            samples,
            photometric="rgb" if samples.ndim == 3 else "minisblack",
            compression="adobe_deflate",
            # A description is ASCII; `None` writes none.
            description=None if record is None else to_json(plan.record),
            software=SOFTWARE,
            metadata=None,
        )


def _turned(content: Content, target: TargetOptions) -> NDArray[np.float32]:
    assert content.normal is not None
    return content.normal * np.array([1, -1 if target.normals == "directx" else 1, 1], np.float32)


def _xmp(content: Content) -> str | None:
    if content.view is None or kind_of(content.view) == "perspective":
        return None
    height, width = content.size
    return gpano_xmp(content.view, width, height)


def _record(
    source: Path,
    content: Content,
    target: TargetOptions,
    parts: tuple[str, ...],
    code: Code | None,
    bits: int,
    command: str,
) -> dict[str, Any]:
    height, width = content.size
    record: dict[str, Any] = {
        "software": SOFTWARE,
        "command": command,
        "task": "convert",
        "source": source.name,
        "width": width,
        "height": height,
    }
    if len(parts) == 1:
        record["part"] = parts[0]
    if content.view is not None:
        record["projection"] = view_record(content.view, width, content.coverage)
    maps: dict[str, Any] = {}
    if "depth" in parts and content.depth:
        stored = "16-bit grey" if bits == 16 else "float32"
        maps["depth"] = depth_convention(content.depth, content.view, stored, code)
    if "normal" in parts:
        stored = "float32" if bits in (0, 32) else f"{bits}-bit RGB, (n + 1) / 2"
        maps["normal"] = {
            "quantity": NORMAL_QUANTITY,
            "space": SPACE[target.normals],
            "stored": stored,
        }
    record["maps"] = maps
    if "--projection" in content.used:
        record["filter"] = FILTER
    if content.record:
        record["origin"] = content.record
    return record
