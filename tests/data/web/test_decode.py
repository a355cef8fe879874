"""Bytes of any image to a training JPEG."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.web import encoded, photo, swapped_profile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from jointnet_cli.data.settings import ImageSettings, PrepareSettings, ResizeMode, prepare_settings
from jointnet_cli.data.web.decode import TrainingImage, sniff, to_training_image
from jointnet_cli.data.web.status import FetchError, Status
from jointnet_cli.errors import UserError

SIZE = 32
PLAIN = PrepareSettings(image=ImageSettings(size=SIZE))


def changed(**changes: Any) -> PrepareSettings:
    """`PLAIN` with changes of its tables."""
    tables = {"image": {}, "fetch": {}, "filter": {}}
    for name, value in changes.items():
        tables[next(table for table in tables if hasattr(getattr(PLAIN, table), name))][name] = value
    return replace(PLAIN, **{name: replace(getattr(PLAIN, name), **values) for name, values in tables.items()})


FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF")
ENCODED = {kind: encoded(photo(SIZE, SIZE), kind) for kind in FORMATS}
RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 220), (250, 250, 250)


def pixels(picture: TrainingImage) -> NDArray[np.uint8]:
    with Image.open(BytesIO(picture.jpeg)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (picture.width, picture.height))
        return np.asarray(image)


def corners(picture: TrainingImage) -> list[NDArray[np.uint8]]:
    """The middles of the quarters: top left, top right, bottom left, bottom right."""
    array = pixels(picture)
    rows, columns = ([side // 4, 3 * side // 4] for side in array.shape[:2])
    return [array[row, column] for row in rows for column in columns]


def assert_colours(found: list[NDArray[np.uint8]], *expected: tuple[int, int, int], atol: int = 40) -> None:
    np.testing.assert_allclose(np.array(found, int), np.array(expected, int), atol=atol)


def failure(data: bytes, **changes: object) -> str:
    with pytest.raises(FetchError) as caught:
        to_training_image(data, changed(**changes))  # type: ignore[arg-type]
    return caught.value.status


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_recognised_and_decoded(kind: str) -> None:
    assert sniff(ENCODED[kind]) == kind
    assert_colours(corners(to_training_image(ENCODED[kind], PLAIN)), RED, GREEN, BLUE, WHITE)


@pytest.mark.parametrize(
    ("mode", "original", "expected"),
    [
        ("center_crop", (100, 60), (32, 32)),
        ("center_crop", (20, 90), (32, 32)),
        ("keep_ratio", (100, 60), (53, 32)),
        ("keep_ratio", (60, 100), (32, 53)),
        ("border", (100, 60), (32, 32)),
        ("border", (60, 91), (32, 32)),
        ("no", (100, 60), (100, 60)),
    ],
)
def test_resize_modes(mode: ResizeMode, original: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = to_training_image(encoded(photo(*original), "PNG"), changed(resize=mode))
    assert (picture.width, picture.height) == expected
    assert (picture.original_width, picture.original_height) == original
    assert_colours(corners(picture), RED, GREEN, BLUE, WHITE, atol=70)


def test_a_border_is_white_and_the_image_in_its_middle() -> None:
    array = pixels(to_training_image(encoded(Image.new("RGB", (64, 32), RED), "PNG"), changed(resize="border")))
    assert array[:7].min() > 240 and array[-7:].min() > 240
    np.testing.assert_allclose(array[10:-10].astype(int), np.broadcast_to(RED, (12, 32, 3)), atol=6)


@pytest.mark.parametrize("options", [{}, {"progressive": True, "quality": 95}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["no", "keep_ratio"])
def test_metadata_of_a_jpeg_that_is_right_is_removed(options: dict[str, object], mode: ResizeMode) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "SECRET name"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    clean = encoded(photo(48, SIZE), icc_profile=profile, **options)
    dirty = encoded(
        photo(48, SIZE), icc_profile=profile, exif=exif, xmp=b"SECRET xmp", comment=b"SECRET comment", **options
    )
    segment = b"\xff\xec\xff\xff" + b"SECRET".ljust(0xFFFF - 2, b"\0")
    preview = b"\xff\xe0\0\x10JFXX\0\x10SECRET\0\0"
    dirty = dirty[:2] + preview + 40 * segment + dirty[2:] + b"PK\3\4SECRET zip"
    kept = to_training_image(dirty, changed(resize=mode))
    assert kept.jpeg == clean and b"SECRET" not in kept.jpeg
    assert kept.exif == "{}"


def test_segments_that_are_cut_off_make_a_jpeg_be_encoded_anew() -> None:
    data = encoded(photo(SIZE, SIZE)).removesuffix(b"\xff\xd9") + b"\xff\xe1\xff\xffSECRET"
    try:
        assert b"SECRET" not in to_training_image(data, PLAIN).jpeg
    except FetchError as fault:
        assert fault.status == Status.DAMAGED_IMAGE


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 40}, {"subsampling": 0}, {"srgb": True}])
def test_a_jpeg_that_is_right_keeps_its_bytes(options: dict[str, object]) -> None:
    if options.pop("srgb", False):
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(photo(SIZE, SIZE), **options)
    assert to_training_image(data, PLAIN).jpeg == data
    wide = encoded(photo(48, 32), **options)
    assert to_training_image(wide, changed(resize="no")).jpeg == wide
    assert to_training_image(wide, changed(resize="keep_ratio")).jpeg == wide
    assert to_training_image(wide, PLAIN).jpeg != wide


def test_other_jpegs_of_the_right_size_are_written_anew() -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 3
    for picture, options in [
        (photo(SIZE, SIZE).convert("L"), {}),
        (photo(SIZE, SIZE).convert("CMYK"), {}),
        (photo(SIZE, SIZE), {"exif": turned}),
        (photo(SIZE, SIZE), {"icc_profile": swapped_profile()}),
    ]:
        data = encoded(picture, **options)
        made = to_training_image(data, PLAIN)
        assert made.jpeg != data
        with Image.open(BytesIO(made.jpeg)) as image:
            assert not image.getexif() and "icc_profile" not in image.info and "comment" not in image.info


def test_a_damaged_jpeg_of_the_right_size_is_noticed() -> None:
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8)))
    assert to_training_image(data, PLAIN).jpeg == data
    assert failure(data[: len(data) * 3 // 4]) == Status.DAMAGED_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int, kind: str) -> None:
    turns = [None, *(Image.Transpose(turn) for turn in (0, 3, 1, 5, 2, 6, 4))]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turn = turns[orientation - 1]
    stored = photo(256, 160) if turn is None else photo(256, 160).transpose(turn)
    data = encoded(stored, kind, exif=exif)
    for mode, expected in (("no", (256, 160)), ("keep_ratio", (51, 32)), ("center_crop", (32, 32))):
        picture = to_training_image(data, changed(resize=mode))  # type: ignore[arg-type]
        assert (picture.original_width, picture.original_height) == (256, 160)
        assert (picture.width, picture.height) == expected
        assert_colours(corners(picture), RED, GREEN, BLUE, WHITE)


def test_a_large_jpeg_decoded_at_a_smaller_scale_looks_the_same() -> None:
    waves = np.sin(np.arange(900)[:, None] / 60 + np.arange(700) / 45)[..., None] * [90, 90, 90] + 128
    original = Image.fromarray(waves.astype(np.uint8))
    picture = to_training_image(encoded(original, quality=98), PLAIN)
    assert (picture.original_width, picture.original_height) == (700, 900)
    expected = np.asarray(original.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (0, 100, 700, 800)), int)
    assert np.abs(pixels(picture) - expected).mean() < 2


def test_transparent_parts_are_white() -> None:
    half = photo(SIZE, SIZE).convert("RGBA")
    half.paste((0, 0, 0, 0), (0, 0, SIZE // 2, SIZE))
    for kind in ("PNG", "WEBP", "AVIF", "TIFF"):
        found = corners(to_training_image(encoded(half, kind), PLAIN))
        assert_colours(found, (255, 255, 255), GREEN, (255, 255, 255), WHITE)
    grey = Image.new("LA", (SIZE, SIZE), (0, 128))
    assert_colours(corners(to_training_image(encoded(grey, "PNG"), PLAIN)), *[(127, 127, 127)] * 4, atol=3)


@pytest.mark.parametrize("profile", [None, swapped_profile()])
def test_sixteen_bits_keep_their_brightness(profile: bytes | None) -> None:
    grey = encoded(Image.fromarray(np.full((SIZE, SIZE), 257 * 90, np.uint16)), "PNG", icc_profile=profile)
    assert_colours(corners(to_training_image(grey, PLAIN)), *[(90, 90, 90)] * 4, atol=3)


def test_limits_are_compared_before_decoding() -> None:
    whole = encoded(photo(100, 40), "PNG")
    start = whole[:60]  # the header alone
    assert failure(start, max_pixels=3999) == Status.TOO_MANY_PIXELS
    assert failure(start, side_above=40) == Status.TOO_SMALL
    assert failure(start, aspect_below=2.4) == Status.BAD_ASPECT
    assert failure(start) == Status.DAMAGED_IMAGE
    assert to_training_image(whole, changed(max_pixels=4000, side_above=39, aspect_below=2.5)).width == SIZE


def test_a_line_does_not_become_a_giant() -> None:
    line = encoded(Image.new("RGB", (5000, 1)), "PNG")
    assert failure(line, resize="keep_ratio", max_pixels=100_000) == Status.BAD_ASPECT


def test_records_state_the_camera_and_no_position_time_or_name() -> None:
    exif = Image.Exif()
    for tag in ("Artist", "Copyright", "ImageDescription", "Software", "DateTime", "HostComputer", "XPAuthor"):
        exif[ExifTags.Base[tag]] = "SECRET"
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Ca\u00e9mera\0", "Model " + "x" * 100
    exif[ExifTags.Base.Orientation] = 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for tag in ("CameraOwnerName", "BodySerialNumber", "LensSerialNumber", "ImageUniqueID", "DateTimeOriginal"):
        details[ExifTags.Base[tag]] = "SECRET"
    details[ExifTags.Base.UserComment] = details[ExifTags.Base.MakerNote] = b"SECRET"
    details[ExifTags.Base.ISOSpeedRatings], details[ExifTags.Base.FNumber] = 200, 2.8
    details[ExifTags.Base.FocalLength] = "SECRET"  # text where a number belongs
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (51.0, 30.0, 26.0)
    tags = json.loads(to_training_image(encoded(photo(), exif=exif), PLAIN).exif)
    assert tags.pop("Image Make").endswith("mera") and len(tags.pop("Image Model")) == 80
    assert tags == {"EXIF ISOSpeedRatings": "200", "EXIF FNumber": "2.8"}
    assert to_training_image(encoded(photo()), PLAIN).exif == "{}"


def test_a_damaged_profile_says_nothing() -> None:
    data = encoded(photo(64, 48), icc_profile=b"no profile" * 20)
    assert_colours(corners(to_training_image(data, PLAIN)), RED, GREEN, BLUE, WHITE)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_tags_leave_the_picture_whole() -> None:
    data = encoded(photo(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0" * 9)
    assert_colours(corners(to_training_image(data, PLAIN)), RED, GREEN, BLUE, WHITE)


def test_quality() -> None:
    noise = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)), "PNG")
    small, large = (len(to_training_image(noise, changed(size=64, quality=quality)).jpeg) for quality in (30, 95))
    assert small < large / 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(FORMATS), place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_whatever_is_damaged_is_a_class_of_its_own(kind: str, place: float, junk: bytes, cut: bool) -> None:
    data = ENCODED[kind]
    at = int(place * len(data))
    damaged = data[:at] + junk + (b"" if cut else data[at + len(junk) :])
    try:
        pixels(to_training_image(damaged, PLAIN))
    except FetchError as error:
        assert error.status in set(Status)


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("image.size=0", "image.size must be at least 1, got 0"),
        ("image.resize=stretch", "image.resize must be center_crop, keep_ratio, border or no, got 'stretch'"),
        ("image.quality=101", "image.quality must be at most 100, got 101"),
        ("fetch.stall_timeout=0", "fetch.stall_timeout must be greater than 0, got 0"),
        ("filter.aspect_below=1", "filter.aspect_below must be greater than 1, got 1"),
        ("filter.watermark_below=nan", "filter.watermark_below must be a finite number, got nan"),
        ("filter.clip_above=inf", "filter.clip_above must be a finite number, got inf"),
        ("fetch.max_pixels=1000000000", "fetch.max_pixels must be at most 178000000, got 1000000000"),
        ('fetch.allowed_networks=["10.0.0.1/8"]', "fetch.allowed_networks: 10.0.0.1/8 has host bits"),
        ('fetch.user_agent="a\\r\\nb"', "fetch.user_agent must be one line of ASCII"),
        ("shards.size=10001", "shards.size: a shard holds 1 to 10000 images, not 10001"),
    ],
)
def test_settings_that_make_no_sense(setting: str, fault: str) -> None:
    with pytest.raises(UserError, match=re.escape(fault)):
        prepare_settings(overrides=[setting])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_big_tiff(byteorder: str, dtype: type) -> None:
    values = np.full((20, 24, 3), [60, 120, 240], dtype) * (257 if dtype is np.uint16 else 1)
    file = BytesIO()
    tifffile.imwrite(file, values.astype(dtype), bigtiff=True, byteorder=byteorder, photometric="rgb")
    made = to_training_image(file.getvalue(), PLAIN)
    assert (made.original_width, made.original_height) == (24, 20)
    with Image.open(BytesIO(made.jpeg)) as image:
        assert np.abs(np.asarray(image).astype(int) - [60, 120, 240]).max() < 4


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"root:x:0:0:root:/root:/bin/bash\n", "no image format that is known"),
        (b"\xef\xbb\xbf \n<!DOCTYPE HTML><title>secret</title>", "an HTML page"),
        (b"<html>secret", "an HTML page"),
    ],
)
def test_the_bytes_of_what_is_no_image_are_not_told(data: bytes, told: str) -> None:
    with pytest.raises(FetchError) as fault:
        sniff(data)
    assert (str(fault.value), fault.value.status) == (told, Status.NOT_AN_IMAGE)
