"""A part of an image and of its maps made anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Inpaint

from .conftest import QUICK, Engines, check, disparity, maps_for, photo


def block(height: int = 24, width: int = 40) -> NDArray[np.float32]:
    """A mask of the middle."""
    mask = np.zeros((height, width), np.float32)
    mask[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 1
    return mask


def task(variant: str = "depth", height: int = 24, width: int = 40, **changes: Any) -> Inpaint:
    defaults = {
        "image": photo(height, width),
        "prompt": "sea",
        "seed": 2,
        "masks": {"rgb": block(height, width)},
        "maps": maps_for(variant, height, width),
        "sampling": QUICK,
    }
    return Inpaint(**{**defaults, **changes})


@pytest.mark.parametrize("size", [(24, 40), (37, 53)])
@pytest.mark.parametrize("variant", ["depth", "masked", "depth-normal"])
def test_outside_of_the_mask_everything_stays_bit_for_bit(
    engines: Engines, variant: str, size: tuple[int, int]
) -> None:
    asked = task(variant, *size)
    result = engines(variant).inpaint(asked)
    check(result, *size, list(asked.maps))
    outside = block(*size) == 0
    assert np.array_equal(result.image[outside], asked.image[outside])
    assert not np.allclose(result.image[~outside], asked.image[~outside], atol=0.05)
    for name, values in asked.maps.items():
        assert np.array_equal(result.maps[name][outside], values[outside])
        assert not np.allclose(result.maps[name][~outside], values[~outside], atol=0.05)


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_every_modality_has_its_own_mask(engines: Engines, variant: str) -> None:
    """Left of the image, right of the depth; and depth alone."""
    left, nothing = np.zeros((24, 40), np.float32), np.zeros((24, 40), np.float32)
    left[:, :20] = 1
    result = engines(variant).inpaint(task(masks={"rgb": left, "depth": 1 - left}))
    assert np.array_equal(result.image[:, 20:], photo()[:, 20:])
    assert np.array_equal(result.maps["depth"][:, :20], disparity()[:, :20])
    assert not np.allclose(result.image[:, :20], photo()[:, :20], atol=0.05)
    assert not np.allclose(result.maps["depth"][:, 20:], disparity()[:, 20:], atol=0.05)
    result = engines(variant).inpaint(task(masks={"rgb": nothing, "depth": left}))
    assert np.array_equal(result.image, photo())
    assert not np.allclose(result.maps["depth"][:, :20], disparity()[:, :20], atol=0.05)


def test_what_is_made_depends_on_what_stays_and_on_the_seed(engines: Engines) -> None:
    engine, inside = engines("depth"), block() == 1
    first = engine.inpaint(task())
    assert np.array_equal(first.image, engine.inpaint(task()).image)
    for change in ({"seed": 3}, {"image": 1 - photo()}, {"maps": {"depth": 1 - disparity()}}, {"prompt": "a lake"}):
        other = engine.inpaint(task(**change))
        assert not np.allclose(first.image[inside], other.image[inside], atol=1e-4), change


@pytest.mark.parametrize("variant", ["depth", "depth-normal"])
def test_missing_maps_are_predicted_first(engines: Engines, variant: str) -> None:
    engine, given = engines(variant), {} if variant == "depth" else {"depth": disparity()}
    result = engine.inpaint(task(maps=given))
    check(result, 24, 40, engine.model.joint.names[1:])
    # Where nothing is repainted the result is the prediction.
    nothing = {"rgb": np.zeros((24, 40), np.float32)}
    predicted = engine.inpaint(task(maps=given, masks=nothing)).maps
    missing = engine.model.joint.names[-1]
    outside = block() == 0
    assert np.array_equal(result.maps[missing][outside], predicted[missing][outside])
    if given:
        assert np.array_equal(result.maps["depth"][outside], disparity()[outside])


def test_a_model_of_images_alone_inpaints_them(engines: Engines) -> None:
    result = engines("base").inpaint(task(maps={}))
    check(result, 24, 40, [])
    assert np.array_equal(result.image[block() == 0], photo()[block() == 0])
    with pytest.raises(UserError, match="no depth branch"):
        engines("base").inpaint(task())


def test_without_strength_nothing_changes(engines: Engines) -> None:
    """Seen on a model of pixels: with an autoencoder what is left is its precision."""
    sampling = Sampling(steps=4, guidance=1.0)
    asked = task(height=32, width=32, masks={"rgb": np.ones((32, 32), np.float32)}, sampling=sampling)
    made = {strength: engines("pixels").inpaint(replace(asked, strength=strength)) for strength in (0.0, 0.75, 1.0)}
    assert np.allclose(made[0.0].image, asked.image, atol=1e-5)
    assert np.allclose(made[0.0].maps["depth"], asked.maps["depth"], atol=1e-5)
    assert not np.allclose(made[0.75].image, asked.image, atol=0.05)
    assert not np.allclose(made[0.75].image, made[1.0].image, atol=0.01)
    assert made[0.75].settings["strength"] == 0.75


def test_at_full_strength_what_was_there_is_forgotten(engines: Engines) -> None:
    image = photo(32, 32)
    image[block(32, 32) == 1] = 0.9
    asked = task(height=32, width=32)
    first, second = (engines("pixels").inpaint(replace(asked, image=each)) for each in (asked.image, image))
    assert np.array_equal(first.image, second.image)


def test_a_panorama_closes_at_its_seam(engines: Engines) -> None:
    """Turned, a ring without strength is the turned result, the mask over its seam too; an open one has other edges."""
    closed = Projection("cylindrical", 360, wrap=True)
    open_ = replace(closed, span=180, wrap=False)
    image, mask = np.roll(photo(32, 64), 20, axis=1), np.zeros((32, 64), np.float32)
    mask[:, :4] = mask[:, -4:] = 1

    def turned(projection: Projection) -> float:
        """How far the result of a turned input without strength is from the turned result."""
        results = [
            engines("depth").inpaint(
                task(image=np.roll(image, shift, axis=1), maps={"depth": np.roll(image[..., 2], shift, axis=1)},
                     masks={"rgb": np.roll(mask, shift, axis=1)}, strength=0.0, projection=projection)
            )
            for shift in (0, 10)
        ]  # fmt: skip
        assert all(result.projection == projection for result in results)
        return float(np.abs(np.roll(results[0].image, 10, axis=1) - results[1].image).max())

    assert turned(closed) < 1e-4
    assert turned(open_) > 0.02
    result = engines("depth").inpaint(task(height=32, width=64, projection=closed))
    check(result, 32, 64, ["depth"])
    assert result.settings["layout"]["wrap"] and (result.settings["width"], result.settings["height"]) == (64, 32)


def test_a_large_photo_is_painted_in_tiles(engines: Engines) -> None:
    asked = task(height=48, width=96, max_side=96, sampling=Sampling(steps=1))
    result = engines("depth").inpaint(asked)
    check(result, 48, 96, ["depth"])
    assert result.settings["width"] == 96 > engines("depth").inpaint(replace(asked, max_side=None)).settings["width"]
