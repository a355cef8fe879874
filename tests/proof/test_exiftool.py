"""exiftool reads the panorama fields of our PNG and JPEG, and the record of the PNG."""

from __future__ import annotations

import json

import pytest
from helpers.proof_scene import WIDTH

FIELDS = {
    "UsePanoramaViewer": True,
    "PoseHeadingDegrees": 0.0,
    "FullPanoWidthPixels": WIDTH,
    "CroppedAreaImageWidthPixels": WIDTH,
    "CroppedAreaLeftPixels": 0,
}


@pytest.fixture
def gpano(program):
    def read(path):
        (fields,) = json.loads(program("exiftool", "-json", "-n", "-XMP-GPano:all", "-ImageHeight", path))
        return fields

    return read


@pytest.mark.parametrize("to", ["png", "jpg"])
def test_a_whole_sphere(gpano, converted, to):
    path = converted(to, "--to", to, "--content", "image", "--projection", "equirectangular")
    found = gpano(path)
    assert found.items() >= FIELDS.items()
    assert found["ProjectionType"] == "equirectangular"
    assert found["FullPanoHeightPixels"] == found["CroppedAreaImageHeightPixels"] == found["ImageHeight"] == WIDTH // 2
    assert found["CroppedAreaTopPixels"] == 0


@pytest.mark.parametrize("to", ["png", "jpg"])
def test_a_part_of_a_sphere(gpano, converted, to):
    found = gpano(converted(f"{to}-cut", "--to", to, "--content", "image", "--projection", "equirectangular", "--crop"))
    assert found.items() >= FIELDS.items()
    assert found["FullPanoHeightPixels"] == WIDTH // 2
    assert found["CroppedAreaImageHeightPixels"] == found["ImageHeight"] < WIDTH // 2
    assert found["CroppedAreaTopPixels"] == (WIDTH // 2 - found["ImageHeight"]) // 2


def test_a_cylinder(gpano, converted):
    found = gpano(converted("cylinder", "--to", "png", "--content", "image"))
    assert found.items() >= FIELDS.items()
    assert found["ProjectionType"] == "cylindrical"
    assert found["CroppedAreaTopPixels"] == -found["ImageHeight"] // 2


def test_the_record_of_a_png(program, converted):
    path = converted("record", "--to", "png", "--content", "image")
    (found,) = json.loads(program("exiftool", "-json", "-Jointnet", path))
    assert json.loads(found["Jointnet"])["origin"]["prompt"] == "ocean reef"
