"""`jointnet doctor`: what is installed, which device computes, whether the model loads."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import typer

import jointnet_cli
from jointnet_cli.cli.console import RUN_FAILED, progress
from jointnet_cli.cli.options import Json, ModelOptions, Quiet
from jointnet_cli.files.text import to_json

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
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
)
GIB = 2**30
MB = 10**6

Facts = dict[str, Any]


def doctor(model: ModelOptions, json_output: Json = False, quiet: Quiet = False) -> None:
    """Show versions, devices, the model and the settings that apply, ready to paste into a report."""
    with progress("examining", quiet):
        report = {
            "versions": _versions(),
            "machine": _machine(),
            "model": _model(model),
            "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("JOINTNET_")},
        }
    print(to_json(report, indent=2) if json_output else _as_text(report))
    if not report["model"]["loads"]:
        raise typer.Exit(RUN_FAILED)


def _versions() -> Facts:
    from importlib.metadata import PackageNotFoundError, version

    facts = {"python": platform.python_version(), "jointnet": jointnet_cli.__version__}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "missing"
    return facts


def _machine() -> Facts:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    facts: Facts = {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory": _size(memory) if memory else "unknown",
        "disk free": _size(shutil.disk_usage(Path.cwd()).free),
    }
    try:
        import torch
    except Exception as fault:
        return {**facts, "torch": f"does not import: {fault}"}
    facts["threads"] = torch.get_num_threads()
    facts["devices"] = [
        f"cuda:{index} {gpu.name}, {_size(gpu.total_memory)}"
        for index in range(torch.cuda.device_count())
        for gpu in [torch.cuda.get_device_properties(index)]
    ]
    if torch.backends.mps.is_available():
        facts["devices"].append("mps")
    facts["devices"].append("cpu")
    return facts


def _model(options: ModelOptions) -> Facts:
    facts: Facts = {"model": options.model, "loads": False}
    try:
        from jointnet_cli.engine import Engine
        from jointnet_cli.model.folder import describe
        from jointnet_cli.model.hub import find_model

        folder = find_model(options.model, options.base)
        told = describe(options.model, folder)
        facts |= {"folder": told.pop("path"), "disk": f"{told.pop('bytes') / MB:.1f} MB", **told}
        engine = Engine.open(
            options.model, base=options.base, device=options.device, dtype=options.dtype, folder=folder
        )
        dtype = str(engine.dtype).removeprefix("torch.")
        return {**facts, "device": str(engine.device), "dtype": dtype, "loads": True}
    except Exception as fault:
        return {**facts, "fault": f"{type(fault).__name__}: {fault}"}


def _as_text(report: Facts) -> str:
    lines = []
    for section, facts in report.items():
        lines.append(section)
        lines += [f"  {name:<14} {_plain(value)}" for name, value in facts.items()] or ["  none"]
    return "\n".join(lines)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items()) or "none"
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _size(amount: int) -> str:
    return f"{amount / GIB:.1f} GiB"
