"""`jointnet doctor`: what is installed, which device computes, whether the model loads, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal as size_text

import jointnet_cli
from jointnet_cli.cli.console import RUN_FAILED, progress
from jointnet_cli.cli.models import facts_as_text
from jointnet_cli.cli.options import ModelOptions, command_app
from jointnet_cli.cli.usage import Command, value_error
from jointnet_cli.cli.variables import misspelt_variables, set_variables, variable_parameters
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import to_json
from jointnet_cli.params import JSON, QUIET

if TYPE_CHECKING:
    from typer._click import Context

CORE = ("torch", "diffusers", "transformers")
PACKAGES = [
    "accelerate",
    "safetensors",
    "numpy",
    "pillow",
    "imageio",
    "OpenEXR",
    "trimesh",
    "webdataset",
    "pydantic",
    "typer",
    "rich",
]
MOST = 12
"""Lines that a part of the report has as text; further ones are counted."""

Facts = dict[str, Any]


class DoctorCommand(Command):
    """A command that takes the default where the value of a variable is refused."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the flags without the variables whose values are refused."""
        aside = {name: os.environ.pop(name) for name in _refused_variables(ctx)}
        try:
            return super().parse_args(ctx, args)
        finally:
            os.environ.update(aside)


def doctor(
    ctx: typer.Context,
    model: ModelOptions,
    json_output: Annotated[bool, JSON] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Show versions, devices, the model, the settings that apply, and problems, ready to paste into a report."""
    with progress("examining", quiet):
        refused, facts = _refused_variables(ctx), _model(model)
        fault = [f"{facts['model']}: {facts['fault']}"] if "fault" in facts else []
        report = {
            "versions": _versions(),
            "machine": _machine(),
            "model": facts,
            "settings": set_variables(),
            "problems": [*refused.values(), *misspelt_variables(ctx).values(), *fault, *_other_models(), *_recipes()],
        }
    print(to_json(report) if json_output else _as_text(report))
    if refused or not facts["loads"]:
        raise typer.Exit(RUN_FAILED)


def _refused_variables(ctx: Context) -> dict[str, str]:
    """Return a message for each variable whose value a flag refuses."""
    from jointnet_cli.sampling.schedule import check_scheduler

    found: dict[str, str] = {}
    for param in variable_parameters(ctx.find_root().command):
        name = str(param.envvar)
        if not os.environ.get(name) or name in found:
            continue
        try:
            value = param.process_value(ctx, param.value_from_envvar(ctx))
            if name == "JOINTNET_SCHEDULER":
                check_scheduler(value)
        except UserError as fault:
            found[name] = f"{name}: {fault}"
        except typer.BadParameter as fault:
            found[name] = str(value_error(fault, name, param) or f"{name} {fault.message}")
    return found


def _versions() -> Facts:
    from importlib.metadata import PackageNotFoundError, version

    facts = {"python": platform.python_version(), "jointnet": jointnet_cli.__version__}
    for package in (*CORE, *PACKAGES):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "missing"
    return facts


def _machine() -> Facts:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    facts: Facts = {"system": platform.platform(), "cores": os.cpu_count()}
    facts["memory"] = size_text(memory) if memory else "unknown"
    try:
        facts["disk free"] = size_text(shutil.disk_usage(Path.cwd()).free)
        import torch
    except Exception as fault:
        return {**facts, "fault": str(fault)}
    facts["threads"] = torch.get_num_threads()
    facts["devices"] = [
        f"cuda:{index} {gpu.name}, {size_text(gpu.total_memory)}"
        for index in range(torch.cuda.device_count())
        for gpu in [torch.cuda.get_device_properties(index)]
    ]
    facts["devices"] += ["mps", "cpu"] if torch.backends.mps.is_available() else ["cpu"]
    return facts


def _model(options: ModelOptions) -> Facts:
    facts: Facts = {"model": options.model, "loads": False}
    try:
        from jointnet_cli.engine import Engine
        from jointnet_cli.model.folder import describe
        from jointnet_cli.model.hub import find_model

        folder = find_model(options.model, options.base)
        told = describe(options.model, folder)
        facts |= {"folder": told.pop("path"), "disk": size_text(told.pop("bytes")), **told}
        engine = Engine.open(
            options.model, base=options.base, device=options.device, dtype=options.dtype, folder=folder
        )
        dtype = str(engine.dtype).removeprefix("torch.")
        return {**facts, "device": str(engine.device), "dtype": dtype, "loads": True}
    except Exception as fault:
        return {**facts, "fault": _message(fault)}


def _other_models() -> list[str]:
    """Return what is wrong with the models that are found by name."""
    try:
        from jointnet_cli.model.hub import list_models

        found = list(list_models())
    except Exception as fault:
        return [f"models: {_message(fault)}"]
    return [f"{name}: {_message(model)}" for name, model in found if isinstance(model, UserError)]


def _recipes() -> list[str]:
    """Return what is wrong with the recipes of the package and of this folder."""
    try:
        from jointnet_cli.cli.recipe import load
        from jointnet_cli.files.paths import shipped_files
        from jointnet_cli.recipe_file import read_values

        shipped = list(shipped_files().values())
    except Exception as fault:
        return [f"recipes: {_message(fault)}"]
    problems = []
    for path in (*shipped, *sorted(Path().glob("*.toml")), *sorted(Path("recipes").rglob("*.toml"))):
        try:
            if path in shipped or "description" in read_values(path):  # other TOML files are not recipes
                load(path)
        except Exception as fault:
            message = _message(fault)
            problems.append(message if str(path) in message else f"{path}: {message}")
    return problems


def _message(fault: Exception) -> str:
    text = str(fault) if isinstance(fault, UserError) else f"{type(fault).__name__}: {fault}"
    first = (text.splitlines() or [type(fault).__name__])[0]
    return f"{first} ({fault.hint})" if isinstance(fault, UserError) and fault.hint else first


def _as_text(report: Facts) -> str:
    versions, facts = report["versions"], report["model"]
    told = {"path": facts.get("folder"), **facts}
    shown = {
        "versions": {
            **{name: versions[name] for name in ("python", "jointnet", *CORE)},
            "others": ", ".join(f"{name} {versions[name]}" for name in PACKAGES),
        },
        "machine": {**report["machine"], "devices": "; ".join(report["machine"].get("devices", []))},
        "model": {
            **(facts_as_text(told) if "hash" in facts else {"model": facts["model"]}),
            **{name: facts[name] for name in ("device", "dtype", "fault") if name in facts},
            "loads": "yes" if facts["loads"] else "no",
        },
        "settings": report["settings"],
    }
    lines = []
    for section, entries in shown.items():
        lines.append(section)
        lines += _limited([f"  {name:<14} {value}" for name, value in entries.items()], 18)
    return "\n".join([*lines, "problems", *_limited([f"  {problem}" for problem in report["problems"]], MOST)])


def _limited(lines: list[str], most: int) -> list[str]:
    """Return at most so many lines, the last of which counts those that are left out; values do not begin new ones."""
    lines = [line.replace("\n", "\\n") for line in lines]
    if len(lines) <= most:
        return lines or ["  none"]
    return [*lines[: most - 1], f"  … and {len(lines) - most + 1} more (all with --json)"]


app = command_app({"doctor": (doctor, "jointnet doctor")}, cls=DoctorCommand, runs_bare=True)
