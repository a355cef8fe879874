"""Images in shards are decoded as the tool decodes any picture, wherever they are read."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.shards import write_tar
from helpers.web import encoded, swapped_profile
from PIL import Image

from jointnet_cli.data.labels.labelling import windows
from jointnet_cli.data.settings import ImageSettings, PrepareSettings
from jointnet_cli.data.shards.archive import read_entries
from jointnet_cli.data.shards.format import encode_normal, png
from jointnet_cli.data.shards.index import read_samples
from jointnet_cli.data.shards.latents import load_pixels
from jointnet_cli.data.shards.samples import UnusableSample, crop_sample
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.web.decode import to_training_image
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import FolderImages, ShardCases
from jointnet_cli.files.images import read_image

RANDOM = np.random.default_rng(0)
BLOCKS = np.kron(RANDOM.integers(0, 256, (4, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
"""Flat blocks of 8 x 8 pixels, which JPEG keeps almost as they are."""


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _moving() -> bytes:
    buffer = BytesIO()
    first, second = Image.fromarray(BLOCKS), Image.new("RGB", (32, 32))
    first.save(buffer, "PNG", save_all=True, append_images=[second])
    return buffer.getvalue()


PICTURES: dict[str, tuple[str, bytes]] = {
    "plain": ("jpg", encoded(Image.fromarray(BLOCKS), quality=95)),
    **{
        f"orientation {number}": ("jpg", encoded(Image.fromarray(BLOCKS), quality=95, exif=_exif(number)))
        for number in range(2, 9)
    },
    "webp turned": ("webp", encoded(Image.fromarray(BLOCKS), "WEBP", lossless=True, exif=_exif(6))),
    "profile": ("png", encoded(Image.fromarray(BLOCKS), "PNG", icc_profile=swapped_profile())),
    "alpha": ("png", encoded(Image.fromarray(np.dstack([BLOCKS, BLOCKS[..., 0]])), "PNG")),
    "sixteen bits": ("png", png(BLOCKS[..., 0].astype(np.uint16) * 200 + 7)),
    "inks": ("jpg", encoded(Image.fromarray(BLOCKS).convert("CMYK"), quality=95)),
    "grey": ("jpg", encoded(Image.fromarray(BLOCKS).convert("L"), quality=95)),
    "palette": ("png", encoded(Image.fromarray(BLOCKS).quantize(16), "PNG", transparency=3)),
    "moving": ("png", _moving()),
}


def shard_of(folder: Path, suffix: str, data: bytes, **members: bytes) -> Path:
    members = {suffix: data, "txt": b"blocks", "json": b"{}", **members}
    path = write_tar(folder / "00000.tar", {f"7.{name}": content for name, content in members.items()})
    (folder / "00000_stats.json").write_text('{"count": 1}')
    return path


@pytest.mark.parametrize("name", PICTURES)
def test_every_reader_sees_the_same_picture(tmp_path: Path, name: str) -> None:
    suffix, data = PICTURES[name]
    file = tmp_path / "folder" / f"picture.{suffix}"
    file.parent.mkdir()
    file.write_bytes(data)
    seen = read_image(file)
    expected = np.rint(seen * 255).astype(np.uint8)
    shard = shard_of(tmp_path, suffix, data)
    raw = next(read_samples(str(shard)))
    assert np.array_equal(crop_sample(raw, (), 32).image.transpose(1, 2, 0), expected)
    stored = load_pixels(ShardSet.open(tmp_path), ["rgb"]).maps["rgb"][0].permute(1, 2, 0).float().numpy()
    np.testing.assert_allclose((stored + 1) / 2 * 255, expected, atol=0.1)
    ((_, (labelled,)),) = windows(read_entries(shard), 8)
    assert np.array_equal(labelled, expected)
    assert np.array_equal(np.rint(ShardCases(tmp_path).image(0) * 255), expected)
    assert np.array_equal(FolderImages(file.parent).image(0), seen)
    made = to_training_image(data, PrepareSettings(image=ImageSettings(resize="no", quality=100)))
    with Image.open(BytesIO(made.jpeg)) as image:
        assert np.abs(np.asarray(image, int) - expected)[4::8, 4::8].max() <= 3


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_orientations_of_a_shards_jpeg(tmp_path: Path, orientation: int) -> None:
    """Transpositions of EXIF 2.32, from what is stored to what is seen, by their own names in Pillow."""
    names = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    data = PICTURES[f"orientation {orientation}"][1]
    raw = next(read_samples(str(shard_of(tmp_path, "jpg", data))))
    plain = np.asarray(Image.open(BytesIO(data)).transpose(Image.Transpose[names[orientation - 2]]))
    assert np.array_equal(crop_sample(raw, (), 32).image.transpose(1, 2, 0), plain)


def test_a_plain_jpeg_gives_the_pixels_that_pillow_decodes(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RANDOM.integers(0, 256, (32, 32, 3), np.uint8)), quality=80)
    raw = next(read_samples(str(shard_of(tmp_path, "jpg", data))))
    assert np.array_equal(crop_sample(raw, (), 32).image.transpose(1, 2, 0), np.asarray(Image.open(BytesIO(data))))


def turned_sample(folder: Path, orientation: int, *, as_stored: bool) -> dict[str, Any]:
    """A photo of 16 x 32 stored pixels whose maps lie as it is stored, or upright.

    Seen upright, depth falls from the top to the bottom, and surfaces look to the right.
    """
    depth = np.repeat(np.arange(32, 0, -1, dtype=np.uint16)[:, None] * 2000, 16, 1)
    normal = np.broadcast_to(np.array([1, 0, 0], np.float32), (32, 16, 3))
    if as_stored:
        depth = {5: depth.T, 6: np.rot90(depth), 7: depth[::-1, ::-1].T, 8: np.rot90(depth, -1)}[orientation]
        looks = {5: [0, -1, 0], 6: [0, 1, 0], 7: [0, 1, 0], 8: [0, -1, 0]}[orientation]
        normal = np.broadcast_to(np.array(looks, np.float32), (16, 32, 3))
    members = {
        "depth.png": png(np.ascontiguousarray(depth)),
        "normal.png": encode_normal(np.ascontiguousarray(normal)),
        "json": json.dumps({"depth": {"scale": 1 / 65535}}).encode(),
    }
    data = encoded(Image.new("RGB", (32, 16), (90, 90, 90)), exif=_exif(orientation))
    return next(read_samples(str(shard_of(folder, "jpg", data, **members))))


@pytest.mark.parametrize("as_stored", [True, False])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_maps_that_lie_as_a_turned_photo_is_stored_are_turned_with_it(
    tmp_path: Path, orientation: int, as_stored: bool
) -> None:
    square = crop_sample(turned_sample(tmp_path, orientation, as_stored=as_stored), ("depth", "normal"), 16)
    rows = square.maps["depth"][0].astype(float)
    assert (np.diff(rows[:, 0]) < 0).all() and np.ptp(rows, axis=1).max() == 0
    np.testing.assert_allclose(
        square.maps["normal"].transpose(1, 2, 0), np.broadcast_to([1, 0, 0], (16, 16, 3)), atol=0.01
    )


def test_a_damaged_image_is_the_users_to_know(tmp_path: Path) -> None:
    shard_of(tmp_path, "jpg", b"\xff\xd8\xff broken")
    with pytest.raises(UserError, match="the image of sample 7 is not an image"):
        load_pixels(ShardSet.open(tmp_path), ["rgb"])
    with pytest.raises(UnusableSample, match="cannot be decoded"):
        crop_sample(next(read_samples(str(tmp_path / "00000.tar"))), (), 16)
    ((_, decoded),) = windows(read_entries(tmp_path / "00000.tar"), 8)
    assert decoded == ["not_an_image"]
