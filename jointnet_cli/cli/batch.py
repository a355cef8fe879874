"""The item loop that `generate`, `depth` and `panorama` share: check, then run and write one item after the other."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from jointnet_cli.cli.console import RUN_FAILED, USER_FAULT, Advance, note, progress, show_fault
from jointnet_cli.cli.options import ModelOptions, OutputOptions, PromptOptions, SamplingOptions
from jointnet_cli.cli.prompts import list_prompts
from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import ModelFolder, find_model
from jointnet_cli.output.naming import check_free, expected_files, stem
from jointnet_cli.sampling.layout import generate_layout, panorama_layout
from jointnet_cli.tasks import Depth, Generate, Result, Task

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

Kind = Literal["generate", "depth", "panorama"]

HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE})
"""The disk is full or read-only, or nobody reads stdout any more."""


@dataclass(frozen=True)
class Item:
    """One result to make."""

    index: int
    """Running number in the batch."""
    seed: int
    """The batch's seed plus `index`."""
    prompt: str
    load: Callable[[], Task]
    """Builds the request. Of a photo it reads the file, so it runs only when the item's turn has come."""
    photo: Path | None = None

    @property
    def subject(self) -> str:
        """What the item is called in messages and, as a slug, in file names."""
        return self.photo.stem if self.photo else self.prompt

    def record(self) -> dict[str, Any]:
        """The head of its JSON line."""
        source = {"source": str(self.photo)} if self.photo else {}
        return {"prompt": self.prompt, "seed": self.seed, **source}


def items_of_prompts(options: PromptOptions, request: Callable[[str, int], Task]) -> list[Item]:
    """Every prompt `--count` times, in order; item n has seed + n."""
    prompts = [prompt for prompt in list_prompts(options) for _ in range(options.count)]

    def item(index: int, prompt: str) -> Item:
        seed = options.seed + index
        return Item(index, seed, prompt, lambda: request(prompt, seed))

    return [item(index, prompt) for index, prompt in enumerate(prompts)]


def run_batch(
    kind: Kind, items: Sequence[Item], sampling: SamplingOptions, model: ModelOptions, output: OutputOptions
) -> None:
    """Make every item and print its files, or with `--dry-run` print the plan. A failed item does not stop the rest.

    Raises:
        UserError: an output that exists already, an unknown scheduler or model, a request that the model refuses.
        typer.Exit: code 1 if items failed, 2 if every one was a photo that cannot be used.
    """
    folder = find_model(model.model)
    plan = [_files(kind, item, output, folder.branches[1:]) for item in items]
    sizes = [_size(item, folder) for item in items]
    check_free((path for files in plan for path in files.values()), output.overwrite)
    if sampling.scheduler:
        from jointnet_cli.sampling.schedule import check_scheduler

        check_scheduler(sampling.scheduler)
    if output.dry_run:
        for item, files, size in zip(items, plan, sizes, strict=True):
            _print_plan(item, files, size, output)
        return

    started = time.monotonic()
    with progress(f"loading {model.model}", output.quiet):
        from jointnet_cli.engine import Engine

        engine = Engine.open(model.model, device=model.device, dtype=model.dtype)
    faults = []
    for item in items:
        try:
            _make(engine, item, len(items), output)
        except Exception as fault:
            if _concerns_all(fault, item):
                raise
            show_fault(fault, prefix=f"item {item.index} ({item.photo or item.prompt}): ")
            faults.append(fault)
    note(f"{len(items) - len(faults)} of {len(items)} done in {time.monotonic() - started:.1f} s", output.quiet)
    if faults:
        unusable = [fault for fault in faults if isinstance(fault, UserError)]
        raise typer.Exit(USER_FAULT if len(unusable) == len(items) else RUN_FAILED)


def _concerns_all(fault: Exception, item: Item) -> bool:
    """Whether the next item would fail in the same way."""
    if isinstance(fault, UserError):
        # Prompts differ in their words and seeds only, which no model refuses; a photo may be at fault by itself.
        return item.photo is None
    return isinstance(fault, OSError) and fault.errno in HOPELESS


def _files(kind: Kind, item: Item, output: OutputOptions, maps: Sequence[str]) -> dict[str, Path]:
    name = stem(item.index, item.seed, item.subject)
    return {key: output.out / file for key, file in expected_files(kind, name, maps).items()}


def _size(item: Item, folder: ModelFolder) -> dict[str, int]:
    """Pixels of what a prompt asks for, checked against the model; nothing for a photo, which is not read yet."""
    if item.photo is not None:
        return {}
    task = item.load()
    if isinstance(task, Depth):
        return {}
    layout = generate_layout(task, folder) if isinstance(task, Generate) else panorama_layout(task, folder)
    return {"width": layout.width * folder.factor, "height": layout.height * folder.factor}


def _print_plan(item: Item, files: dict[str, Path], size: dict[str, int], output: OutputOptions) -> None:
    names = {key: str(path) for key, path in files.items() if output.metadata or key != "metadata"}
    if output.json:
        print(json.dumps({**item.record(), **size, "files": names}, ensure_ascii=False))
        return
    pixels = f", {' x '.join(map(str, size.values()))} pixels" if size else ""
    print(f"{item.index:05}: {item.photo or item.prompt}, seed {item.seed}{pixels}")
    print(*(f"  {name}" for name in names.values()), sep="\n")


def _make(engine: Engine, item: Item, count: int, output: OutputOptions) -> None:
    from jointnet_cli.output.bundle import write_result

    with progress(f"{item.index + 1}/{count} {item.subject}", output.quiet) as advance:
        result = _run(engine, item.load(), advance)
        files = write_result(result, output.out, item.index, overwrite=output.overwrite, metadata=output.metadata)
    if output.json:
        names = {key: str(path) for key, path in files.items()}
        line = {**item.record(), "seconds": round(result.seconds, 3), "files": names}
        print(json.dumps(line, ensure_ascii=False), flush=True)
    else:
        print(*files.values(), sep="\n", flush=True)


def _run(engine: Engine, task: Task, advance: Advance) -> Result:
    if isinstance(task, Generate):
        return engine.generate(task, advance)
    if isinstance(task, Depth):
        return engine.depth(task, advance)
    return engine.panorama(task, advance)
