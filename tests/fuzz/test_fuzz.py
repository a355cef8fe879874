"""Foreign data at every entrance: damaged bytes give a result or a `UserError`, and nothing else.

`make test` tries a few examples of each, `make fuzz MINUTES=10` many.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.fuzzing import attempt, changed_record, damaged, read_everywhere, scene, some
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.numpy import save

from jointnet_cli.data.folders import images_below
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.web.decode import to_training_image
from jointnet_cli.files.exr import write_channels
from jointnet_cli.files.metadata import gpano_xmp
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.weights import count_parameters, read_tensors
from jointnet_cli.projection import Projection

RING = Projection("cylindrical", 180.0)
PIXELS = np.random.default_rng(0).integers(0, 255, (6, 12, 3), np.uint8)
GREY = np.linspace(0, 1, 72, dtype=np.float32).reshape(6, 12)
RECORD: dict[str, Any] = {
    "task": "depth",
    "prompt": "ocean reef",
    "seed": 3,
    "projection": {"kind": "cylindrical", "span": 180.0, "wrap": False, "full_width": 24, "left": 0, "top": 0},
    "maps": {
        "depth": {"quantity": "distance", "distance": "planar Z", "scale": 0.5, "shift": 0.1, "black": 0, "white": 9},
        "normal": {"space": "camera: x right, y up, z towards the viewer"},
    },
    "request": {"sources": {"image": "a.png"}},
    "timings": {"layer": 1.0},
    "files": {"image": "a.png", "depth": "a.depth.png"},
    "part": "depth",
}


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def saved(write: Callable[[Any], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("jointnet", json.dumps(RECORD))
    info.add_itxt("XML:com.adobe.xmp", gpano_xmp(RING, 12, 6))
    info.add(b"gAMA", (45455).to_bytes(4, "big"))
    return encoded("PNG", pnginfo=info)


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = 6, "words"
    return tags


IMAGES = {
    "png": png(),
    "grey.png": encoded("PNG", "L"),
    "palette.png": encoded("PNG", "P"),
    "jpg": encoded("JPEG", exif=exif(), xmp=gpano_xmp(RING, 12, 6).encode(), comment=json.dumps(RECORD)),
    "cmyk.jpg": encoded("JPEG", "CMYK"),
    "webp": encoded("WEBP"),
    "avif": encoded("AVIF"),
    "jp2": encoded("JPEG2000"),
    "gif": encoded("GIF", "P"),
    "bmp": encoded("BMP"),
    "tiff": saved(lambda file: tifffile.imwrite(file, GREY, description=json.dumps(RECORD), compression="zlib")),
    "deep.tiff": saved(lambda file: tifffile.imwrite(file, PIXELS.astype(np.uint16) * 257, photometric="rgb")),
}
ARRAYS = {
    "npy": saved(lambda file: np.save(file, GREY)),
    "npz": saved(lambda file: np.savez_compressed(file, depth=GREY, normal=np.ones((6, 12, 3)))),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def exr(folder: Path) -> bytes:
    planes = {name: GREY.astype(np.float16) for name in "RGB"} | {"Z": GREY + 1}
    planes |= {f"normal.{axis}": GREY for axis in "XYZ"}
    write_channels(folder / "whole.exr", planes, {"jointnet": json.dumps(RECORD)})
    return (folder / "whole.exr").read_bytes()


@pytest.mark.parametrize("name", IMAGES)
@some
@given(st.data())
def test_images(folder: Path, name: str, draw: st.DataObject) -> None:
    path, data = folder / f"a.{name}", damaged(draw, IMAGES[name])
    path.write_bytes(data)
    read_everywhere(path)
    attempt(lambda: to_training_image(data, PrepareSettings()))


@pytest.mark.parametrize("name", ARRAYS)
@some
@given(st.data())
def test_arrays(folder: Path, name: str, draw: st.DataObject) -> None:
    path = folder / f"a.{name}"
    path.write_bytes(damaged(draw, ARRAYS[name]))
    read_everywhere(path)


@some
@given(st.data())
def test_openexr(folder: Path, exr: bytes, draw: st.DataObject) -> None:
    path = folder / "a.exr"
    path.write_bytes(damaged(draw, exr))
    read_everywhere(path)


@some
@given(st.data())
def test_records(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("records")
    record = json.dumps(changed_record(draw, RECORD))
    (folder / "a.png").write_bytes(encoded("PNG"))
    (folder / "a.depth.png").write_bytes(encoded("PNG", "L"))
    (folder / "a.depth.npy").write_bytes(ARRAYS["npy"])
    (folder / "a.depth.npy.json").write_text(record)
    info = PngImagePlugin.PngInfo()
    info.add_text("jointnet", record)
    (folder / "b.png").write_bytes(encoded("PNG", "L", pnginfo=info))
    sidecar = folder / "a.metadata.json"
    sidecar.write_text(record)
    attempt(lambda: scene(sidecar), lambda: scene(folder / "a.png"))
    for name in ("b.png", "a.depth.npy"):
        read_everywhere(folder / name)
    (folder / "a.json").write_text(record)
    attempt(lambda: list(images_below([folder])))
    (folder / "a.json").write_bytes(damaged(draw, record.encode()))
    attempt(lambda: list(images_below([folder])))


@some
@given(st.data())
def test_weights(folder: Path, draw: st.DataObject) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damaged(draw, save({"a": GREY, "b": GREY[0]})))
    attempt(lambda: count_parameters(path), lambda: read_tensors(path))


@some
@given(st.data())
def test_zip_files_and_model_folders(folder: Path, _own_cache: None, draw: st.DataObject) -> None:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    configuration = {"block_out_channels": [32, 64], "sample_size": 64}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model/model_index.json", json.dumps(changed_record(draw, index)))
        archive.writestr("model/unet/config.json", json.dumps(changed_record(draw, configuration)))
        archive.writestr("model/vae/config.json", json.dumps(configuration))
    path = folder / "model.zip"
    path.write_bytes(damaged(draw, packed.getvalue()) if draw.draw(st.booleans()) else packed.getvalue())
    attempt(lambda: find_model(str(path), weights=False))


@pytest.fixture(scope="module")
def _own_cache(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield
