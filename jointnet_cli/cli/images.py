"""The five image commands: from flags and batch files to items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Annotated, TypeVar

from jointnet_cli.cli.batch import run_batch
from jointnet_cli.cli.console import note
from jointnet_cli.cli.inputs import InputReader, projection_of, require_files, stated_panorama
from jointnet_cli.cli.items import Item, Items
from jointnet_cli.cli.options import BatchOptions, ModelOptions, ResultOptions, command_app
from jointnet_cli.errors import UserError
from jointnet_cli.files.batch_file import BatchRow, read_rows
from jointnet_cli.files.budget import limit_pixels
from jointnet_cli.files.paths import is_output, list_photos
from jointnet_cli.modality import MODALITIES
from jointnet_cli.params import Param, params
from jointnet_cli.projection import closes
from jointnet_cli.request import Request
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import MAX_SEED, TASKS, Depth, Panorama

R = TypeVar("R", bound=Request)

Photos = Annotated[
    list[str],
    Param("Files, folders or patterns; `-` reads paths from stdin.", "PHOTO", shown=False, argument=True),
]


def image_command(kind: type[Request]) -> Callable[..., None]:
    """Return the command of a task: its fields are the flags, its docstring is the help."""
    if kind is Depth:
        return _predict

    def run(
        request: Request, batch: BatchOptions, model: ModelOptions, output: ResultOptions, scene: SceneOptions
    ) -> None:
        with limit_pixels(output.max_pixels):
            run_batch(list_items(request, batch, InputReader(output.quiet)), model, output, scene)

    groups = {"batch": BatchOptions, "model": ModelOptions, "output": ResultOptions, "scene": SceneOptions}
    run.__annotations__ = {"request": kind, **groups, "return": None}
    run.__name__, run.__doc__ = kind.name, kind.__doc__
    return run


def _predict(
    photos: Photos, *, request: Depth, model: ModelOptions, output: ResultOptions, scene: SceneOptions
) -> None:
    inputs = InputReader(output.quiet)
    named = list_photos(photos)
    if not (found := [photo for photo in named if not is_output(photo)]):
        raise UserError(f"{named[0]} was made by an earlier run", "name the photo that it was made from")
    if left_out := len(named) - len(found):
        note(f"left out: {left_out} maps and previews of earlier runs", output.quiet)
    _check_seeds(request, request.ensemble)
    requests = [replace(request, source=photo) for photo in found]
    items = [Item(index, own, inputs, independent=True) for index, own in enumerate(requests)]
    with limit_pixels(output.max_pixels):
        run_batch(Items(items), model, output, scene)


_predict.__name__, _predict.__doc__ = Depth.name, Depth.__doc__


def list_items(request: Request, batch: BatchOptions, inputs: InputReader) -> Items:
    """Return the items of every row of the batch file, or of the flags alone: `--count` a row.

    Raises:
        UserError: a prompt that is missing or given twice; a row that cannot be read; an input that is missing; a seed that
            is too large.
    """
    rows = [BatchRow("", {})] if batch.prompts is None else read_rows(batch.prompts)
    if request.prompt and all("prompt" in row.values for row in rows):
        raise UserError("a prompt and --prompts were both given", "leave one of them out")
    items: list[Item] = []
    for index, row in zip(count(step=batch.count), rows, strict=False):
        own = row.override(request)
        seed = own.seed if "seed" in row.values else own.seed + index
        own = _resolve(replace(own, prompt=_prompt(own, row.place), seed=seed))  # type: ignore[type-var]
        _check_seeds(own, batch.count)
        require_files(own.sources, row.place)
        items.append(Item(index, own, inputs, independent=bool(row.values.keys() - {"prompt", "seed"})))
    return Items(items, batch.count)


def _check_seeds(request: Request, count: int) -> None:
    """Raise `UserError` if the last of so many seeds from a request's on does not fit into 64 bits."""
    last = request.seed + count - 1
    if last > MAX_SEED:
        hint = f"--seed {MAX_SEED - count + 1} or less"
        raise UserError(f"the last seed would be {last}; {MAX_SEED} is the largest", hint)


def _prompt(request: Request, place: str) -> str:
    """Return the prompt without the blanks around it; only where it is an argument it must be given."""
    prompt = request.prompt.strip()
    needed = any(parameter.name == "prompt" and parameter.param.argument for parameter in params(type(request)))
    if needed and not prompt:
        where = f" in {place}" if place else ""
        raise UserError(f"no prompt{where}", 'say what to draw, such as "ocean reef", or give --prompts FILE')
    return prompt


def _resolve(request: R) -> R:
    """Check that the files which a task needs are named, and read the projection that they state.

    Raises:
        UserError: no image, no mask, contradicting flags, or a file that shows a sphere.
    """
    if request.photo is not None and request.photo.image is None:
        raise UserError("no image", "name the image to start from, or give --prompts with a column image")
    if request.marks is not None and not request.marks.paths:
        raise UserError("no mask", "--mask FILE: white is repainted, black stays; --depth-mask for the depth alone")
    if isinstance(request, Panorama):
        return replace(request, wrap=closes(request.span, request.wrap))
    shown = [request.sources[name] for name in ("image", *MODALITIES) if name in request.sources]
    if request.view is not None:
        return replace(request, projection=projection_of(request.view, *shown))  # type: ignore[type-var]
    for path in shown:
        stated_panorama(path)  # refuses a sphere
    return request


app = command_app({name: (image_command(task), task.example) for name, task in TASKS.items()})
