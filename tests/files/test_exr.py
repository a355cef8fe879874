from __future__ import annotations

import errno
import json
import resource
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.files.color import linear_to_srgb, srgb_to_linear
from jointnet_cli.files.exr import exr_notes, read_attributes, read_exr, write_channels, write_exr
from jointnet_cli.files.images import read_image
from jointnet_cli.projection import Projection

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
    with pytest.raises(ValueError, match=r"the map normal is \(3, 2\) and the image \(2, 2\)"):
        write_exr(folder / "odd.exr", image, {"normal": np.zeros((3, 2, 3), np.float32)}, {}, FLAT)
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


LAST_ROWS = [
    *[(1, 1, 0), (-3, 1, 3), (1, -2, 8), (-3, -2, 11)],  # one pixel of each corner of the grid
    *[(2, 0, np.nan), (-4, 0, np.nan), (0, 2, np.nan), (0, -3, np.nan)],
]
"""Where the grid lies, and the one number that is seen."""
GRID = np.arange(12, dtype=np.float32).reshape(3, 4)


def part(name: str, channels: dict[str, NDArray[np.float32]], **header: Any) -> OpenEXR.Part:
    return OpenEXR.Part({"type": OpenEXR.scanlineimage, **header}, channels, name=name)


def write_parts(path: Path, *parts: OpenEXR.Part) -> Path:
    with OpenEXR.File(list(parts)) as file:
        file.write(str(path))
    return path


def window(left: int, top: int, right: int, bottom: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return np.array([left, top], np.int32), np.array([right, bottom], np.int32)


def deep(name: str) -> OpenEXR.Part:
    samples = np.empty((3, 4), object)
    for place in np.ndindex(samples.shape):
        samples[place] = np.ones(2, np.float32)
    return OpenEXR.Part(
        {"type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}, {"Z": samples}, name=name
    )


def test_all_parts_are_read(folder: Path) -> None:
    path = write_parts(
        folder / "parts.exr",
        part("diffuse", {"R": GRID, "G": GRID, "B": GRID}),
        part("beauty", {"R": 2 * GRID, "G": GRID, "B": GRID, "A": GRID, "X": GRID, "mask": GRID}, owner="Ann"),
        part("N", {"X": GRID, "Y": GRID, "Z": GRID}),
        part("zbuffer", {"Z": 3 * GRID}),
        part("far", {"Z": 4 * GRID, "ViewLayer.Depth.Z": GRID}),
        part("luma", {"Y": GRID}),
    )
    exr = read_exr(path)
    beauty = ["A", "B", "G", "R", "beauty.X", "beauty.mask"]
    diffuse = ["diffuse.B", "diffuse.G", "diffuse.R"]
    rest = ["N.X", "N.Y", "N.Z", "Z", "ViewLayer.Depth.Z", "far.Z", "luma.Y"]
    assert sorted(exr.channels) == sorted([*beauty, *diffuse, *rest])
    assert np.array_equal(exr.channels["R"], 2 * GRID) and np.array_equal(exr.channels["diffuse.R"], GRID)
    assert np.array_equal(exr.channels["Z"], 3 * GRID) and np.array_equal(exr.channels["far.Z"], 4 * GRID)
    assert exr.depths() == ["Z", "ViewLayer.Depth.Z"]
    assert exr.layers("xyz", "normal", "n") == [("N.X", "N.Y", "N.Z")]
    assert exr.attributes["owner"] == read_attributes(path)["owner"] == "Ann"
    assert "channels" not in exr.attributes


def test_a_channel_that_is_called_as_its_part_keeps_its_name(folder: Path) -> None:
    path = write_parts(
        folder / "same.exr",
        part("rgba", {"R": GRID, "G": GRID, "B": GRID}),
        part("depth", {"depth": 3 * GRID}),
        part("Pz", {"Pz": GRID}),
        part("R", {"R": 2 * GRID}),
    )
    exr = read_exr(path)
    assert set(exr.channels) == {"R", "G", "B", "depth", "Pz", "R.R"}
    assert exr.depths() == ["depth"] and np.array_equal(exr.channels["depth"], 3 * GRID)
    assert np.array_equal(exr.channels["R"], GRID)


def test_the_part_of_the_picture_is_found(folder: Path) -> None:
    colours = {"R": GRID, "G": GRID, "B": GRID}
    path = write_parts(
        folder / "found.exr", part("mask", {"A": GRID, "Z": GRID}), part("plate", {**colours, "Z": 2 * GRID})
    )
    exr = read_exr(path)
    assert list(exr.channels) == ["B", "G", "R", "Z", "mask.A", "mask.Z"]
    assert np.array_equal(exr.channels["Z"], 2 * GRID)
    path = write_parts(
        folder / "found.exr", part("Albedo", colours), part("ViewLayer.Combined", {"R": 2 * GRID} | colours)
    )
    assert set(read_exr(path).channels) == {"Albedo.R", "Albedo.G", "Albedo.B", "R", "G", "B"}
    path = write_parts(
        folder / "found.exr",
        part("d", {"Z": GRID}, view="left"),
        part("beauty", colours, view="right"),
        part("plate", {**colours, "R": 2 * GRID}, view="left"),
    )
    exr = read_exr(path)
    assert set(exr.channels) == {"Z", "R", "G", "B", "right.beauty.R", "right.beauty.G", "right.beauty.B"}
    assert np.array_equal(exr.channels["R"], 2 * GRID)
    assert read_exr(write_parts(folder / "found.exr", part("d", {"Z": GRID}, view="left"))).notes == ()


def test_headers_are_read_without_the_pixels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = {"type": OpenEXR.scanlineimage, "owner": "Ann", "displayWindow": window(0, 0, 9, 9)}
    with OpenEXR.File(header, {"Z": np.random.default_rng(0).random((200, 200), np.float32)}) as file:
        file.write(str(folder / "long.exr"))
    data = (folder / "long.exr").read_bytes()
    (folder / "cut.exr").write_bytes(data[: len(data) // 2])
    with pytest.raises(
        UserError, match=r"cut\.exr cannot be read: Warning: Exception raised reading pixel data for part 0"
    ):
        read_exr(folder / "cut.exr")
    assert capsys.readouterr().out == ""
    assert read_attributes(folder / "cut.exr")["owner"] == "Ann"
    assert exr_notes(folder / "cut.exr")[0].startswith("data window of 200 x 200 pixels at 0, 0")
    (folder / "words.exr").write_text("words")
    assert exr_notes(folder / "words.exr") == ()


def test_a_file_with_a_damaged_part_is_refused(folder: Path) -> None:
    noise = np.random.default_rng(0).random((200, 200), np.float32)
    path = write_parts(folder / "two.exr", part("a", {"R": np.zeros_like(noise)}), part("b", {"Z": noise}))
    path.write_bytes(path.read_bytes()[:-50_000])
    with pytest.raises(UserError, match=r"two\.exr cannot be read"):
        read_exr(path)


def test_the_first_view_of_a_stereo_file_is_read(folder: Path) -> None:
    path = write_parts(
        folder / "views.exr", part("a", {"Z": GRID}, view="left"), part("b", {"Z": 2 * GRID}, view="right")
    )
    exr = read_exr(path)
    assert list(exr.channels) == ["Z", "right.Z"] and exr.depths() == ["Z"]
    assert exr.notes == exr_notes(path) == ("of the views left, right, left is read",)
    header = {"type": OpenEXR.scanlineimage, "multiView": ["main", "other"]}
    names = ["Layer.Depth.main.Z", "Layer.Depth.other.Z", "other.Z", "other.Depth.Z"]
    with OpenEXR.File(header, dict.fromkeys(names, GRID)) as file:
        file.write(str(folder / "one.exr"))
    assert read_exr(folder / "one.exr").depths() == ["Layer.Depth.main.Z"]


def test_deep_parts_are_left_out_by_name(folder: Path) -> None:
    flat_and_deep = write_parts(folder / "mixed.exr", part("flat", {"Z": GRID}), deep("smoke"))
    exr = read_exr(flat_and_deep)
    assert list(exr.channels) == ["Z"] and exr.notes == ("part smoke holds deep data and is left out",)
    with pytest.raises(UserError, match=r"deep\.exr holds deep data only \(part smoke\)"):
        read_exr(write_parts(folder / "deep.exr", deep("smoke")))
    with pytest.raises(UserError, match=r"\(part smoke, fog\)") as raised:
        read_exr(write_parts(folder / "deep.exr", deep("smoke"), deep("fog")))
    assert raised.value.hint == "flatten it to one sample a pixel"
    alone = deep("")
    with OpenEXR.File({**alone.header, "compression": OpenEXR.ZIPS_COMPRESSION}, alone.channels) as file:
        file.write(str(folder / "alone.exr"))
    with pytest.raises(UserError, match=r"\(part 1\)"):
        read_exr(folder / "alone.exr")


@pytest.mark.parametrize(
    ("data", "display", "rows", "columns", "note"),
    [
        (
            (2, 1, 5, 3),
            (0, 0, 9, 7),
            slice(1, 4),
            slice(2, 6),
            "4 x 3 pixels at 2, 1 in the display window of 10 x 8: unk",
        ),
        (
            (12, 11, 15, 13),
            (10, 10, 15, 13),
            slice(1, 4),
            slice(2, 6),
            "4 x 3 pixels at 2, 1 in the display window of 6 x",
        ),
        (
            (12, 11, 15, 13),
            (5, 7, 29, 33),
            slice(4, 7),
            slice(7, 11),
            "4 x 3 pixels at 7, 4 in the display window of 25 x 27:",
        ),
        (
            (-3, 0, 0, 2),
            (0, 0, 3, 2),
            slice(0, 3),
            slice(0, 1),
            "4 x 3 pixels at -3, 0 in the display window of 4 x 3:",
        ),
        (
            (0, -2, 3, 0),
            (0, 0, 3, 2),
            slice(0, 1),
            slice(0, 4),
            "4 x 3 pixels at 0, -2 in the display window of 4 x 3:",
        ),
        (
            (-2, -1, 1, 1),
            (0, 0, 4, 4),
            slice(0, 2),
            slice(0, 2),
            "4 x 3 pixels at -2, -1 in the display window of 5 x 5",
        ),
    ],
)
def test_a_data_window_lies_in_the_display_window(folder: Path, data, display, rows, columns, note) -> None:
    header = {"type": OpenEXR.scanlineimage, "dataWindow": window(*data), "displayWindow": window(*display)}
    channels = {"R": GRID, "G": GRID, "B": GRID, "A": np.ones_like(GRID), "Z": GRID, "id": GRID.astype(np.uint32)}
    channels |= {"Layer.g": GRID, "half": GRID.astype(np.float16)}
    dtypes = {name: plane.dtype for name, plane in channels.items()}
    with OpenEXR.File(header, channels) as file:
        file.write(str(folder / "window.exr"))
    with warnings.catch_warnings(action="error"):  # as of NaN among whole numbers
        exr = read_exr(folder / "window.exr")
    assert {name: plane.dtype for name, plane in exr.channels.items()} == dtypes
    size = display[3] - display[1] + 1, display[2] - display[0] + 1
    shown = GRID[3 - (rows.stop - rows.start) :, 4 - (columns.stop - columns.start) :]
    for name, outside in (("R", 0), ("Z", np.nan), ("id", 0), ("Layer.g", 0), ("half", np.nan)):
        expected = np.full(size, outside, np.float32)
        expected[rows, columns] = shown
        np.testing.assert_array_equal(exr.channels[name], expected)
    assert len(exr.notes) == 1 and note in exr.notes[0]
    assert exr.notes[0].endswith("unknown outside of it")
    picture = read_image(folder / "window.exr")
    black = np.ones(size, bool)
    black[rows, columns] = False
    assert not picture[black].any() and picture[rows, columns][-1, -1] == pytest.approx(1)


def test_what_lies_beyond_the_display_window_is_cut_off(folder: Path) -> None:
    header = {"type": OpenEXR.scanlineimage, "dataWindow": window(-1, -1, 2, 1), "displayWindow": window(0, 0, 1, 1)}
    with OpenEXR.File(header, {"Z": GRID}) as file:
        file.write(str(folder / "over.exr"))
    exr = read_exr(folder / "over.exr")
    assert exr.channels["Z"].tolist() == [[5, 6], [9, 10]]
    assert exr.notes == ("data window of 4 x 3 pixels at -1, -1 in the display window of 2 x 2: cut to it",)


@pytest.mark.parametrize(("left", "top", "shown"), LAST_ROWS)
def test_a_window_that_meets_the_display_window_in_a_corner(folder: Path, left: int, top: int, shown: float) -> None:
    header = {"type": OpenEXR.scanlineimage, "displayWindow": window(0, 0, 1, 1)}
    header["dataWindow"] = window(left, top, left + 3, top + 2)
    with OpenEXR.File(header, {"Z": GRID}) as file:
        file.write(str(folder / "corner.exr"))
    if np.isnan(shown):
        with pytest.raises(UserError, match=r"corner\.exr shows nothing: the data window of Z lies outside"):
            read_exr(folder / "corner.exr")
    else:
        plane = read_exr(folder / "corner.exr").channels["Z"]
        assert np.isfinite(plane).sum() == 1 and np.nansum(plane) == shown


@pytest.mark.parametrize(
    ("data", "unknown"),
    [
        ((1, -1, 4, 4), True),
        ((-1, 1, 4, 4), True),
        ((-1, -1, 2, 4), True),
        ((-1, -1, 4, 2), True),
        ((0, -1, 4, 4), False),
        ((-1, 0, 4, 4), False),
        ((-1, -1, 3, 4), False),
        ((-1, -1, 4, 3), False),
    ],
)
def test_it_is_said_whether_anything_is_unknown(folder: Path, data: tuple[int, ...], unknown: bool) -> None:
    left, top, right, bottom = data
    header = {"type": OpenEXR.scanlineimage, "dataWindow": window(*data), "displayWindow": window(0, 0, 3, 3)}
    with OpenEXR.File(header, {"Z": np.ones((bottom - top + 1, right - left + 1), np.float32)}) as file:
        file.write(str(folder / "side.exr"))
    exr = read_exr(folder / "side.exr")
    assert np.isnan(exr.channels["Z"]).any() == unknown
    assert exr.notes[0].endswith(": unknown outside of it" if unknown else ": cut to it")


def test_parts_of_several_windows_have_one_size(folder: Path) -> None:
    small = part("depth", {"Z": GRID[:2, :2].copy()}, dataWindow=window(1, 1, 2, 2), displayWindow=window(0, 0, 3, 2))
    exr = read_exr(write_parts(folder / "sizes.exr", part("rgb", {"R": GRID, "G": GRID, "B": GRID}), small))
    assert {plane.shape for plane in exr.channels.values()} == {(3, 4)}
    np.testing.assert_array_equal(exr.channels["Z"][1:, 1:3], GRID[:2, :2])
    assert np.isnan(exr.channels["Z"]).sum() == 8


def test_a_subsampled_channel_is_repeated(folder: Path) -> None:
    luma = OpenEXR.Channel("Y", np.zeros((4, 6), np.float32))
    chroma = OpenEXR.Channel("RY", np.arange(24, dtype=np.float32).reshape(4, 6), 2, 2)  # the first six are written
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Y": luma, "RY": chroma}) as file:
        file.write(str(folder / "chroma.exr"))
    exr = read_exr(folder / "chroma.exr")
    rows = [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5], [3, 3, 4, 4, 5, 5]]
    assert exr.channels["RY"].tolist() == rows
    assert exr.notes == ("channel RY has one sample for 2 x 2 pixels, which is repeated",)


@pytest.mark.parametrize(("across", "down"), [(2, 2), (2, 1), (1, 2), (3, 2)])
def test_a_subsampled_channel_lies_in_its_window(folder: Path, across: int, down: int) -> None:
    rows, columns = 4 // down, 6 // across
    stored = np.arange(24, dtype=np.float32)  # as many are written as there are samples
    header = {"type": OpenEXR.scanlineimage, "dataWindow": window(6, 2, 11, 5), "displayWindow": window(0, 0, 14, 9)}
    channels = {"Y": OpenEXR.Channel("Y", np.ones((4, 6), np.float32))}
    channels["u"] = OpenEXR.Channel("u", stored.reshape(4, 6), across, down)
    with OpenEXR.File(header, channels) as file:
        file.write(str(folder / "odd.exr"))
    plane = read_exr(folder / "odd.exr").channels["u"]
    samples = stored[: rows * columns].reshape(rows, columns)
    expected = [[samples[row // down, column // across] for column in range(6)] for row in range(4)]
    assert plane.shape == (10, 15) and plane[2:6, 6:12].tolist() == expected
    assert np.isnan(plane).sum() == 150 - 24


def test_openexr_itself_reads_what_is_written(folder: Path) -> None:
    image = np.array([[[-0.5, 0.5, 1.5], [1, 0.25, 0]]], np.float32)  # what lies outside of [0, 1] is cut off
    maps: Any = {"depth": np.array([[0.125, 1]]), "normal": np.array([[[0, 0, 1], [0.6, -0.8, 0]]])}
    uncertainty: Any = {"depth": np.array([[0.5, 0.25]]), "normal": np.array([[0.1, 0.2]])}
    write_exr(folder / "own.exr", image, maps, {"software": "x"}, RING, uncertainty)
    with OpenEXR.File(str(folder / "own.exr"), separate_channels=True) as file:
        assert len(file.parts) == 1
        planes = {name: channel.pixels for name, channel in file.channels().items()}
        header = dict(file.header())
    assert header["compression"] == OpenEXR.ZIP_COMPRESSION and header["type"] == OpenEXR.scanlineimage
    assert (header["wrapmodes"], header["software"]) == ("periodic,clamp", "x") and "envmap" not in header
    # The sRGB curve: 0.5 is 0.21404, 0.25 is 0.05088.
    for name, values in {"R": [0, 1], "G": [0.21404, 0.05088], "B": [1, 0]}.items():
        assert planes[name].dtype == np.float16
        np.testing.assert_allclose(planes[name], [values], rtol=1e-3)
    assert {plane.dtype for name, plane in planes.items() if name not in "RGB"} == {np.dtype(np.float32)}
    assert planes["disparity.Y"].tolist() == [[0.125, 1]]
    for axis, values in {"X": [0, 0.6], "Y": [0, -0.8], "Z": [1, 0]}.items():
        np.testing.assert_allclose(planes[f"normal.{axis}"], [values], rtol=1e-6)
    assert planes["uncertainty.disparity"].tolist() == [[0.5, 0.25]]
    np.testing.assert_allclose(planes["uncertainty.normal"], [[0.1, 0.2]], rtol=1e-6)
    assert len(planes) == 9
    standard = {"channels", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio", "screenWindowCenter"}
    assert set(header) == standard | {"screenWindowWidth", "compression", "type", "wrapmodes", "software"}
    assert read_exr(folder / "own.exr").stack(["R", "disparity.Y"]).dtype == np.float32


def test_a_picture_in_lower_case_with_alpha(folder: Path) -> None:
    half = np.full((1, 2), 0.25, np.float32)
    alpha = np.array([[1, 0.5]], np.float32)
    for layer in ("", "Combined."):
        channels = {f"{layer}{name}": half for name in "rgb"} | {f"{layer}a": alpha, "other.a": 0 * alpha}
        write_channels(folder / "lower.exr", channels, {})
        # Over white: 0.25, and 0.25 + half of the white.
        np.testing.assert_allclose(
            read_image(folder / "lower.exr")[0, :, 0], linear_to_srgb(np.array([0.25, 0.75])), atol=1e-6
        )
    write_channels(folder / "under.exr", dict.fromkeys("RGB", -half), {})
    assert not read_image(folder / "under.exr").any()


def test_a_sphere_is_exactly_twice_as_wide_as_high(folder: Path) -> None:
    write_channels(folder / "sphere.exr", {"Z": np.ones((2, 4), np.float32)}, {}, sphere=True)
    with OpenEXR.File(str(folder / "sphere.exr")) as file:
        assert file.header()["envmap"] == OpenEXR.ENVMAP_LATLONG
        assert "wrapmodes" not in file.header()
    with pytest.raises(ValueError, match="twice as wide as high, not 4 x 3"):
        write_channels(folder / "sphere.exr", {"Z": GRID}, {}, sphere=True)


def test_a_full_disk_is_an_error_of_the_system(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_channels(folder / "full.exr", {"R": np.random.default_rng(0).random((64, 64), np.float32)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(folder / "full.exr"))
    assert not list(folder.glob("*full*"))


def test_colours_of_other_primaries_are_converted(folder: Path) -> None:

    wide = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)  # BT.2020
    light = np.zeros((2, 3, 3), np.float32) + np.float32([0.5, 0.4, 0.3])
    for name, stated in (("wide", {"chromaticities": wide}), ("plain", {})):
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **stated}
        OpenEXR.File(header, {"RGB": light}).write(str(folder / f"{name}.exr"))
    # ITU-R BT.2087: the linear light of BT.2020 in BT.709's primaries
    expected = (
        light @ np.float32([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]).T
    )
    np.testing.assert_allclose(read_exr(folder / "wide.exr").light("RGB"), expected, atol=2e-3)
    assert np.array_equal(read_exr(folder / "plain.exr").light("RGB"), light)
    np.testing.assert_allclose(read_image(folder / "wide.exr"), linear_to_srgb(expected), atol=2e-3)
