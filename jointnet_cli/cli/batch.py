"""The item loop that all image commands share: check, then run and write one item after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from jointnet_cli.cli.console import exit_with, for_each, note, phase_progress, print_result, stderr
from jointnet_cli.cli.inputs import require_files
from jointnet_cli.cli.items import Item, Items, in_portions, needs, print_plan
from jointnet_cli.cli.options import ModelOptions, ResultOptions
from jointnet_cli.devices import require_device
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import SIDECAR, check_free
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.model.hub import find_model
from jointnet_cli.names import are_distinct, default_template, keep_apart, result_name
from jointnet_cli.progress import PHASES, Timer
from jointnet_cli.record import is_of_image, is_record_of, read_sidecar
from jointnet_cli.request import Request
from jointnet_cli.results import Result, ResultFiles
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.tasks import Depth

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine
    from jointnet_cli.scene.scene import Scene


def plan_files(
    batch: Items, folder: ModelFolder, model: str, output: ResultOptions, scene: SceneOptions
) -> Callable[[Item], ResultFiles]:
    """Return the function that plans the files of an item; no two results share a name."""
    maps = folder.branches[1:]

    def own_name(item: Item) -> str:
        return result_name(item.request, item.index, output.name, model=model)

    def owned(name: str, request: Request) -> bool | None:
        made = read_sidecar(output.out / f"{name}{SIDECAR}")
        if made is None:
            return None
        foreign = output.skip_existing and not is_of_image(made, request)
        return True if is_record_of(made, request) else False if foreign else None

    renamed: dict[int, str] = {}
    first = [item.request for item in batch.first]
    # A photo of the same name in another folder may have made the files that are there.
    by_photo = output.skip_existing and "{image" in (output.name or default_template(first[0]))
    if by_photo or not are_distinct(first, batch.count, output.name, model=model):
        items = list(batch)
        names = keep_apart([item.request for item in items], [own_name(item) for item in items], owned)
        renamed = {item.index: name for item, name in zip(items, names, strict=True)}

    def plan(item: Item) -> ResultFiles:
        request = item.request
        return ResultFiles.plan(
            output.out,
            request.name,
            renamed.get(item.index) or own_name(item),
            maps,
            uncertain=maps if request.is_uncertain else [],
            scene=scene.of_result(panorama=request.is_panorama),
            metadata=output.metadata,
        )

    return plan


def run_batch(batch: Items, model: ModelOptions, output: ResultOptions, scene: SceneOptions) -> None:
    """Make every item and print its files, or with `--dry-run` print the plan. A failed item does not stop the rest.

    Raises:
        UserError: an input that is not there, an output that is, an unknown scheduler or model, a request that the model
            refuses.
        typer.Exit: code 1 if items failed, 2 if every one failed by inputs of its own.
    """
    folder = find_model(model.model, model.base, weights=not output.dry_run)
    _check_schedulers(batch.first)
    _check_scene(batch, folder, scene)
    files_of, total = plan_files(batch, folder, model.model, output, scene), len(batch)
    replaces = output.overwrite or output.skip_existing
    if output.skip_existing:
        missing = Items([item for item in batch if not files_of(item).complete(item.request)])
        note(f"{total - len(missing)} of {total} exist already", output.quiet)
        batch = missing
    if not batch:
        return
    _check_inputs(batch.first, folder, model, scene)
    if output.dry_run:

        def plan(item: Item) -> None:
            files = files_of(item)
            check_free(files.all, replaces)
            needed = needs(item, folder, model, scene)
            if not isinstance(item.request, Depth):  # photos may be many
                item.load()
            print_plan(item, files.paths, *needed, output)

        exit_with(_run_each(batch, plan), len(batch))
        return
    check_free((path for item in batch for path in files_of(item).all), replaces)

    started = time.monotonic()
    require_device(model.device)
    with phase_progress(model.model, output.quiet) as show, (loading := Timer(show)).phase("load"):
        from jointnet_cli.engine import Engine

        engine = Engine.open(model.model, base=model.base, device=model.device, dtype=model.dtype, folder=folder)
    said: set[str] = set()

    def make(items: Sequence[Item], tasks: Sequence[Request]) -> list[Result]:
        """Make several results before their files are written."""
        title = f"{items[0].index + 1}-{items[-1].index + 1}/{total} {items[0].request.title}"
        with phase_progress(title, output.quiet) as show:
            for item, task in zip(items, tasks, strict=True):
                needs(item, folder, model, scene)
                _say_ignored_words(engine, task, output.quiet, said)
            return engine.run_all(tasks, show)

    faults = _run_each(
        in_portions(batch, engine, make),
        lambda item: _make(engine, item, files_of(item), total, model, output, scene, said, loading.seconds),
    )
    note(f"{len(batch) - len(faults)} of {len(batch)} done in {time.monotonic() - started:.1f} s", output.quiet)
    exit_with(faults, len(batch))


def _run_each(items: Iterable[Item], do: Callable[[Item], None]) -> list[Exception]:
    """Do something with one item after the other; return the faults of items' own inputs, which do not stop the others."""
    return for_each(
        items,
        do,
        label=lambda item: f"{_label(item)}: ",
        # Where only prompts and seeds differ, what the model refuses once it refuses always.
        stops=lambda fault, item: isinstance(fault, UserError) and not item.independent,
    )


def _label(item: Item) -> str:
    return f"item {item.index} ({item.request.sources.get('image') or item.request.prompt})"


def _check_schedulers(items: Sequence[Item]) -> None:
    names = {item.request.sampling.scheduler for item in items if item.request.sampling.scheduler}
    if names:
        from jointnet_cli.sampling.schedule import check_scheduler

        for name in sorted(names):
            check_scheduler(name)


def _check_scene(batch: Items, folder: ModelFolder, scene: SceneOptions) -> None:
    """Refuse exports without a depth branch, and known distances of one image for several results.

    Raises:
        UserError: these.
    """
    scene.refuse_unused([scene.of_result(panorama=item.request.is_panorama) for item in batch.first])
    if scene.files("") and "depth" not in folder.branches:
        raise UserError(
            "the model has no depth branch, which meshes, viewers, stereo images and clips need",
            "choose another --model",
        )
    if scene.known_distances:
        require_files({"known_distances": scene.known_distances}, "--known-distances")
        if len(batch) > 1:
            raise UserError(
                "--known-distances holds the distances of one image", f"make one result at a time, not {len(batch)}"
            )


def _check_inputs(items: Sequence[Item], folder: ModelFolder, model: ModelOptions, scene: SceneOptions) -> None:
    """Refuse before a model is loaded: sizes and memory, inputs that all items share, and a batch without a usable input.

    Raises:
        UserError: an input of all items.
        typer.Exit: code 2, with a line for every item, if the inputs of each are its own and all are refused.
    """

    def check(item: Item) -> None:
        needs(item, folder, model, scene)

    def is_usable(item: Item) -> bool:
        try:
            check(item)
        except UserError:
            return False
        return True

    for item in items:
        if not (item.request.sources and item.independent):
            try:
                check(item)
            except UserError as fault:
                raise UserError(f"{_label(item)}: {fault}" if len(items) > 1 else str(fault), fault.hint) from fault
    if all(item.independent for item in items) and not any(map(is_usable, items)):
        exit_with(_run_each(items, check), len(items))
    if items[0].request.sources and not items[0].independent:
        items[0].load().layout(folder)


def _make(
    engine: Engine,
    item: Item,
    files: ResultFiles,
    count: int,
    model: ModelOptions,
    output: ResultOptions,
    options: SceneOptions,
    said: set[str],
    loading: dict[str, float],
) -> None:
    """Make one item, unless it is made, and write it. `said` holds the notes about prompts that were printed.

    The first item takes the seconds of `loading` to its timings.
    """
    title = f"{item.index + 1}/{count} {item.request.title}"
    with phase_progress(title, output.quiet) as show:
        if (result := item.made) is None:
            needs(item, engine.folder, model, options)
            task = item.load()
            _say_ignored_words(engine, task, output.quiet, said)
            result = engine.run(task, show)
        else:
            task, result.timer.report = result.task, show
        if task.files is not None:
            result.settings |= task.files.settings
        result.timer.seconds.update(loading)
        loading.clear()
        # Another process may have written since the plan was made.
        check_free(files.all, output.overwrite or output.skip_existing)
        files.write_images(result)
        if files.scene:
            scene = result.scene(options)
            files.write_scene(result, _add_layer(engine, scene, result) if options.layers else scene)
        files.write_record(result)
    if not stderr().is_terminal:
        timings = result.timings
        phases = ", ".join(f"{PHASES[phase]} {timings[phase]:.1f}" for phase in PHASES if phase in timings)
        note(f"{title}: {sum(timings.values()):.1f} s ({phases})", output.quiet)
    names = {key: str(path) for key, path in files.paths.items()}
    line = {**item.record(), "seconds": round(result.seconds, 3), "files": names}
    print_result(line, files.paths.values(), output.json)


def _add_layer(engine: Engine, scene: Scene, result: Result) -> Scene:
    """Return the scene with a second layer: the model paints what the foreground hides."""
    others = {name: values for name, values in result.maps.items() if name != "depth"}
    task = result.task
    layered = engine.add_layer(scene, seed=task.seed, maps=others, sampling=task.sampling, timer=result.timer)
    result.settings["layer_evaluations"] = result.timer.counts.get("layer_evaluations", 0)
    return layered


def _say_ignored_words(engine: Engine, task: Request, quiet: bool, said: set[str]) -> None:
    prompts = [task.prompt, task.negative_prompt]
    key = "\n".join(prompts)
    if key in said:
        return
    said.add(key)
    if unknown := engine.model.unknown_words(*prompts):
        note(f"{engine.name} does not know and ignores: {', '.join(unknown)}", quiet)
    if cut := engine.model.cut_words(*prompts):
        note(f"{engine.name} cannot read a prompt this long and ignores its end: {' '.join(cut)}", quiet)
