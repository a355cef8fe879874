"""What the page that shows a scene holds; what a browser makes of it is in test_viewer.py."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers.scenes import HEIGHT, RING, WIDTH, reef
from hypothesis import given
from hypothesis import strategies as st

from jointnet_cli.scene.scene import DepthScale, Layer, scene_of
from jointnet_cli.scene.viewer.grid import (
    FIRST,
    HIDDEN,
    LAST,
    MAX_VERTICES,
    SKY,
    backdrop,
    encode,
    grid,
    reduced,
    spread,
)
from jointnet_cli.scene.viewer.page import LOSSLESS_PIXELS, page

TOOLS = Path(__file__).parents[2] / "tools/three"


def decode(layer: dict[str, object], rows: int, columns: int) -> np.ndarray:
    """Distances (rows, columns) as the page reads them; NaN where hidden."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(str(layer["codes"]))), np.uint8).astype(np.int64)
    low, high = planes.reshape(2, rows, columns)
    codes = np.cumsum(low + 256 * high, axis=1) % 65536
    near, far = float(str(layer["low"])), float(str(layer["high"]))
    metres = near * np.exp((codes - FIRST) * np.log(far / near) / (LAST - FIRST))
    return np.select([codes == HIDDEN, codes == SKY], [np.nan, np.inf], metres)


def data_of(text: str) -> dict:
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


@given(st.integers(1, 9000), st.data())
def test_pixels_that_become_vertices_are_even(last: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, last + 1))
    steps = np.diff(chosen := spread(last, count))
    assert (chosen[0], chosen[-1]) == (0, last)
    assert steps.min() >= 1 and np.ptp(steps) <= 1


@given(st.floats(0.01, 10), st.floats(1, 1e5), st.integers(0, 2**32 - 1))
def test_distances_keep_their_precision(near: float, ratio: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    distance = (near * ratio ** random.random((7, 9))).astype(np.float32)
    distance[random.random(distance.shape) < 0.2] = np.inf
    shown = random.random(distance.shape) < 0.8
    read = decode(encode(Layer(np.zeros((7, 9, 3), np.float32), distance, shown), np.arange(7), np.arange(9)), 7, 9)
    expected = np.where(shown, distance, np.nan)
    np.testing.assert_allclose(read, expected, rtol=np.log(max(ratio, 2)) / (LAST - FIRST) + 1e-6)


def test_large_pictures_have_bounded_grids() -> None:
    random = np.random.default_rng(0)
    image, disparity = np.full((1000, 2200, 3), 0.5, np.float32), random.random((1000, 2200), np.float32)
    scene = scene_of(image, disparity, RING, DepthScale.from_range())
    rows, columns = grid(scene)
    assert 0.98 * MAX_VERTICES < len(rows) * len(columns) < 1.01 * MAX_VERTICES
    assert (rows[-1], columns[-1]) == (999, 2200)
    assert LOSSLESS_PIXELS < 1000 * 2200
    text = page(scene, title="x")
    assert 'id="picture" alt="" src="data:image/jpeg' in text and 'id="backdrop" alt="" src="data:image/png' in text
    # Noise is what compresses least.
    assert len(re.sub(r'<img id="picture".*?>', "", text)) < 3_000_000


def test_behind_what_is_near_the_far_goes_on() -> None:
    scene = reef()
    inside, outside = WIDTH // 2 - 4, WIDTH // 2 - 8
    far, near = scene.front.image[HEIGHT // 2, outside], scene.front.image[HEIGHT // 2, inside]
    drop = backdrop(*reduced(scene), wrap=True)
    assert drop.shape == (2 * HEIGHT, WIDTH, 3)
    seen = drop[HEIGHT // 2, inside]
    assert np.abs(seen - far).max() < np.abs(seen - near).max()


def test_the_page_is_small_and_says_whose_program_it_carries() -> None:
    scene = reef()
    text = page(replace(scene, behind=replace(scene.front, shown=np.ones((HEIGHT, WIDTH), bool))), title="x")
    assert len(text.encode()) < 1_000_000
    version = json.loads((TOOLS / "package.json").read_text())["dependencies"]["three"]
    assert f"/*! three.js {version}" in text and "The MIT License" in text and "three.js authors" in text
    assert not re.search(
        r"""(?:src|href)=["'](?!data:|#)|\bimport\s*\(|\bfetch\s*\(\s*["'`]http""", text.split("/*!")[0]
    )
    assert "sha256-" in text and "unsafe" not in text.split("</head>")[0]
    assert len(data_of(text)["layers"]) == 2


def test_details_say_how_it_was_made() -> None:
    record = {"prompt": "reef", "seed": 0, "settings": {"model": "diorama", "model_hash": "0a1b"}, "software": "s"}
    stated = dict(data_of(page(reef(), title="x", record=record))["details"])
    assert (stated["Prompt"], stated["Seed"], stated["Model"]) == ("reef", "0", "diorama (0a1b)")
    assert stated["Scale"] == "1 to 30 m, assumed, the true one is unknown"
    assert "Steps" not in stated
