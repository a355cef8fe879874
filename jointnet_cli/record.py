"""How a result was made, in words that a reader and a program understand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from jointnet_cli import __version__
from jointnet_cli.files.metadata import convention
from jointnet_cli.files.text import encodable, load_json, to_json
from jointnet_cli.modality import MODALITIES
from jointnet_cli.params import params, shell_line, text_of

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine
    from jointnet_cli.progress import Timer
    from jointnet_cli.request import Request
    from jointnet_cli.results import Result
    from jointnet_cli.sampling.loop import Job

SOFTWARE = f"jointnet-cli {__version__}"

_APART = frozenset({"image", "maps", "masks", "prompt", "negative_prompt", "seed", "photo", "files", "marks", "view"})
"""Fields of a request that are images or their files, or that the record holds in another place."""


def record(result: Result) -> dict[str, Any]:
    """Return everything that decides the pixels, as JSON values: the same command gives the same record, byte for byte.

    `request` holds what was asked for, with null for a default; `settings` holds what the engine made of it. From them
    `command` reads `model`, `preset`, `steps`, `guidance`, `scheduler` and `dtype` where they are present.
    """
    task = result.task
    height, width = result.image.shape[:2]
    request = {field.name: getattr(task, field.name) for field in fields(task) if field.name not in _APART}  # type: ignore[arg-type]
    if "files" in {field.name for field in fields(task)}:  # type: ignore[arg-type]
        request["sources"] = task.sources
    plain: dict[str, Any] = _plain(
        {
            "software": SOFTWARE,
            "command": command(result),
            "task": task.name,
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "seed": task.seed,
            "width": width,
            "height": height,
            "request": request,
            "settings": result.settings,
            "projection": asdict(result.projection),
            "maps": {
                name: convention(name, result.projection) | _uncertainty(name, name in result.uncertainty)
                for name in result.maps
            },
        }
    )
    return plain


def describe(result: Result, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return the sidecar: `record`, the seconds it took, and the names of the files that lie beside it."""
    return {
        **record(result),
        "seconds": _plain(result.seconds),
        "timings": _plain(result.timings),
        "files": {key: path.name for key, path in files.items()},
    }


def run_settings(engine: Engine, job: Job, timer: Timer) -> dict[str, Any]:
    """Return what decides the pixels of a result, resolved, and the evaluations that a run took."""
    sampling = asdict(job.sampling)
    del sampling["tile_batch"]
    unknown = engine.model.unknown_words(job.prompt, job.negative_prompt)
    cut = engine.model.cut_words(job.prompt, job.negative_prompt)
    return {
        "model": engine.name,
        **({} if engine.base is None else {"base": engine.base}),
        "model_hash": engine.hash,
        "branches": engine.model.joint.names,
        **sampling,
        "strength": job.strength,
        "evaluations": round(timer.counts["evaluations"], 1),
        "width": job.layout.width * engine.model.factor,
        "height": job.layout.height * engine.model.factor,
        "layout": asdict(job.layout),
        "device": engine.device.type,
        "dtype": str(engine.dtype).removeprefix("torch."),
        **({"unknown_words": unknown} if unknown else {}),
        **({"cut_words": cut} if cut else {}),
    }


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """Return the record in a sidecar; `None` if there is no file, or it is not a whole record."""
    try:
        content = load_json(path)
    except Exception:  # what cannot be used counts as not stated
        return None
    return content if isinstance(content, dict) and isinstance(content.get("files"), dict) else None


def is_record_of(content: Mapping[str, Any], task: Request) -> bool:
    """Return whether a record is of a request: the same task, prompt, seed and input image."""
    made = [content.get(name) for name in ("task", "prompt", "seed")]
    return is_of_image(content, task) and made == [task.name, encodable(task.prompt), task.seed]


def is_of_image(content: Mapping[str, Any], task: Request) -> bool:
    """Return whether a record and a request have the same input image, or none."""
    image = task.sources.get("image")
    return recorded_image(content) == (None if image is None else image.resolve())


def recorded_image(content: Mapping[str, Any]) -> Path | None:
    """Return the absolute path of the input image that a record states; a relative one is below the working directory."""
    request = content.get("request")
    asked = request if isinstance(request, dict) else {}
    sources = asked.get("sources")
    path = asked.get("source") or (sources.get("image") if isinstance(sources, dict) else None)
    try:
        return Path(path).resolve() if isinstance(path, str) else None
    except (OSError, ValueError):  # no name that a file can have
        return None


def command(result: Result) -> str:
    """Return the command line that makes the same pixels again, quoted for a POSIX shell."""
    task, settings = result.task, result.settings
    arguments, own = _spoken(result)
    options: dict[str, Any] = {"model": settings.get("model"), "base": settings.get("base"), "seed": task.seed}
    options |= {"negative_prompt": task.negative_prompt or None, **own}
    resolved = ("preset", "steps", "guidance", "scheduler")
    options |= {name: settings.get(name, getattr(task.sampling, name)) for name in resolved}
    options |= {name: getattr(task.sampling, name) for name in ("spacing", "tiling", "guidance_interval")}
    if any(parameter.name == "tile_batch" for parameter in params(type(task))):
        options["tile_batch"] = task.sampling.tile_batch
    options["dtype"] = str(settings["dtype"]).removeprefix("torch.") if "dtype" in settings else None

    return shell_line(
        task.name, arguments, [word for name, value in options.items() for word in _flag(name, _plain(value))]
    )


def _spoken(result: Result) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments of the command line, and the options of the task itself."""
    task, height, width = result.task, *result.image.shape[:2]
    described = params(type(task))
    names = [parameter.name for parameter in described if parameter.param.argument]
    files: dict[str, Any] = {name: path for name, path in task.sources.items() if name not in names and name != "image"}
    files |= {name: result.settings.get(name) for name in ("depth_kind", "channel", "normal_layer")}
    given = {"image": "IMAGE", "prompt": task.prompt, **{name: str(path) for name, path in task.sources.items()}}
    arguments = [given[name] for name in names or ["image"] if name in given]
    own = {
        parameter.name: getattr(task, parameter.name)
        for parameter in described
        if len(parameter.path) == 1 and parameter.name not in (*names, "prompt", "negative_prompt", "seed")
    }
    sizes = {"width": width, "height": height} if "width" in own else {}
    view = {} if task.projection is None else {"span": task.projection.span, "wrap": task.projection.wrap}
    captioned = {} if "prompt" in names else {"prompt": task.prompt or None}
    return arguments, captioned | sizes | files | {**own, **sizes} | view


def parameters(result: Result) -> str:
    """Return the record in the form that image browsers read, as A1111 writes it.

    Prompt, negative prompt, and `Steps: …, Seed: …` have a line each.
    """
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
    if negative_prompt := task.negative_prompt:
        lines.append(f"Negative prompt: {negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(_plain(value))}" for name, value in facts.items() if value is not None))
    return "\n".join(lines)


def png_text(result: Result) -> dict[str, str]:
    """Return the text chunks of a PNG: `Software`, `jointnet` (`record` as JSON) and `parameters`."""
    return {"Software": SOFTWARE, "jointnet": to_json(record(result)), "parameters": encodable(parameters(result))}


def exr_attributes(result: Result) -> dict[str, str]:
    """Return the string attributes of an EXR: the standard `software` and `comments`, and `jointnet` (`record` as JSON)."""
    return {"software": SOFTWARE, "comments": encodable(parameters(result)), "jointnet": to_json(record(result))}


def _uncertainty(name: str, known: bool) -> dict[str, Any]:
    """Return what a map's convention adds where the members of an ensemble were compared."""
    if not known:
        return {}
    quantity, png = {
        "disparity": ("standard deviation of the members' disparity", "65535 * value"),
        "direction": ("RMS angle of the members to their mean, radians", "65535 * value / pi"),
        "color": ("standard deviation of the members' colors", "65535 * value"),
    }[MODALITIES[name].values]
    channel = f"uncertainty.{MODALITIES[name].layer}"
    return {"uncertainty": {"quantity": quantity, "png": f"16-bit grey, {png}", "exr": f"{channel}, float32"}}


def _flag(name: str, value: str | int | float | bool | list[Any] | None) -> list[str]:
    flag = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(text_of, value if isinstance(value, list) else [value])]


def _quoted(value: str | int | float) -> str:
    """Return a value of the last `parameters` line, where commas and colons separate."""
    text = text_of(value)
    return to_json(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def _plain(value: Any) -> Any:
    """`value` as JSON holds it: arrays as lists, numbers that are not finite as null, paths and the like as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
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
