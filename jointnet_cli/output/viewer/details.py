"""What a page says of the picture it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jointnet_cli.output.scene import Scene

_SCALES = {
    "assumed": "assumed, the true one is unknown",
    "given": "as given",
    "fitted": "fitted to known distances",
    "file": "from the depth file",
}
_MEASURED = {"perspective": "along the viewing axis (planar Z)", "cylindrical": "from the vertical axis"}


def details(scene: Scene, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of what and how, in the order in which they are read; nothing that the record does not say."""
    settings = record.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    height, width = scene.front.distance.shape
    model = " ".join(filter(None, [_text(settings.get("model")), _hash(settings.get("model_hash"))]))
    pairs = [
        ("Prompt", _text(record.get("prompt"))),
        ("Negative prompt", _text(record.get("negative_prompt"))),
        ("Seed", _text(record.get("seed"))),
        ("Model", model),
        ("Made by", _text(record.get("task"))),
        ("Steps", _text(settings.get("steps"))),
        ("Guidance", _text(settings.get("guidance"))),
        ("Scheduler", _text(settings.get("scheduler"))),
        ("Picture", f"{width} × {height} pixels, {view(scene)}"),
        ("Distances", _MEASURED[scene.projection.kind]),
        (
            "Scale",
            f"{scene.scale.near:.3g} to {scene.scale.far:.3g} m, {_SCALES.get(scene.scale.origin, scene.scale.origin)}",
        ),
        ("Layers", "two: what the front hides is painted" if scene.behind else "one"),
        ("Software", _text(record.get("software"))),
        ("Command", _text(record.get("command"))),
    ]
    return [(name, text) for name, text in pairs if text]


def view(scene: Scene) -> str:
    """The projection in words."""
    span = f"{scene.projection.span:g}°"
    return f"panorama of {span}" if scene.projection.kind == "cylindrical" else f"perspective, {span} wide"


def _hash(value: object) -> str:
    return f"({value})" if value else ""


def _text(value: object) -> str:
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
