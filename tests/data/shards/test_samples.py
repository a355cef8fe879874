"""Samples at the training size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import write_shard
from helpers.web import encoded
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli.data.build import open_plan
from jointnet_cli.data.job import PrepareJob
from jointnet_cli.data.prepare import prepare
from jointnet_cli.data.settings import ResizeMode, prepare_settings
from jointnet_cli.data.shards.format import Sample, encode_depth, encode_normal
from jointnet_cli.data.shards.index import read_samples
from jointnet_cli.data.shards.latents import load_pixels
from jointnet_cli.data.shards.samples import UnusableSample, crop_sample
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.source_files import Source
from jointnet_cli.tensors import to_map


def raw_sample(height: int, width: int, **record: Any) -> dict[str, Any]:
    """Columns that brighten to the right, nearer from top to bottom, a surface that looks at the viewer."""
    ramp = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (height, width, 3))
    depth = np.broadcast_to(np.linspace(0.1, 1, height, dtype=np.float32)[:, None], (height, width))
    normal = np.zeros((height, width, 3), np.float32)
    normal[..., 2] = 1
    content, scale = encode_depth(np.ascontiguousarray(depth))
    return {
        "__key__": "7",
        "png": encoded(Image.fromarray(np.ascontiguousarray(ramp)), "PNG"),
        "depth.png": content,
        "normal.png": encode_normal(normal),
        "txt": b"a ramp",
        "json": json.dumps({**record, "depth": {"scale": scale}}).encode(),
    }


def image_of(raw: dict[str, Any], size: int) -> NDArray[np.uint8]:
    return crop_sample(raw, (), size).image


def test_a_square_of_the_right_size_is_what_is_read_into_memory(tmp_path: Any) -> None:
    random = np.random.default_rng(0)
    normal = random.standard_normal((16, 16, 3), np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    image = random.integers(0, 256, (16, 16, 3), np.uint8)
    sample = Sample("0", image, "noise", random.uniform(0, 1, (16, 16)).astype(np.float32), normal, {})
    write_shard(tmp_path / "00000.tar", [sample])
    pixels = load_pixels(ShardSet.open(tmp_path), ["rgb", "depth", "normal"])
    square = crop_sample(next(read_samples(str(tmp_path / "00000.tar"))), ("depth", "normal"), 16)
    rgb = to_map(torch.from_numpy(square.image)[None].float() / 255, "rgb")
    assert torch.equal(rgb.half(), pixels.maps["rgb"])
    for name in ("depth", "normal"):
        assert torch.equal(torch.from_numpy(square.maps[name])[None], pixels.maps[name]), name
    assert square.caption == "noise" and square.crop_conditioning == (16, 16, 0, 0)


def test_the_shorter_side_is_resized_and_the_middle_is_kept() -> None:
    square = crop_sample(raw_sample(40, 100), ("depth", "normal"), 20)  # becomes 20x50; columns 15 to 34 stay
    assert square.image.shape == (3, 20, 20) and square.crop_conditioning == (40, 100, 0, 15)
    columns = square.image[0].astype(float).mean(axis=0)
    assert np.allclose(columns, 2 * np.arange(15, 35) + 0.5, atol=1)
    assert square.maps["depth"].shape == (1, 20, 20) and square.maps["normal"].shape == (3, 20, 20)
    rows = square.maps["depth"][0].astype(float).mean(axis=1)
    assert rows[0] == -1 and rows[-1] == 1 and (np.diff(rows[:-1]) > 0).all()
    assert np.allclose(square.maps["normal"][2], 1, atol=0.01)
    assert crop_sample(raw_sample(100, 40), (), 20).crop_conditioning == (100, 40, 15, 0)


def test_a_smaller_image_is_enlarged() -> None:
    square = crop_sample(raw_sample(10, 15), ("depth",), 40)  # becomes 40x60
    assert square.image.shape == (3, 40, 40) and square.crop_conditioning == (10, 15, 0, 10)


@pytest.mark.parametrize(
    ("stored", "original", "size", "crop_conditioning"),
    [
        (
            (64, 64),
            (480, 640),
            64,
            (480, 640, 0, 11),
        ),  # 640 * 64 / 480 is 85.3; what is left of 64 is cut at both sides
        ((64, 64), (480, 640), 32, (480, 640, 0, 5)),
        ((64, 64), (1000, 500), 64, (1000, 500, 32, 0)),
        ((48, 64), (480, 640), 48, (480, 640, 0, 8)),  # kept whole when the shard was made, cropped now
        ((48, 64), (None, None), 48, (48, 64, 0, 8)),
        ((64, 64), (64, 64), 64, (64, 64, 0, 0)),
    ],
)
def test_crop_conditioning_tells_of_both_crops(
    stored: tuple[int, int],
    original: tuple[int | None, int | None],
    size: int,
    crop_conditioning: tuple[int, int, int, int],
) -> None:
    raw = raw_sample(*stored, original_height=original[0], original_width=original[1])
    assert crop_sample(raw, (), size).crop_conditioning == crop_conditioning


@pytest.mark.parametrize(("resize", "left"), [("center_crop", 8), ("border", 0)])
def test_a_padded_image_was_not_cropped(tmp_path: Path, resize: ResizeMode, left: int) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 16), "red").save(tmp_path / "photos/a.png")
    settings = prepare_settings(flags={"image": {"size": 16, "resize": resize}})
    plan = open_plan(tmp_path / "set", Source((str(tmp_path / "photos"),)), settings)
    prepare(PrepareJob(tmp_path / "set", plan, settings))
    raw = next(ShardSet.open(tmp_path / "set").raw())
    assert crop_sample(raw, (), 16).crop_conditioning == (16, 32, 0, left)


def test_what_cannot_be_used_is_said() -> None:
    sound = raw_sample(16, 16)
    with pytest.raises(UnusableSample, match="no depth map"):
        crop_sample({name: value for name, value in sound.items() if name != "depth.png"}, ("depth",), 16)
    broken = [
        {**sound, "png": b"not a picture"},
        {**sound, "png": sound["png"][:60]},
        {**sound, "depth.png": b""},
        {**sound, "json": b"{}"},
        {**sound, "json": b"[]"},
        {**sound, "json": b"{"},
        {
            **sound,
            "json": sound["json"].rstrip(b"}") + b'}, "original_width": 1%s, "original_height": 1}' % (b"0" * 400),
        },
        {**sound, "txt": b"\xff"},
    ]
    for raw in broken:
        with pytest.raises(UnusableSample, match="cannot be decoded"):
            crop_sample(raw, ("depth", "normal"), 16)
    assert image_of({**sound, "depth.png": b""}, 16).shape == (3, 16, 16)  # what is not asked for is not looked at
