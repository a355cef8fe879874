"""How a result was made, in words that a reader and a program understand."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path, PurePath
from typing import Any

from jointnet_cli import __version__
from jointnet_cli.output.naming import kind
from jointnet_cli.tasks import Depth, Generate, Panorama, Projection, Result

SOFTWARE = f"jointnet-cli {__version__}"

_DISTANCE = {"perspective": "planar Z", "cylindrical": "distance from the vertical axis"}


def record(result: Result) -> dict[str, Any]:
    """Everything that decides the pixels, as JSON values: the same command gives the same record, byte for byte.

    `request` holds what was asked for, with null for a default; `settings` holds what the engine made of it. From them
    `command` reads `model`, `steps`, `guidance`, `scheduler` and `dtype` where they are present.
    """
    task = result.task
    height, width = result.image.shape[:2]
    apart = {"image", "prompt", "negative_prompt", "seed"}
    request = {field.name: getattr(task, field.name) for field in fields(task) if field.name not in apart}
    plain: dict[str, Any] = _plain(
        {
            "software": SOFTWARE,
            "command": command(result),
            "task": kind(task),
            "prompt": task.prompt,
            "negative_prompt": _negative_prompt(result),
            "seed": task.seed,
            "width": width,
            "height": height,
            "request": request | {"sampling": asdict(task.sampling)},
            "settings": result.settings,
            "projection": asdict(result.projection),
            "maps": {name: convention(name, result.projection) for name in result.maps},
        }
    )
    return plain


def describe(result: Result, files: Mapping[str, Path]) -> dict[str, Any]:
    """The sidecar: `record`, the seconds it took, and the names of the files that lie beside it."""
    return {
        **record(result),
        "seconds": _plain(result.seconds),
        "timings": _plain(result.timings),
        "files": {key: path.name for key, path in files.items()},
    }


def convention(name: str, projection: Projection) -> dict[str, Any]:
    """What the values of the map `depth` or `normal` mean, in memory and in each file."""
    if name == "depth":
        return {
            "quantity": "relative disparity (inverse depth)",
            "near": 1.0,
            "far": 0.0,
            "scale": "unknown",
            "shift": "unknown",
            "distance": _DISTANCE[projection.kind],
            "png": "16-bit grey, 65535 * disparity",
            "exr": "disparity.Y, float32",
        }
    if name == "normal":
        return {
            "quantity": "unit surface normal",
            "space": "camera: x right, y up, z towards the viewer",
            "png": "8-bit RGB, (n + 1) / 2",
            "exr": "normal.X, normal.Y, normal.Z, float32",
        }
    raise ValueError(f"no convention is known for a map named {name}")


def command(result: Result) -> str:
    """The command line that makes the same pixels again, quoted for a POSIX shell."""
    task, settings = result.task, result.settings
    height, width = result.image.shape[:2]
    argument = task.prompt
    options: dict[str, Any] = {"model": settings.get("model"), "seed": task.seed}
    match task:
        case Depth():
            argument = str(task.source or "PHOTO")
            options |= {"prompt": task.prompt or None, "ensemble": task.ensemble}
        case Generate():
            options |= {"negative_prompt": task.negative_prompt or None, "width": width, "height": height}
        case Panorama():
            options |= {"negative_prompt": task.negative_prompt or None, "width": width, "height": height}
            names = ("span", "wrap", "stride", "whole_image_until", "whole_image_weight")
            options |= {name: getattr(task, name) for name in names}
            options["tile_batch"] = task.sampling.tile_batch
    for name in ("steps", "guidance", "scheduler"):
        options[name] = settings.get(name, getattr(task.sampling, name))
    options["dtype"] = str(settings["dtype"]).removeprefix("torch.") if "dtype" in settings else None

    words = [word for name, value in options.items() for word in _flag(name, _plain(value))]
    # After `--` a leading dash does not make an option of the prompt.
    line = [*words, "--", argument] if argument.startswith("-") else [argument, *words]
    return shlex.join(["jointnet", kind(task), *line])


def parameters(result: Result) -> str:
    """The same in the form that picture browsers know from A1111: prompt, negative prompt, `Steps: …, Seed: …`."""
    task, settings = result.task, result.settings
    height, width = result.image.shape[:2]
    facts = {
        "Steps": settings.get("steps", task.sampling.steps),
        "Sampler": settings.get("scheduler", task.sampling.scheduler),
        "CFG scale": settings.get("guidance", task.sampling.guidance),
        "Seed": task.seed,
        "Size": f"{width}x{height}",
        "Model hash": settings.get("model_hash"),
        "Model": settings.get("model"),
    }
    lines = [task.prompt]
    if negative_prompt := _negative_prompt(result):
        lines.append(f"Negative prompt: {negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(_plain(value))}" for name, value in facts.items() if value is not None))
    return "\n".join(lines)


def png_text(result: Result) -> dict[str, str]:
    """The text chunks of a PNG: `Software`, `jointnet` (`record` as JSON) and `parameters`."""
    return {"Software": SOFTWARE, "jointnet": json.dumps(record(result)), "parameters": _encodable(parameters(result))}


def exr_attributes(result: Result) -> dict[str, str]:
    """The string attributes of an EXR: the standard `software` and `comments`, and `jointnet` (`record` as JSON)."""
    return {"software": SOFTWARE, "comments": _encodable(parameters(result)), "jointnet": json.dumps(record(result))}


def _negative_prompt(result: Result) -> str:
    return "" if isinstance(result.task, Depth) else result.task.negative_prompt


def _flag(name: str, value: str | int | float | bool | None) -> list[str]:
    flag = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", _text(value)]


def _quoted(value: str | int | float) -> str:
    """A value of the last `parameters` line, where commas and colons separate."""
    text = _text(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def _text(value: str | int | float) -> str:
    """`7.5`, and `360` rather than `360.0`, without a loss of digits."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _encodable(text: str) -> str:
    """Text without what UTF-8 cannot hold: file names that are not UTF-8 reach Python as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(value: Any) -> Any:
    """`value` as JSON holds it: arrays as lists, numbers that are not finite as null, paths and the like as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, PurePath):
        return value.as_posix()
    if hasattr(value, "tolist"):  # NumPy's and torch's numbers and arrays, without an import of either
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
