"""An image and its maps at a higher resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Depth, Refine
from jointnet_cli.tensors import to_tensor, upsample

from .conftest import Engines, check, disparity, maps_for, photo

QUICK = Sampling(steps=2, guidance=1.0)
"""One step of two at the default strength."""


def task(variant: str = "depth", height: int = 16, width: int = 28, **changes: Any) -> Refine:
    defaults = {
        "image": photo(height, width),
        "maps": maps_for(variant, height, width),
        "seed": 2,
        "strength": 0.5,
        "sampling": QUICK,
    }
    return Refine(**{**defaults, **changes})


@pytest.mark.parametrize(("scale", "size"), [(1.0, (17, 29)), (1.5, (26, 44)), (2.0, (34, 58))])
@pytest.mark.parametrize("variant", ["depth-normal", "pixels"])
def test_the_image_grows_by_the_scale(engines: Engines, variant: str, scale: float, size: tuple[int, int]) -> None:
    result = engines(variant).refine(task(variant, 17, 29, scale=scale))
    check(result, *size, list(maps_for(variant)))
    assert result.projection == Projection("perspective", 60.0)
    assert result.settings["strength"] == 0.5
    assert result.settings["layout"]["whole_image_until"] == 0


def test_what_is_not_refined_is_the_enlarged_input(engines: Engines) -> None:
    engine = engines("depth-normal")
    given = {"rgb": photo(16, 28), **maps_for("depth-normal", 16, 28)}
    larger = {name: upsample(to_tensor(values), (32, 56), name) for name, values in given.items()}
    for what in ("image", "depth", "normal"):
        result = engine.refine(task("depth-normal", target=what))
        made = {"rgb": result.image, **result.maps}
        for name, values in made.items():
            same = torch.equal(to_tensor(values), larger[name])
            assert same != (name == ("rgb" if what == "image" else what)), (what, name)
    depth = engine.refine(task("depth-normal", target="image")).maps["depth"]
    assert np.array_equal(depth, disparity(16, 28).repeat(2, axis=0).repeat(2, axis=1))


def test_both_refines_everything(engines: Engines) -> None:
    result = engines("depth").refine(task())
    assert not torch.equal(to_tensor(result.image), upsample(to_tensor(photo(16, 28)), (32, 56), "rgb"))
    assert not torch.equal(to_tensor(result.maps["depth"]), upsample(to_tensor(disparity(16, 28)), (32, 56), "depth"))


def test_what_is_given_guides_the_rest(engines: Engines) -> None:
    engine = engines("depth")
    first = engine.refine(task(target="image"))
    assert np.array_equal(first.image, engine.refine(task(target="image")).image)
    other = engine.refine(task(target="image", maps={"depth": 1 - disparity(16, 28)}))
    assert not np.allclose(first.image, other.image, atol=1e-4)


def test_strength_is_how_much_is_forgotten(engines: Engines) -> None:
    """Seen on a model of pixels: with no strength the input comes back, enlarged."""
    image, depth = to_tensor(photo(16, 16)), to_tensor(disparity(16, 16))
    asked = task(height=16, width=16, sampling=replace(QUICK, steps=4))
    made = {strength: engines("pixels").refine(replace(asked, strength=strength)) for strength in (0.0, 0.75)}
    assert np.allclose(to_tensor(made[0.0].image), upsample(image, (32, 32), "rgb"), atol=1e-5)
    assert np.allclose(to_tensor(made[0.0].maps["depth"]), upsample(depth, (32, 32), "depth"), atol=1e-5)
    assert not np.allclose(made[0.75].image, made[0.0].image, atol=0.02)


def test_maps_of_another_size_are_brought_along(engines: Engines) -> None:
    result = engines("depth").refine(task(maps={"depth": disparity(4, 7)}, target="image"))
    assert np.array_equal(result.maps["depth"], disparity(4, 7).repeat(8, axis=0).repeat(8, axis=1))


def test_missing_maps_are_predicted(engines: Engines) -> None:
    check(engines("depth-normal").refine(task(maps={})), 32, 56, ["depth", "normal"])


def test_missing_maps_of_a_panorama_are_those_of_a_panorama(engines: Engines) -> None:
    ring = Projection("cylindrical", 360, wrap=True)
    asked = task(height=32, width=64, maps={}, target="image", scale=1, projection=ring)
    alone = engines("depth").depth(Depth(image=asked.image, seed=asked.seed, projection=ring))
    assert alone.projection == ring and alone.settings["layout"]["wrap"]
    np.testing.assert_allclose(engines("depth").refine(asked).maps["depth"], alone.maps["depth"], atol=1e-6)


def test_a_panorama_stays_one(engines: Engines) -> None:
    """Rolled, a closed panorama without strength is the rolled result; an open one has other edges."""
    closed = Projection("cylindrical", 360, wrap=True)
    open_ = replace(closed, span=180, wrap=False)
    image = photo(16, 32)

    def seam(projection: Projection) -> float:
        results = [
            engines("depth").refine(
                task(image=np.roll(image, shift, axis=1), maps={"depth": image[..., 2]}, strength=0.0, scale=1,
                     projection=projection)
            )
            for shift in (0, 10)
        ]  # fmt: skip
        assert all(result.projection == projection for result in results)
        return float(np.abs(np.roll(results[0].image, 10, axis=1) - results[1].image).max())

    assert seam(closed) < 1e-4
    assert seam(open_) > 0.02
    check(engines("depth").refine(task(projection=closed)), 32, 56, ["depth"])


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ("base", {"target": "depth", "maps": {}}, "no depth branch"),
        ("base", {}, "no depth branch"),
        ("depth", {"target": "normal"}, "no normal branch"),
        ("depth", {"strength": 1.5}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_refined(engines: Engines, variant: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        engines(variant).refine(task(**changes))
