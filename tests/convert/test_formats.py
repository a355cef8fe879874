"""What each format keeps: written and read again, nothing is lost beyond its stated precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.convert.content import Content, DepthMap, Format, Metres, SourceOptions, TargetOptions
from jointnet_cli.convert.read import read_content
from jointnet_cli.convert.write import plan_files, write_plan
from jointnet_cli.files.color import linear_to_srgb, srgb_to_linear
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.scene import DepthScale

RING = Projection("cylindrical", 360.0, wrap=True)
FLAT = Projection("perspective", 47.5)
UNIT = st.floats(0, 1, width=32)
MAPS = [("exr", None), ("tiff", None), ("npy", None), ("png", None), ("tiff", 16)]
EXACT = {"exr", "npy"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


def again(content: Content, wish: TargetOptions, folder: Path, reading: SourceOptions | None = None) -> Content:
    """Written with its record, and read by it."""
    (plan,) = plan_files(folder / "source.x", content, wish, folder, "")
    write_plan(plan, content, wish, metadata=True)
    return read_content(plan.path, reading or SourceOptions())


@pytest.mark.parametrize(("to", "bits"), MAPS)
@pytest.mark.parametrize("white", ["near", "far"])
@settings(max_examples=15, deadline=None)
@given(arrays.arrays(np.float32, (3, 4), elements=UNIT))
def test_disparity(folder: Path, to: Format, bits: int | None, white: str, disparity: NDArray[np.float32]) -> None:
    chosen = None if to == "exr" else white
    scale = DepthScale.from_range(0.5, 12.5, "given")
    content = Content(RING, depth=DepthMap(disparity, "disparity", "planar", scale))
    read = again(content, TargetOptions(to, white=chosen, bits=bits), folder)  # type: ignore[arg-type]
    assert read.depth is not None
    assert (read.depth.quantity, read.depth.axis, read.depth.scale, read.view) == ("disparity", "planar", scale, RING)
    step = 0.5 / 65535 if to == "png" or bits == 16 else 0
    rounding = 0 if chosen in (None, "near") and not step else 2**-24
    assert np.abs(read.depth.values - disparity).max() <= step + rounding


@pytest.mark.parametrize(("to", "bits"), MAPS)
@settings(max_examples=15, deadline=None)
@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(0.5, 60, width=32)), st.sampled_from(["near", "far"]))
def test_distance(folder: Path, to: Format, bits: int | None, metres: NDArray[np.float32], white: str) -> None:
    stepped = to == "png" or bits == 16
    content = Content(FLAT, depth=DepthMap(metres, "distance", "radial"))
    wish = TargetOptions(to, white=white if stepped else None, bits=bits, metres=Metres(0.5, 60))  # type: ignore[arg-type]
    read = again(content, wish, folder)
    assert read.depth is not None
    assert (read.depth.quantity, read.depth.axis, read.view) == ("distance", "radial", FLAT)
    if stepped:
        assert np.abs(read.depth.values - metres).max() <= 59.5 * 0.5 / 65535 + 60 * 2**-23
    else:
        assert np.array_equal(read.depth.values, metres)


def test_sky_is_kept_by_floating_point_and_lies_at_the_far_end_of_16_bits(folder: Path) -> None:
    metres = np.array([[1, 2, np.inf]], np.float32)
    content = Content(FLAT, depth=DepthMap(metres, "distance", "planar"))
    for to in ("exr", "tiff", "npy"):
        assert np.array_equal(depth_of(again(content, TargetOptions(to), folder)), metres)  # type: ignore[arg-type]
    assert depth_of(again(content, TargetOptions("png"), folder)).tolist() == [[1, 2, 2]]
    millimetres = depth_of(again(content, TargetOptions("png", metres=Metres(step=0.001)), folder))
    np.testing.assert_allclose(millimetres, [[1, 2, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("to", "bits", "step"),
    [
        ("exr", None, 0),
        ("npy", None, 0),
        ("tiff", 32, 0),
        ("png", 16, 1 / 65535),
        ("tiff", 16, 1 / 65535),
        ("png", 8, 1 / 255),
        ("tiff", 8, 1 / 255),
    ],
)
@pytest.mark.parametrize("down", [False, True])
def test_normals(folder: Path, to: Format, bits: int | None, step: float, down: bool) -> None:
    normal = np.random.default_rng(0).standard_normal((5, 7, 3), np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal[0, 0] = 0
    content = Content(FLAT, normal=normal)
    wish = TargetOptions(to, normals="directx" if down else "opengl", bits=bits)  # type: ignore[arg-type]
    read = again(content, wish, folder)
    assert read.normal is not None
    assert np.abs(read.normal - normal).max() <= step + 2e-7
    turned = read_content(
        next(iter(folder.glob(f"source{'.tiff' if to == 'tiff' else '.' + to}"))),
        SourceOptions(normals="opengl" if down else "directx"),
    )
    assert turned.normal is not None
    np.testing.assert_allclose(turned.normal * (1, -1, 1), normal, atol=step + 2e-7)


@pytest.mark.parametrize(
    ("to", "bits"), [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("npy", None), ("exr", None)]
)
def test_every_8_bit_colour(folder: Path, to: Format, bits: int | None) -> None:
    levels = np.repeat((np.arange(256, dtype=np.float32) / np.float32(255))[None, :, None], 3, axis=-1)
    read = again(Content(RING, srgb_to_linear(levels)), TargetOptions(to, bits=bits), folder)  # type: ignore[arg-type]
    assert read.image is not None
    assert np.array_equal(np.rint(linear_to_srgb(np.clip(read.image, 0, 1)) * 255), levels * 255)


def test_half_keeps_what_is_brighter_than_white(folder: Path) -> None:
    image = np.array([[[0.5, 1, 7.5]]], np.float32)
    read = again(Content(FLAT, image), TargetOptions("exr"), folder)
    assert np.array_equal(read.image, image)
    assert (
        again(replace(read, image=np.full((1, 1, 3), 1e6, np.float32)), TargetOptions("exr"), folder).image.max()
        == 65504
    )  # type: ignore[union-attr]


def test_jpeg_is_a_picture_with_its_view(folder: Path) -> None:
    image = np.full((16, 32, 3), 0.25, np.float32)
    read = again(Content(Sphere(64, 8, 4), image), TargetOptions("jpg"), folder)
    assert read.view == Sphere(64, 8, 4)
    assert read.image is not None
    np.testing.assert_allclose(read.image, image, atol=0.01)


@pytest.mark.parametrize("to", get_args(Format))
def test_without_a_record_gpano_and_openexr_still_say_what_a_sphere_is(folder: Path, to: Format) -> None:
    content = Content(Sphere(32), np.full((16, 32, 3), 0.25, np.float32))
    (plan,) = plan_files(folder / "bare.x", content, TargetOptions(to), folder, "")
    write_plan(plan, content, TargetOptions(to), metadata=False)
    read = read_content(plan.path, SourceOptions())
    assert read.record == {}
    assert read.view == (None if to in ("npy", "tiff") else content.view)


def depth_of(content: Content) -> NDArray[np.float32]:
    assert content.depth is not None
    return content.depth.values
