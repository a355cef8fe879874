"""The engine itself: what it opens, takes for granted and says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.request import Request
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Depth, Generate, Inpaint, Refine

from .conftest import QUICK, Engines, check, photo


def test_settings_say_what_was_resolved(engines: Engines) -> None:
    engine = engines("depth")
    sampling = Sampling(steps=1, guidance=1.5, scheduler="euler")
    settings = engine.generate(Generate(prompt="sea", seed=3, width=40, sampling=sampling)).settings
    assert settings["model_hash"] == engine.folder.weights_hash()
    stated = {
        "steps": 1,
        "guidance": 1.5,
        "scheduler": "euler",
        "width": 40,
        "height": 32,
        "branches": ["rgb", "depth"],
    }
    assert settings | stated | {"dtype": "float32", "device": "cpu"} == settings


def test_the_folder_s_defaults_are_taken(engines: Engines) -> None:
    engine = engines("depth")
    defaults = {"preset": "paper", "scheduler": "dpm++", "steps": 3, "guidance": 2.5, "depth_steps": 2}
    engine = replace(engine, folder=replace(engine.folder, defaults=defaults))
    made = engine.generate(Generate(prompt="sea", seed=3)).settings
    assert [made[key] for key in ("scheduler", "steps", "guidance")] == ["dpm++", 3, 2.5]
    seen = engine.depth(Depth(image=photo(), seed=3)).settings
    assert [seen[key] for key in ("scheduler", "steps", "guidance")] == ["dpm++", 2, 1.0]


def test_half_precision_is_near_full_precision(engines: Engines, tiny_folder: Callable[[str], Path]) -> None:
    coarse = Engine.open(str(tiny_folder("depth")), device="cpu", dtype="bfloat16")
    task = Generate(prompt="sea", seed=3, sampling=QUICK)
    result, exact = coarse.generate(task), engines("depth").generate(task)
    check(result, 32, 32, ["depth"])
    assert np.abs(result.image - exact.image).mean() < 0.05
    assert result.settings["dtype"] == "bfloat16"


def test_an_unknown_model_is_refused_before_torch_looks_for_a_device() -> None:
    with pytest.raises(UserError, match="no model nowhere"):
        Engine.open("nowhere", device="toaster")


@pytest.mark.parametrize("kind", [Depth, Inpaint, Refine])
def test_a_request_without_an_image_is_refused(engines: Engines, kind: type[Request]) -> None:
    with pytest.raises(UserError, match="the request has no image") as caught:
        engines("depth").run(kind())
    assert caught.value.hint is not None and "image=" in caught.value.hint


FLAT = np.zeros((24, 40), np.float32)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            Depth(image=(255 * photo()).astype(np.uint8)),
            r"the image is an array \(24, 40, 3\) of uint8, not \(H, W, 3\)",
        ),
        (Depth(image=photo().transpose(2, 0, 1)), r"the image is an array \(3, 24, 40\) of float32"),
        (Refine(image=photo(), maps={"depth": photo()}), r"maps\['depth'\] is an array \(24, 40, 3\) of float32"),
        (Generate(maps={"depth": FLAT.astype(int)}), r"maps\['depth'\] is an array \(24, 40\) of int64, not \(H, W\)"),
        (Inpaint(image=photo()), "the request has no masks"),
        (Inpaint(image=photo(), masks={"rgb": FLAT > 0}), r"masks\['rgb'\] is an array \(24, 40\) of bool"),
        (Inpaint(image=photo(), masks={"rgb": FLAT[:9]}), r"masks\['rgb'\] is 40 x 9 pixels, and the image is 40 x 24"),
        (Inpaint(image=photo(), masks={"rgb": FLAT}, maps={"depth": FLAT[:9]}), r"maps\['depth'\] is 40 x 9 pixels"),
    ],
)
def test_arrays_of_another_kind_are_refused(engines: Engines, task: Request, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        engines("depth").run(task)
    assert caught.value.hint == "divide by 255" or "uint8" not in message


def test_without_a_mask_of_its_own_the_image_stays(engines: Engines) -> None:
    masks = {"depth": np.ones((24, 40), np.float32)}
    made = engines("depth").inpaint(Inpaint(image=photo(), masks=masks, sampling=QUICK))
    assert np.array_equal(made.image, photo())
