"""Digests of what a file says, whatever its container: equal payloads have equal digests.

Timestamps, timings, versions and paths of this machine are left out, for they differ between two runs of the same code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Lines = Iterable[str]

VOLATILE = {
    *("seconds", "timings", "software", "minutes", "machine", "torch", "version", "samples_per_second", "memory_gib"),
    *("duration", "shard_seconds", "start_time", "end_time", "created", "host"),
    *("_diffusers_version", "transformers_version"),
}
"""Keys of JSON whose values differ between two runs, or between two versions of a library."""
SKIPPED = re.compile(r"random_states_\d+\.pkl|\.log|gpu\.csv|stdout\.txt|events\.out\..*|^run$")
"""Files that differ between two runs; `run` is the name of a run, drawn at random."""


def payload(path: Path) -> list[str] | None:
    """Describe a file's payload in lines, each a name and a digest; `None` for a file that is not compared."""
    if SKIPPED.search(path.name):
        return None
    if path.name == "manifest.json":
        return sorted(set(re.findall(r'"([\w./-]+\.\w+)":', path.read_text())))
    return list(READERS.get(path.suffix.lower(), _bytes)(path))


def json_lines(value: Any, place: str = "") -> Lines:
    """Every leaf of a JSON value with its place, in sorted order, less `VOLATILE` keys."""
    if isinstance(value, dict):
        for key in sorted(value):
            if key not in VOLATILE:
                yield from json_lines(value[key], f"{place}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from json_lines(item, f"{place}[{number}]")
    else:
        yield f"{place} = {json.dumps(value)}"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _array(values: Any) -> str:
    values = np.ascontiguousarray(values)
    return f"{values.dtype} {values.shape} {digest(values.tobytes())}"


def _bytes(path: Path) -> Lines:
    yield digest(path.read_bytes())


def _json(path: Path) -> Lines:
    return json_lines(json.loads(path.read_text()))


def _jsonl(path: Path) -> Lines:
    return json_lines([json.loads(line) for line in path.read_text().splitlines()])


def _picture(path: Path) -> Lines:
    from PIL import Image

    with Image.open(path) as picture:
        yield f"{picture.mode} {picture.info.get('dpi')} {_array(picture)}"
        for key, text in sorted(getattr(picture, "text", {}).items()):
            yield f"text {key}"
            if str(text).startswith("{"):
                yield from json_lines(json.loads(text), key)


def _deep_picture(path: Path) -> Lines:
    import tifffile

    yield _array(tifffile.imread(path))


def _npy(path: Path) -> Lines:
    yield _array(np.load(path, allow_pickle=False))


def _exr(path: Path) -> Lines:
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        for name, channel in sorted(file.channels().items()):
            yield f"{name} {_array(channel.pixels)}"
        for name, value in sorted(file.header().items()):
            if isinstance(value, str) and value.startswith("{"):
                yield from json_lines(json.loads(value), name)
            elif isinstance(value, str | int | float):
                yield f"{name} = {value}"


def _glb(path: Path) -> Lines:
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    scene = json.loads(data[20 : 20 + length])
    scene["asset"].pop("generator", None)
    record = scene["asset"].pop("extras", None) or scene.pop("extras", None)
    yield from json_lines(scene)
    yield from json_lines(record, "extras")
    yield f"binary {digest(data[20 + length :])}"


def _mesh(path: Path) -> Lines:
    import trimesh

    mesh = trimesh.load(path, process=False)
    for name, part in getattr(mesh, "geometry", {path.suffix: mesh}).items():
        yield f"{name} vertices {_array(part.vertices)}"
        if hasattr(part, "faces"):
            yield f"{name} faces {_array(part.faces)}"
        for attribute in ("uv", "vertex_colors"):
            values = getattr(getattr(part, "visual", None), attribute, None)
            if values is not None:
                yield f"{name} {attribute} {_array(values)}"


def _page(path: Path) -> Lines:
    text = path.read_text()
    for image in re.findall(r"data:[\w/+.-]+;base64,([\w+/=]+)", text):
        yield f"embedded {digest(base64.b64decode(image))}"
    for block in re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL):
        values = json.loads(block)
        if isinstance(values, dict):
            values.pop("details", None)
        yield from json_lines(values, "data")


def _video(path: Path) -> Lines:
    import imageio.v3 as imageio

    yield _array(imageio.imread(path, plugin="FFMPEG"))


def _safetensors(path: Path) -> Lines:
    from safetensors.torch import load_file

    return _tensors(load_file(path))


def _pickled(path: Path) -> Lines:
    import torch

    return _tensors(torch.load(path, map_location="cpu", weights_only=True))


def _tensors(value: Any, place: str = "") -> Lines:
    import torch

    if isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().flatten()
        yield f"{place} {tuple(value.shape)} {flat.dtype} {digest(flat.view(torch.uint8).numpy().tobytes())}"
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from _tensors(value[key], f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{place}[{number}]")
    else:
        yield f"{place} = {value!r}"


def _tar(path: Path) -> Lines:
    with tarfile.open(path) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
            yield f"{member.name} {digest(content)}"


def _parquet(path: Path) -> Lines:
    import duckdb

    rows = duckdb.sql(f"SELECT * FROM read_parquet('{path}')")
    for name in sorted(rows.columns):
        values = [repr(value) for (value,) in rows.project(f'"{name}"').fetchall()]
        yield f"{name} {digest(chr(10).join(values).encode())}"


READERS: dict[str, Callable[[Path], Lines]] = {
    **dict.fromkeys([".png", ".jpg", ".jpeg"], _picture),
    **dict.fromkeys([".tif", ".tiff"], _deep_picture),
    **dict.fromkeys([".ply", ".obj"], _mesh),
    **dict.fromkeys([".bin", ".pt"], _pickled),
    ".npy": _npy,
    ".exr": _exr,
    ".glb": _glb,
    ".html": _page,
    ".mp4": _video,
    ".safetensors": _safetensors,
    ".tar": _tar,
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": _jsonl,
}
