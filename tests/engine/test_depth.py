"""The dense maps of a photo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.sampling.layout import photo_layout
from jointnet_cli.sampling.presets import PRESETS, Sampling
from jointnet_cli.tasks import Depth
from jointnet_cli.tensors import align_members, flip, to_array, to_tensor

from .conftest import QUICK, Engines, check, check_normals, photo


@pytest.mark.parametrize("size", [(24, 40), (33, 47), (7, 90), (90, 7), (1, 1), (128, 64)])
def test_depth_keeps_the_photo_s_size(engines: Engines, size: tuple[int, int]) -> None:
    image = photo(*size)
    result = engines("depth-normal").depth(Depth(image=image, seed=1, sampling=Sampling(steps=1)))
    assert result.image is image
    assert result.maps["depth"].shape == size
    assert np.isfinite(result.maps["depth"]).all()
    assert result.maps["depth"].min() >= 0 and result.maps["depth"].max() <= 1
    check_normals(result.maps["normal"], *size)
    assert result.timings.keys() == {"encode", "text", "denoise", "decode"}


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 100, (16, 16)), (100, 400, (8, 32)), (300, 200, (20, 14)), (10, 9000, (2, 480))],
)
def test_a_photo_keeps_its_shape_and_takes_the_model_s_area(
    engines: Engines, height: int, width: int, expected: tuple[int, int]
) -> None:
    result = engines("depth").depth(Depth(image=photo(height, width), seed=1, sampling=Sampling(steps=1)))
    assert (result.settings["height"], result.settings["width"]) == (2 * expected[0], 2 * expected[1])


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_depth_depends_on_the_photo_and_the_seed(engines: Engines, variant: str) -> None:
    def predict(seed: int, **changes: Any) -> NDArray[np.float32]:
        task = Depth(**{"image": photo(), "seed": seed, "sampling": QUICK, **changes})
        return engines(variant).depth(task).maps["depth"]

    first = predict(1)
    assert np.array_equal(first, predict(1))
    assert not np.allclose(first, predict(2), atol=1e-3)
    assert not np.allclose(first, predict(1, image=1 - photo()), atol=1e-3)
    assert not np.allclose(first, predict(1, prompt="snowy hills"), atol=1e-4)


def test_an_ensemble_is_members_of_the_seeds_that_follow_and_every_second_sees_the_photo_mirrored(
    engines: Engines,
) -> None:
    engine, image = engines("depth"), photo(32, 32)
    photos = (image, image[:, ::-1], image)
    members = [engine.depth(Depth(image=of, seed=5 + k, sampling=QUICK)).maps["depth"] for k, of in enumerate(photos)]
    members[1] = members[1][:, ::-1].copy()
    seen: list[tuple[str, int, int]] = []
    task = Depth(image=image, seed=5, ensemble=3, sampling=QUICK)
    together = engine.depth(task, lambda *words: seen.append(words))
    merged, spread = align_members([torch.from_numpy(member)[None] for member in members], "depth")
    assert np.allclose(together.maps["depth"], merged[0].numpy(), atol=1e-4)
    assert np.allclose(together.uncertainty["depth"], spread[0].numpy(), atol=1e-4)
    assert [words for words in seen if words[2]] == [("denoise", done, 2) for done in (1, 2)]  # all in one batch


def test_normals_of_a_mirrored_member_are_mirrored_back(engines: Engines) -> None:
    engine, image = engines("depth-normal"), photo(32, 32)
    task = Depth(image=image, seed=5, sampling=Sampling(steps=1))
    own = to_tensor(engine.depth(task).maps["normal"])
    mirrored = to_tensor(engine.depth(replace(task, image=image[:, ::-1], seed=6)).maps["normal"])
    mean, _ = align_members([own, flip(mirrored, "normal")], "normal")
    assert np.allclose(engine.depth(replace(task, ensemble=2)).maps["normal"], to_array(mean), atol=1e-4)


def test_an_ensemble_s_uncertainty_is_of_the_photo_s_size(engines: Engines) -> None:
    task = Depth(image=photo(33, 47), seed=1, ensemble=2, sampling=Sampling(steps=1))
    result = engines("depth-normal").depth(task)
    assert result.uncertainty.keys() == {"depth", "normal"}
    for spread in result.uncertainty.values():
        assert spread.shape == (33, 47) and spread.dtype == np.float32
        assert spread.min() >= -1e-6 and spread.max() > 0
    assert not engines("depth").depth(replace(task, ensemble=1)).uncertainty


def test_a_large_photo_is_tiled_when_asked(engines: Engines) -> None:
    engine, image = engines("depth"), photo(48, 96)
    task = Depth(image=image, seed=1, max_side=96, sampling=Sampling(steps=1))
    result = engine.depth(task)
    check(result, 48, 96, ["depth"])
    assert (result.settings["height"], result.settings["width"]) == (48, 96)
    assert not photo_layout(48, 96, engine.folder, PRESETS["paper"].tiles, 96).single
    small = engine.depth(replace(task, max_side=None))
    assert small.settings["width"] < 96
    assert not np.allclose(result.maps["depth"], small.maps["depth"], atol=1e-3)


def test_a_pixel_model_takes_photos_of_any_size(engines: Engines) -> None:
    check(engines("pixels").depth(Depth(image=photo(33, 47), seed=1, sampling=QUICK)), 33, 47, ["depth"])


def test_a_model_without_maps_predicts_none(engines: Engines) -> None:
    with pytest.raises(UserError, match="only an RGB branch"):
        engines("base").depth(Depth(image=photo(), seed=0, sampling=QUICK))
