"""`jointnet.json`: what a joint model's folder states about its architecture, its branches and how to sample from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.config import REMEDY, read_json, write_json

FORMAT = 1

JOINTNET, LORA = "jointnet", "lora"
DIRECT_EXTEND, CONTROLNET_DIRECT_EXTEND = "direct-extend", "controlnet-direct-extend"

ARCHITECTURES = {
    JOINTNET: "a UNet a modality, exchanging features (paper 3.1)",
    LORA: "the same, with the RGB branch's weights and low-rank adapters in place of further UNets",
    DIRECT_EXTEND: "one UNet with more channels in and out (paper Fig. 2a)",
    CONTROLNET_DIRECT_EXTEND: "a ControlNet for the input, more channels out (paper A.1)",
}
"""Description of each architecture by its name."""

FORMER_NAMES = {"light": LORA}
"""Names of architectures in folders and recipes of earlier versions."""

_RECORD_TYPES = {
    "branches": (list, "a list"),
    "masked_input": (bool, "true or false"),
    "defaults": (dict, "a table"),
    "provenance": (dict, "a table"),
}
_DEFAULT_TYPES = {
    "preset": (str, "text"),
    "scheduler": (str, "text"),
    "steps": (int, "a whole number"),
    "depth_steps": (int, "a whole number"),
    "guidance": (int | float, "a number"),
}
"""Types of values in `jointnet.json`, and their names for users."""


def read_record(folder: Path) -> dict[str, Any]:
    """Return `jointnet.json`, or what a base model without it amounts to: one branch, RGB."""
    path = folder / "jointnet.json"
    if not path.is_file():
        nothing: dict[str, Any] = {"defaults": {}, "provenance": {}}
        return {"architecture": JOINTNET, "branches": [RGB], "masked_input": False, **nothing}
    record = read_json(path, "format")
    if record["format"] != FORMAT:
        raise UserError(f"{path}: format {record['format']} is not known", hint="install a newer jointnet-cli")
    record = {"architecture": JOINTNET, **read_json(path, "branches", "masked_input", "defaults", "provenance")}
    record["architecture"] = FORMER_NAMES.get(record["architecture"], record["architecture"])
    if record["architecture"] not in ARCHITECTURES:
        raise UserError(
            f"{path}: architecture {record['architecture']} is not known", hint="install a newer jointnet-cli"
        )
    _check_types(path, record, _RECORD_TYPES)
    _check_types(path, record["defaults"], _DEFAULT_TYPES)
    # What a later version may state is left aside.
    record["defaults"] = {name: value for name, value in record["defaults"].items() if name in _DEFAULT_TYPES}
    return record


def write_record(
    folder: Path,
    *,
    branches: list[str],
    masked_input: bool,
    defaults: dict[str, Any],
    provenance: dict[str, Any],
    architecture: str = JOINTNET,
    rank: int | None = None,
) -> None:
    """Write `jointnet.json`, which describes a joint model. `rank` is the rank of LoRA adapters."""
    record = {
        "format": FORMAT,
        "architecture": architecture,
        **({} if rank is None else {"rank": rank}),
        "branches": branches,
        "masked_input": masked_input,
        "defaults": defaults,
        "provenance": provenance,
    }
    write_json(folder / "jointnet.json", record)


def _check_types(path: Path, values: Mapping[str, Any], types: Mapping[str, tuple[Any, str]]) -> None:
    for key, (kind, expected) in types.items():
        if key in values and (not isinstance(values[key], kind) or isinstance(values[key], bool) != (kind is bool)):
            raise UserError(f"{path}: {key} must be {expected}, got {values[key]!r}", hint=REMEDY)
