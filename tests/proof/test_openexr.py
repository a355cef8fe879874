"""OpenEXR's own tools and OpenImageIO read our EXR, and find the values in it that we put there."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.proof_scene import HEIGHT, SCALE, WIDTH

from jointnet_cli.files.color import srgb_to_linear
from jointnet_cli.files.exr import read_exr, write_channels
from jointnet_cli.files.maps import depth_numbers

METRES = ["--near", "1", "--far", "20"]


@pytest.fixture
def sphere(converted):
    return converted("sphere", "--to", "exr", "--as", "distance", *METRES, "--projection", "equirectangular")


def test_exrheader_finds_channels_and_attributes(program, exr, sphere):
    header = program("exrheader", exr)
    for channel in ("R", "G", "B"):
        assert f"    {channel}, 16-bit floating-point" in header
    for channel in ("disparity.Y", "normal.X", "normal.Y", "normal.Z"):
        assert f"    {channel}, 32-bit floating-point" in header
    assert 'wrapmodes (type string): "periodic,clamp"' in header
    assert "ocean reef" in header
    assert "envmap" not in header

    header = program("exrheader", sphere)
    assert "envmap (type envmap): latitude-longitude map" in header
    assert "    Z, 32-bit floating-point" in header


@pytest.mark.parametrize("name", ["exr", "sphere"])
def test_exrinfo_finds_nothing_against_the_standard(program, name, request):
    assert "compression" in program("exrinfo", "--strict", "--verbose", request.getfixturevalue(name))


@pytest.mark.parametrize("name", ["exr", "sphere"])
def test_exrcheck_accepts_it(program, name, request):
    assert "bad" not in program("exrcheck", request.getfixturevalue(name))


def test_openimageio_reads_the_same_numbers(program, exr, picture, disparity, normal):
    words = program("iinfo", "-v", exr)
    names = re.findall(r"([\w.]+) \((?:half|float)\)", words)
    assert names == ["R", "G", "B", "disparity.Y", "normal.X", "normal.Y", "normal.Z"]
    stats = statistics(program("oiiotool", "--stats", exr))
    linear = srgb_to_linear(picture)
    true = np.concatenate([linear, disparity[..., None], normal], axis=-1).reshape(-1, 7)
    np.testing.assert_allclose(stats["Min"], true.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(stats["Max"], true.max(axis=0), rtol=2**-11)
    np.testing.assert_allclose(stats["Avg"], true.mean(axis=0), atol=2e-4)
    assert stats["NanCount"] == ["0"] * 7
    assert stats["InfCount"] == ["0"] * 7


def test_openimageio_reads_distances_in_their_place(program, converted, disparity, tmp_path):
    path = converted("distance", "--to", "exr", "--as", "distance", *METRES)
    program("oiiotool", path, "--ch", "Z", "-o", tmp_path / "z.tif")
    metres, _ = depth_numbers(tmp_path / "z.tif")  # and we read its TIFF
    assert metres.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(metres, SCALE.distance(disparity), rtol=1e-6)


def test_iinfo_names_the_environment_map(program, sphere):
    words = " ".join(program("iinfo", "-v", sphere).split())
    assert f"{WIDTH} x {WIDTH // 2}, 7 channel, half/half/half/float" in words
    assert 'textureformat: "LatLong Environment"' in words


def statistics(words: str) -> dict[str, list]:
    """The lines `Stats Min: 0.1 0.2 (float)` of oiiotool by name."""
    rows: dict[str, list] = {}
    for name, values in re.findall(r"Stats (\w+): (.+)", words):
        columns = values.replace("(float)", "").split()
        rows[name] = columns if name.endswith("Count") else [float(column) for column in columns]
    return rows


def test_exrenvmap_sees_directions_where_we_say_they_are(program, tmp_path):
    height, width, side = 32, 64, 16
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    latitude = (0.5 - (np.arange(height)[:, None] + 0.5) / height) * np.pi
    ours = (np.sin(longitude) * np.cos(latitude), np.sin(latitude), -np.cos(longitude) * np.cos(latitude))
    channels = {
        name: np.float32((axis + np.zeros((height, width)) + 1) / 2) for name, axis in zip("RGB", ours, strict=True)
    }
    write_channels(tmp_path / "sphere.exr", channels, {}, sphere=True)
    program("exrenvmap", "-c", "-w", str(side), tmp_path / "sphere.exr", tmp_path / "cube.exr")
    cube = read_exr(tmp_path / "cube.exr").stack("RGB") * 2 - 1
    middles = cube[side // 2 :: side, side // 2]  # of the faces +x, -x, +y, -y, +z, -z, one below the other
    # OpenEXR's middle of the picture is +z, ours -z: turned about y, not mirrored.
    expected = np.array([[-1, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1]])
    np.testing.assert_allclose(middles, expected, atol=0.15)
