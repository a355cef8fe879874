"""The items of a batch: what is asked for, what each takes, and those that are made together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal as size_text

from jointnet_cli.cli.inputs import InputReader
from jointnet_cli.cli.options import ModelOptions, ResultOptions
from jointnet_cli.devices import default_dtype, guess_device
from jointnet_cli.files.text import to_json
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.request import Request
from jointnet_cli.results import Result
from jointnet_cli.sampling.memory import ResourceEstimate, estimate, require_memory
from jointnet_cli.scene.exports import SceneOptions

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

PIXELS_AT_ONCE = 2**23
"""Pixels of the results that are made together, at most: many small images, or few photos of a camera."""


@dataclass(frozen=True)
class Item:
    """One result to make."""

    index: int
    """Running number in the batch."""
    request: Request
    """What is asked for, without the contents of its files."""
    inputs: InputReader
    independent: bool = False
    """Whether its inputs are its own, so that its fault says nothing of the other items."""
    made: Result | None = None
    """Its result, where it was made together with others."""

    def outline(self) -> Request:
        """Return the request with the sizes of its files, from their headers."""
        return self.inputs.outline(self.request)

    def load(self) -> Request:
        """Return the request with the contents of its files."""
        return self.inputs.load(self.request)

    def record(self) -> dict[str, Any]:
        """Return the head of its JSON line."""
        image = self.request.sources.get("image")
        source = {} if image is None else {"source": str(image)}
        return {"prompt": self.request.prompt, "seed": self.request.seed, **source}


@dataclass(frozen=True)
class Items:
    """Items that are made when they are iterated over: a batch may have millions."""

    first: Sequence[Item]
    """The first item of every row."""
    count: int = 1
    """Items of a row, which differ in nothing but their seeds."""

    def __len__(self) -> int:
        return len(self.first) * self.count

    def __iter__(self) -> Iterator[Item]:
        for item in self.first:
            for repeat in range(self.count):
                request = replace(item.request, seed=item.request.seed + repeat)  # type: ignore[type-var]
                yield replace(item, index=item.index + repeat, request=request)


def needs(
    item: Item, folder: ModelFolder, model: ModelOptions, scene: SceneOptions
) -> tuple[dict[str, int], ResourceEstimate]:
    """Return the pixels of the result, and what it takes to make it.

    Raises:
        UserError: a size that the model refuses, or more memory than this machine has.
    """
    request = item.outline()
    height, width = request.size(folder)
    device = guess_device(model.device)
    sampling = request.resolved(folder)
    exports = scene.of_result(panorama=request.is_panorama)
    needed = estimate(
        folder,
        request.layout(folder),
        (height, width),
        device=device,
        dtype=model.dtype or default_dtype(device),
        sampling=sampling,
        strength=getattr(request, "strength", 1.0),
        members=getattr(request, "ensemble", 1),
        scene=bool(exports.files("")),
    )
    require_memory(needed, f"a result of {width} x {height} pixels", "ask for fewer pixels")
    return {"width": width, "height": height}, needed


def print_plan(
    item: Item, files: dict[str, Path], size: dict[str, int], needed: ResourceEstimate, output: ResultOptions
) -> None:
    names = {key: str(path) for key, path in files.items()}
    if output.json:
        seconds = None if needed.seconds is None else round(needed.seconds, 1)
        estimated = {"bytes": needed.bytes, "gpu_bytes": needed.device_bytes, "seconds": seconds}
        print(to_json({**item.record(), **size, "estimate": estimated, "files": names}, ensure_ascii=False))
        return
    pixels = f", {' x '.join(map(str, size.values()))} pixels"
    memory = size_text(needed.bytes) + (f" and {size_text(needed.device_bytes)} on the GPU" * bool(needed.device_bytes))
    duration = "" if needed.seconds is None else f", {needed.seconds:.0f} s"
    about = ": ".join(filter(None, [str(item.request.sources.get("image", "")), item.request.prompt]))
    print(f"{item.index:05}: {about}, seed {item.request.seed}{pixels}; estimate: {memory}{duration}")
    print(*(f"  {name}" for name in names.values()), sep="\n")


Make = Callable[[Sequence[Item], Sequence[Request]], Sequence[Result]]
"""Make the results of items from their requests, whose inputs are loaded."""


def in_portions(items: Items, engine: Engine, make: Make) -> Iterator[Item]:
    """Yield every item, with its result where it was made together with those beside it.

    An item whose inputs have a fault, and a portion that cannot be made, are left to be made alone: the fault is then that of
    its item.
    """
    portion: list[Item] = []
    pixels = 0
    for item in items:
        room, own = _room(item, engine)
        if portion and (len(portion) >= room or pixels + own > PIXELS_AT_ONCE):
            yield from _made(portion, make)
            portion, pixels = [], 0
        portion.append(item)
        pixels += own
    yield from _made(portion, make)


def _room(item: Item, engine: Engine) -> tuple[int, int]:
    """Return how many items like one go together, and its pixels."""
    if not engine.shares(item.request):
        return 1, 0
    try:
        outline = item.outline()
        height, width = outline.size(engine.folder)
        return engine.at_once(outline), height * width
    except Exception:
        return 1, 0


def _made(portion: Sequence[Item], make: Make) -> Iterator[Item]:
    loaded: dict[int, Request] = {}
    results: dict[int, Result] = {}
    if len(portion) > 1:
        for number, item in enumerate(portion):
            with suppress(Exception):
                loaded[number] = item.load()
    if len(loaded) > 1:
        with suppress(Exception):
            made = make([portion[number] for number in loaded], list(loaded.values()))
            results = dict(zip(loaded, made, strict=True))
    loaded.clear()
    for number, item in enumerate(portion):
        yield replace(item, made=results.pop(number, None))
