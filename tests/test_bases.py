"""Every image task on every family of base models: tiny random pipelines of the same classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from jointnet_cli.engine import Engine
from jointnet_cli.results import Result
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine

Engines = Callable[[str], Engine]
FAMILIES = ["sd1", "sd2", "sdxl", "if"]
QUICK = Sampling(steps=2, guidance=2.0)
PHOTO = np.random.default_rng(0).random((40, 24, 3), np.float32)
MASK = np.zeros((40, 24), np.float32)
MASK[10:30, 5:20] = 1


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, tiny_joint: Callable[[str, Sequence[str]], Path]) -> Engine:
    return Engine.open(str(tiny_joint(request.param, ["depth"])), device="cpu")


def check(result: Result, height: int, width: int) -> None:
    assert result.image.shape == (height, width, 3)
    assert result.maps["depth"].shape == (height, width)
    for values in (result.image, result.maps["depth"]):
        assert np.isfinite(values).all()
        assert values.min() >= 0 and values.max() <= 1
        assert values.std() > 0


@pytest.mark.parametrize("engine", FAMILIES, indirect=True)
def test_every_task_on_every_base(engine: Engine) -> None:
    side = engine.folder.size
    check(engine.generate(Generate(prompt="a lake", seed=0, sampling=QUICK)), side, side)
    known = np.linspace(0, 1, side * side, dtype=np.float32).reshape(side, side)
    check(engine.generate(Generate(prompt="a lake", seed=0, maps={"depth": known}, sampling=QUICK)), side, side)
    check(engine.depth(Depth(image=PHOTO, seed=0, sampling=QUICK)), 40, 24)
    painted = engine.inpaint(Inpaint(image=PHOTO, prompt="a hut", seed=0, masks={"rgb": MASK}, sampling=QUICK))
    check(painted, 40, 24)
    assert np.array_equal(painted.image[MASK < 0.5], PHOTO[MASK < 0.5])
    depth = PHOTO[..., 0]
    check(engine.refine(Refine(image=PHOTO, maps={"depth": depth}, seed=0, strength=0.5, sampling=QUICK)), 80, 48)
    check(engine.panorama(Panorama(prompt="a lake", seed=0, width=3 * side, sampling=QUICK)), side, 3 * side)


@pytest.mark.parametrize("engine", ["if"], indirect=True)
def test_pixels_given_to_a_model_without_latents_come_back(engine: Engine) -> None:
    """There is no VAE to lose anything: known depth is returned as it was."""
    side = engine.folder.size
    known = np.random.default_rng(1).random((side, side), np.float32)
    made = engine.generate(Generate(prompt="a lake", seed=0, maps={"depth": known}, sampling=QUICK))
    assert np.allclose(made.maps["depth"], known, atol=1e-5)
