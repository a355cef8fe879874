"""Images and panoramas from a prompt, and images for given maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.presets import METHODS, Sampling
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine

from .conftest import QUICK, Engines, check, disparity, facing, photo


@pytest.mark.parametrize(
    ("variant", "maps"),
    [("base", []), ("depth", ["depth"]), ("depth-normal", ["depth", "normal"]), ("masked", ["depth"])],
)
def test_generate(engines: Engines, variant: str, maps: list[str]) -> None:
    engine = engines(variant)
    result = engine.generate(Generate(prompt="sea", seed=3, sampling=QUICK))
    check(result, 32, 32, maps)
    assert result.projection == Projection("perspective", 60.0)
    assert result.timings.keys() == {"text", "denoise", "decode"}
    wide = engine.generate(Generate(prompt="sea", seed=3, width=50, height=22, sampling=QUICK))
    check(wide, 22, 50, maps)


def test_panorama(engines: Engines) -> None:
    seen: list[tuple[str, int, int]] = []
    task = Panorama(prompt="sea", seed=3, width=100, sampling=QUICK)
    result = engines("depth-normal").panorama(task, lambda *words: seen.append(words))
    check(result, 32, 100, ["depth", "normal"])
    assert result.projection == Projection("cylindrical", 360.0, wrap=True)
    begins = [(phase, 0, 0) for phase in ("text", "denoise", "decode")]
    assert seen == [*begins[:2], ("denoise", 1, 2), ("denoise", 2, 2), begins[2]]
    flat = Panorama(prompt="sea", seed=3, width=64, height=40, span=90, wrap=False, sampling=QUICK)
    result = engines("depth").panorama(flat)
    check(result, 40, 64, ["depth"])
    assert result.projection == Projection("cylindrical", 90, wrap=False)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_panorama_of_the_seed(engines: Engines, method: Any) -> None:
    sampling = replace(QUICK, steps=1, guidance=1.0)
    task = Panorama(prompt="sea", seed=3, width=40, method=method, sampling=sampling)
    first, again = (engines("depth").panorama(task) for _ in range(2))
    check(first, 32, 40, ["depth"])
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.maps["depth"], again.maps["depth"])
    other = engines("depth").panorama(replace(task, seed=4))
    assert not np.allclose(first.image, other.image, atol=1e-2)


def test_methods_differ(engines: Engines) -> None:
    sampling = replace(QUICK, steps=1, guidance=1.0)
    images = [
        engines("depth").panorama(Panorama(prompt="", seed=3, width=40, method=method, sampling=sampling)).image
        for method in ("jointnet", "multidiffusion", "syncdiffusion", "direct")
    ]
    assert all(not np.allclose(one, other, atol=1e-3) for i, one in enumerate(images) for other in images[i + 1 :])


def test_a_given_map_comes_back_and_makes_the_image(engines: Engines) -> None:
    engine, depth = engines("pixels"), disparity(32, 32)
    task = Generate(prompt="sea", seed=3, maps={"depth": depth}, sampling=QUICK)
    result = engine.generate(task)
    check(result, 32, 32, ["depth"])
    assert np.allclose(result.maps["depth"], depth, atol=1e-5)
    assert "encode" in result.timings
    assert np.array_equal(result.image, engine.generate(task).image)
    other = engine.generate(replace(task, maps={"depth": 1 - depth}))
    assert not np.allclose(result.image, other.image, atol=1e-3)
    assert not np.allclose(result.image, engine.generate(replace(task, maps={})).image, atol=1e-3)


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_images_for_maps_depend_on_the_map_and_have_its_shape(engines: Engines, variant: str) -> None:
    engine = engines(variant)
    task = Generate(prompt="sea", seed=3, maps={"depth": disparity(30, 120)}, sampling=QUICK)
    first = engine.generate(task)
    check(first, 16, 64, ["depth"])
    other = engine.generate(replace(task, maps={"depth": 1 - disparity(30, 120)}))
    assert not np.allclose(first.image, other.image, atol=1e-3)
    check(engine.generate(replace(task, width=40, height=20)), 20, 40, ["depth"])


def test_some_of_the_maps_can_be_given(engines: Engines) -> None:
    engine = engines("depth-normal")
    made = {}
    for names in ([], ["depth"], ["normal"], ["depth", "normal"]):
        given = {"depth": disparity(32, 32), "normal": facing(32, 32)}
        task = Generate(prompt="sea", seed=3, maps={name: given[name] for name in names}, sampling=QUICK)
        result = engine.generate(task)
        check(result, 32, 32, ["depth", "normal"])
        made[tuple(names)] = result
    # What is given is the same whatever else is: it is the decoded map.
    for name in ("depth", "normal"):
        with_both, alone = made["depth", "normal"].maps[name], made[(name,)].maps[name]
        assert np.allclose(with_both, alone, atol=1e-5)
        assert not np.allclose(alone, made[()].maps[name], atol=1e-2)


@pytest.mark.parametrize(("variant", "name"), [("base", "depth"), ("depth", "normal"), ("depth", "rgb")])
def test_maps_that_the_model_does_not_have(engines: Engines, variant: str, name: str) -> None:
    with pytest.raises(UserError, match=f"no {name} branch") as fault:
        engines(variant).generate(Generate(prompt="", seed=0, maps={name: disparity()}))
    assert fault.value.hint == f"it has {'depth' if variant == 'depth' else 'no dense map'}"


def test_sizes_are_refused_before_work(engines: Engines) -> None:
    with pytest.raises(UserError, match="width must be a multiple of 2, got 33"):
        engines("depth").generate(Generate(prompt="sea", seed=0, width=33))
    with pytest.raises(UserError, match="leaves gaps"):
        engines("depth").panorama(Panorama(prompt="sea", seed=0, width=128, stride=40))


LONG = "snowy hills by the sea ocean reef snowy hills by the sea a lake by the "
"""15 tokens; the tiny encoder reads 14 at once."""


def longest_difference(engine: Engine, task: Any, **changes: Any) -> float:
    """How far a changed task is from it, in any pixel."""
    images = [getattr(engine, type(asked).__name__.lower())(asked).image for asked in (task, replace(task, **changes))]
    return float(np.abs(images[0] - images[1]).max())


def test_the_end_of_a_long_prompt_changes_the_pixels_of_every_task(engines: Engines) -> None:
    engine = engines("masked")
    maps, sampling = {"depth": disparity()}, replace(QUICK, guidance=5.0)
    given: dict[str, Any] = {"prompt": LONG + "sea", "seed": 3, "sampling": sampling}
    mask = np.ones((24, 40), np.float32)
    tasks = [
        Generate(**given),
        Panorama(**given, width=48),
        Inpaint(**given, image=photo(), maps=maps, masks={"rgb": mask}),
        Refine(**given, image=photo(), maps=maps, scale=1.5),
    ]
    for task in tasks:
        assert longest_difference(engine, task, prompt=LONG + "reef") > 1e-4, task
    depth = Depth(**given, image=photo())
    found = [engine.depth(replace(depth, prompt=LONG + end)).maps["depth"] for end in ("sea", "reef")]
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_the_end_of_a_long_negative_prompt_counts_only_with_guidance(engines: Engines) -> None:
    task = Generate(prompt="sea", seed=3, negative_prompt=LONG + "sea", sampling=replace(QUICK, guidance=5.0))
    assert longest_difference(engines("depth"), task, negative_prompt=LONG + "reef") > 1e-4
    plain = replace(task, sampling=replace(QUICK, guidance=1.0))
    assert longest_difference(engines("depth"), plain, negative_prompt="") == 0


def test_an_empty_scheduler_name_is_not_taken_for_the_default(engines: Engines) -> None:
    with pytest.raises(UserError, match="unknown scheduler"):
        engines("depth").generate(Generate(prompt="sea", seed=0, sampling=Sampling(scheduler="")))
