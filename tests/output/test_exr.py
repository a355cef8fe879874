from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.output.color import linear_to_srgb, srgb_to_linear
from jointnet_cli.output.exr import read_exr, write_exr
from jointnet_cli.tasks import Projection

FLAT = Projection("perspective", 60.0)
RING = Projection("cylindrical", 360.0, wrap=True)
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exr")


@settings(max_examples=50)
@given(arrays.arrays(np.float32, SIZES, elements=st.floats(0, 1, width=32)))
def test_disparity_is_exact(folder: Path, disparity: NDArray[np.float32]) -> None:
    path = folder / "disparity.exr"
    write_exr(path, np.zeros((*disparity.shape, 3), np.float32), {"depth": disparity}, {}, FLAT)
    channels = read_exr(path).channels
    assert channels["disparity.Y"].dtype == np.float32
    assert np.array_equal(channels["disparity.Y"], disparity)
    assert "Z" not in channels


def test_channels_and_their_precision(folder: Path) -> None:
    random = np.random.default_rng(0)
    image = random.random((16, 64, 3), np.float32)
    normal = random.standard_normal((16, 64, 3), np.float32)
    # A mirrored view: its memory runs backwards.
    write_exr(folder / "all.exr", image[:, ::-1], {"depth": image[:, ::-1, 0], "normal": normal[:, ::-1]}, {}, FLAT)
    channels = read_exr(folder / "all.exr").channels
    assert sorted(channels) == ["B", "G", "R", "disparity.Y", "normal.X", "normal.Y", "normal.Z"]
    assert np.array_equal(channels["disparity.Y"], image[:, ::-1, 0])
    for axis, name in enumerate("XYZ"):
        assert np.array_equal(channels[f"normal.{name}"], normal[:, ::-1, axis])
    for axis, name in enumerate("RGB"):
        assert channels[name].dtype == np.float16
        np.testing.assert_allclose(channels[name], srgb_to_linear(image)[:, ::-1, axis], rtol=2**-11, atol=1e-7)


def test_all_8_bit_colours_survive_half_precision(folder: Path) -> None:
    levels = np.arange(256, dtype=np.float32)
    image = np.repeat(levels[None, :, None] / np.float32(255), 3, axis=-1)
    write_exr(folder / "levels.exr", image, {}, {}, FLAT)
    red = read_exr(folder / "levels.exr").channels["R"].astype(np.float32)
    assert np.array_equal(np.rint(linear_to_srgb(red) * 255)[0], levels)


@pytest.mark.parametrize("projection", [FLAT, RING])
def test_attributes(folder: Path, projection: Projection) -> None:
    text = {"jointnet": json.dumps({"prompt": "海"}), "software": "jointnet-cli", "comments": "ocean reef\né"}
    write_exr(folder / "text.exr", np.zeros((2, 4, 3), np.float32), {}, text, projection)
    attributes = read_exr(folder / "text.exr").attributes
    assert {name: attributes[name] for name in text} == text
    assert attributes.get("wrapmodes") == ("periodic,clamp" if projection.wrap else None)
    assert "envmap" not in attributes


def test_a_map_without_channels_of_its_own_is_refused(folder: Path) -> None:
    image = np.zeros((2, 2, 3), np.float32)
    with pytest.raises(ValueError, match="albedo"):
        write_exr(folder / "odd.exr", image, {"albedo": image}, {}, FLAT)
    with pytest.raises(ValueError, match="depth"):
        write_exr(folder / "odd.exr", image, {"depth": np.zeros((3, 2), np.float32)}, {}, FLAT)
    assert not (folder / "odd.exr").exists()


@pytest.mark.parametrize("content", [None, b"words", b"\x76\x2f\x31\x01 but then nothing"])
def test_what_is_no_exr_is_a_users_mistake(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.exr"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.exr"):
        read_exr(path)
