"""Parse which network labels which map: `depth=midas`, `normal=omnidata:FILE`, `depth=onnx:FILE?mean=0.5&std=0.5`.

Understood without torch, so that a command can refuse a mistake at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from jointnet_cli.errors import UserError, closest, did_you_mean
from jointnet_cli.model.hub import is_hub_id, models_dir

HUB = {
    "midas-dpt-hybrid": "Intel/dpt-hybrid-midas",
    "midas-beit-512": "Intel/dpt-beit-large-512",
    "depth-anything-v2-small": "depth-anything/Depth-Anything-V2-Small-hf",
}
"""Depth teachers by name, and where they are on the hub. The first is the paper's."""

ALIASES = {"midas": "midas-dpt-hybrid"}

ONNX, OMNIDATA = "onnx", "omnidata"

NAMES = (*ALIASES, *HUB, OMNIDATA, ONNX)

LABELLED = ("depth", "normal")
"""The modalities that a teacher can label."""

KINDS = ("disparity", "distance")

ENCODINGS = ("signed", "unsigned")

DIRECTIONS = {"r": (0, 1), "l": (0, -1), "u": (1, 1), "d": (1, -1), "b": (2, 1), "f": (2, -1)}
"""Right, left, up, down, backward (to the viewer) and forward, as axis and sign of our camera space."""

OUR_AXES = "rub"


@dataclass(frozen=True)
class TeacherSettings:
    """Preprocessing and conventions of a network; `None` takes what its files state."""

    size: int | None = None
    """Side in pixels of the square that images are resized to."""
    mean: tuple[float, ...] | None = None
    """Subtracted from sRGB in [0, 1], one number a channel."""
    std: tuple[float, ...] | None = None
    """Divided by after that."""
    kind: str | None = None
    """Depth: whether the network predicts `disparity` (inverse depth) or `distance`."""
    axes: str | None = None
    """Normals: where the three channels point, letters of `DIRECTIONS`. OpenCV's camera is `rdf`, ours `rub`."""
    encoding: str | None = None
    """Normals: `signed` vectors in [-1, 1], or `unsigned`, (n + 1) / 2."""


@dataclass(frozen=True)
class TeacherSpec:
    """One `MAP=TEACHER` of a command."""

    modality: str
    name: str
    """What records call the teacher; it holds no folders of the machine."""
    source: str
    """A folder, a file or a hub id."""
    format: Literal["transformers", "onnx", "omnidata"] = "transformers"
    """`omnidata` is the published checkpoint."""
    settings: TeacherSettings = field(default_factory=TeacherSettings)


OMNIDATA_SETTINGS = TeacherSettings(384, (0.0,) * 3, (1.0,) * 3, axes="rdf", encoding="unsigned")
"""Omnidata's normals come as (n + 1) / 2 of images that are not normalised. Their camera space is OpenCV's, with normals
towards the viewer: of a photographed room the published network says (0.0, -1.0, -0.1) for the floor, (0.0, 1.0, 0.1)
for the ceiling and (-0.5, 0.1, -0.8) for the wall ahead (maturk/dn-splatter, issue 9)."""


def parse_specs(texts: Iterable[str]) -> list[TeacherSpec]:
    """Return all `--label`s of a command.

    Raises:
        UserError: one is wrong, or two are for one map.
    """
    specs = [parse_spec(text) for text in texts]
    for modality in LABELLED:
        names = [spec.name for spec in specs if spec.modality == modality]
        if len(names) > 1:
            raise UserError(f"{modality} has several teachers: {', '.join(names)}", hint="a map has one teacher")
    return specs


def parse_spec(text: str) -> TeacherSpec:
    """Return `MAP=TEACHER[?KEY=VALUE&…]`.

    MAP is `depth` or `normal`. TEACHER is a name of `HUB` or `ALIASES`, a folder in transformers' format, a hub id,
    `onnx:FILE` or `omnidata:FILE|FOLDER`. The keys are the fields of `TeacherSettings`.

    Raises:
        UserError: no such map, teacher, key or value; with the nearest one that there is.
    """
    modality, equals, rest = text.partition("=")
    if not equals or modality not in LABELLED:
        near = f"{closest(modality, LABELLED, cutoff=0)}={rest}" if equals else f"depth={text}, if it labels depth"
        raise UserError(f"--label {text} does not say whether it labels depth or normal", hint=f"--label {near}")
    teacher, _, query = rest.partition("?")
    spec = _find(modality, teacher)
    given = _read_settings(modality, query)
    return replace(spec, settings=replace(spec.settings, **given))


def _find(modality: str, teacher: str) -> TeacherSpec:
    prefix, colon, place = teacher.partition(":")
    if prefix == OMNIDATA:
        if modality != "normal":
            raise UserError("omnidata labels normals", hint=f"--label normal={teacher}")
        spec = _local(modality, f"{OMNIDATA}:", place, OMNIDATA_HELP)
        return replace(spec, settings=OMNIDATA_SETTINGS)
    if prefix == ONNX and colon:
        return _local(modality, f"{ONNX}:", place, "give the path of an .onnx file")
    if teacher and Path(teacher).is_dir():
        return TeacherSpec(modality, Path(teacher).resolve().name, teacher)
    name = ALIASES.get(teacher, teacher)
    if name in HUB:
        if modality != "depth":
            raise UserError(f"{name} labels depth", hint=f"--label depth={teacher}")
        kept = models_dir() / name
        return TeacherSpec(modality, name, str(kept) if kept.is_dir() else HUB[name])
    if is_hub_id(teacher):
        return TeacherSpec(modality, teacher, teacher)
    forms = "give a folder in transformers' format, onnx:FILE, a hub id, or one of " + ", ".join(HUB)
    raise UserError(f"no teacher {teacher!r} for {modality}", hint=did_you_mean(teacher, NAMES) or forms)


OMNIDATA_HELP = (
    "omnidata:FILE with the published omnidata_dpt_normal_v2.ckpt or an .onnx of it, or omnidata:FOLDER with its DPT in "
    "transformers' format"
)


def _local(modality: str, prefix: str, place: str, remedy: str) -> TeacherSpec:
    """Return a teacher on this machine: an ONNX file, of Omnidata also a checkpoint or a folder."""
    path = Path(place)
    if path.suffix == ".onnx" and path.is_file():
        return TeacherSpec(modality, prefix + path.name, place, "onnx")
    if prefix == f"{OMNIDATA}:" and path.suffix == ".ckpt" and path.is_file():
        return TeacherSpec(modality, prefix + path.name, place, "omnidata")
    if prefix == f"{OMNIDATA}:" and place and path.is_dir():
        return TeacherSpec(modality, prefix + path.resolve().name, place)
    problem = f"{place} is not there" if place and not path.exists() else f"{place or prefix} cannot be opened"
    raise UserError(f"the teacher {problem}", hint=remedy)


def _read_settings(modality: str, query: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    applicable = [item.name for item in fields(TeacherSettings) if item.name not in _FOREIGN[modality]]
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in applicable:
            raise UserError(
                f"a teacher of {modality} has no setting {key!r}",
                hint=f"did you mean {closest(key, applicable, cutoff=0)}?",
            )
        try:
            given[key] = _READERS[key](value)
        except ValueError as error:
            raise UserError(f"{part}: {error}") from error
    return given


def _side(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or not 16 <= int(value) <= 4096:
        raise ValueError("a size is a number of pixels from 16 to 4096, such as 384")
    return int(value)


def _three(value: str) -> tuple[float, ...]:
    problem = ValueError("give one number, or three separated by commas, such as 0.485,0.456,0.406")
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        raise problem from None
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise problem
    return numbers * 3 if len(numbers) == 1 else numbers


def _deviations(value: str) -> tuple[float, ...]:
    numbers = _three(value)
    if min(numbers) <= 0:
        raise ValueError("a standard deviation is greater than 0")
    return numbers


def _axes(value: str) -> str:
    if sorted(DIRECTIONS[letter][0] for letter in value if letter in DIRECTIONS) != [0, 1, 2] or len(value) != 3:
        raise ValueError("axes are three letters of r|l, u|d and b|f, such as rdf (OpenCV) or rub (ours)")
    return value


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in names:
            raise ValueError(f"did you mean {closest(value, names, cutoff=0)}? There are {', '.join(names)}")
        return value

    return read


_READERS: dict[str, Callable[[str], Any]] = {
    "size": _side,
    "mean": _three,
    "std": _deviations,
    "kind": _one_of(KINDS),
    "axes": _axes,
    "encoding": _one_of(ENCODINGS),
}

_FOREIGN = {"depth": ("axes", "encoding"), "normal": ("kind",)}
