"""One HTML file that holds a scene, the program that shows it and nothing from elsewhere."""

from __future__ import annotations

import hashlib
import html
import io
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.color import colorize
from jointnet_cli.files.text import encodable, to_json
from jointnet_cli.scene.scene import Layer, Scene
from jointnet_cli.scene.viewer.grid import backdrop, encode, grid, reduced, tones

SCRIPTS = ("three.min.js", "shaders.js", "triangles.js", "camera.js", "renderer.js", "controls.js")
"""In this order they are one program."""

LOSSLESS_PIXELS = 2_000_000
"""Larger images are JPEG, of quality 95 and with colours at full resolution."""

_MARGIN = 8
"""Pixels of the second layer that are kept around what is shown of it, for the texture's smaller sizes."""


def write_viewer(path: Path, scene: Scene, *, title: str, record: Mapping[str, Any] | None = None) -> None:
    """Write a page that shows a scene from its viewpoint and around it.

    It needs a browser with WebGL 2 and shows the flat image in others; it asks for nothing but itself. The scene's
    distances are in it at up to 600,000 pixels, evenly spread.

    Args:
        path: the HTML file; its folder exists.
        scene: what it shows.
        title: what people read above it; any text.
        record: how the image was made (`record.record`), for the panel of details.
    """
    write_text(path, page(scene, title=title, record=record))


def page(scene: Scene, *, title: str, record: Mapping[str, Any] | None = None) -> str:
    """Return the text of that page."""
    program = "".join(f"{_resource(name)}\n" for name in SCRIPTS)
    style = _resource("page.css")
    pictures = {"picture": scene.front.image, **({"second": _kept(scene.behind)} if scene.behind else {})}
    small, disparity = reduced(scene)
    parts = {
        "policy": f"script-src {_hash(program)}; style-src {_hash(style)}",
        "title": html.escape(encodable(title)),
        "style": f"<style>{style}</style>",
        "pictures": "\n".join(_image(name, pixels) for name, pixels in pictures.items())
        + "\n"
        + _image("backdrop", backdrop(small, disparity, wrap=scene.projection.wrap)),
        "data": _json("data", _data(scene, tones(disparity), title, record or {})),
        "program": f"<script>{program}</script>",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _resource("page.html"))


def _data(scene: Scene, shades: tuple[float, float], title: str, record: Mapping[str, Any]) -> dict[str, Any]:
    height, width = scene.front.distance.shape
    rows, columns = grid(scene)
    projection, scale = scene.projection, scene.scale
    palette = np.rint(colorize(np.linspace(0, 1, 256, dtype=np.float32)) * 255).astype(np.uint8)
    return {
        "title": encodable(title),
        "width": width,
        "height": height,
        "projection": {"kind": projection.kind, "span": projection.span, "wrap": projection.wrap},
        "scale": {"scale": scale.scale, "shift": scale.shift, "origin": scale.origin},
        "rows": len(rows),
        "columns": len(columns),
        "layers": [encode(surface, rows, columns) for surface in (scene.front, scene.behind) if surface],
        "palette": b64encode(palette.tobytes()).decode(),
        "tones": shades,
        "details": details(scene, record),
    }


def _kept(surface: Layer) -> NDArray[np.float32]:
    """Return the second layer's image, grey where nothing near is shown of it."""
    if surface.shown is None:
        return surface.image
    kept = surface.shown
    for axis in (0, 1):
        kept = np.logical_or.reduce([np.roll(kept, step, axis) for step in range(-_MARGIN, _MARGIN + 1)])
    return np.where(kept[..., None], surface.image, np.float32(0.5))


def _image(name: str, pixels: NDArray[np.float32]) -> str:
    samples = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    if samples.shape[0] * samples.shape[1] > LOSSLESS_PIXELS:
        kind = "jpeg"
        Image.fromarray(samples).save(stream, "JPEG", quality=95, subsampling=0)
    else:
        kind = "png"
        Image.fromarray(samples).save(stream, "PNG")
    hidden = "" if name == "picture" else " hidden"
    return f'<img id="{name}" alt="" src="data:image/{kind};base64,{b64encode(stream.getvalue()).decode()}"{hidden}>'


def _json(name: str, data: Mapping[str, Any]) -> str:
    """Return data in the page, in which `<`, as the end of a script begins, is its escape."""
    text = to_json(data, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script id="{name}" type="application/json">{text}</script>'


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return files("jointnet_cli.scene.viewer").joinpath(name).read_text(encoding="utf-8")


_SCALES = {
    "assumed": "assumed, the true one is unknown",
    "given": "as given",
    "fitted": "fitted to known distances",
    "file": "from the depth file",
}

_MEASURED = {"perspective": "along the viewing axis (planar Z)", "cylindrical": "from the vertical axis"}


def details(scene: Scene, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pairs of what and how, in the order in which they are read; nothing that the record does not say."""
    settings = record.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    height, width = scene.front.distance.shape
    model = " ".join(filter(None, [_text(settings.get("model")), _short_hash(settings.get("model_hash"))]))
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
    """Return the projection in words."""
    span = f"{scene.projection.span:g}°"
    return f"panorama of {span}" if scene.projection.kind == "cylindrical" else f"perspective, {span} wide"


def _short_hash(value: object) -> str:
    return f"({value})" if value else ""


def _text(value: object) -> str:
    return "" if value is None else encodable(str(value))
