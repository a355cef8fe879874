"""The engine: tasks in, pixels and maps out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jointnet_cli.engine import DTYPES, Engine, choose_device, choose_dtype
from jointnet_cli.errors import UserError
from jointnet_cli.tasks import Depth, Generate, Panorama, Projection, Result, Sampling

Engines = Callable[[str], Engine]
QUICK = Sampling(steps=2, guidance=2.0)


@pytest.fixture(scope="module")
def engines(tiny_folder: Callable[[str], Path]) -> Engines:
    """`engines(variant)`: the engine on one of the tiny models. Not to be changed."""
    opened: dict[str, Engine] = {}

    def make(variant: str) -> Engine:
        if variant not in opened:
            opened[variant] = Engine.open(str(tiny_folder(variant)), device="cpu", dtype="float32")
        return opened[variant]

    return make


def photo(height: int = 24, width: int = 40, seed: int = 0) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(seed).random((height, width), np.float32)
    return np.stack([rows / height, columns / width, noise], axis=-1)


def check_normals(normals: NDArray[np.float32], height: int, width: int) -> None:
    """Unit vectors, and zero vectors for the sky."""
    assert normals.shape == (height, width, 3)
    lengths = np.linalg.norm(normals, axis=-1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-4)
    if lengths.size > 16:
        assert (lengths > 0).mean() > 0.5


def check(result: Result, height: int, width: int, maps: list[str]) -> None:
    """Sizes, types and value ranges of a result."""
    assert result.image.shape == (height, width, 3)
    assert list(result.maps) == maps
    for array in (result.image, *result.maps.values()):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    assert result.image.min() >= 0 and result.image.max() <= 1
    if "depth" in maps:
        depth = result.maps["depth"]
        assert depth.shape == (height, width)
        assert depth.min() >= 0 and depth.max() <= 1
        assert depth.std() > 0
    if "normal" in maps:
        check_normals(result.maps["normal"], height, width)
    assert result.seconds == sum(result.timings.values()) > 0


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
    seen: list[tuple[int, int]] = []
    task = Panorama(prompt="sea", seed=3, width=100, sampling=QUICK)
    result = engines("depth-normal").panorama(task, lambda done, count: seen.append((done, count)))
    check(result, 32, 100, ["depth", "normal"])
    assert result.projection == Projection("cylindrical", 360.0, wrap=True)
    assert seen == [(1, 2), (2, 2)]
    flat = Panorama(prompt="sea", seed=3, width=64, height=40, span=90, wrap=False, sampling=QUICK)
    result = engines("depth").panorama(flat)
    check(result, 40, 64, ["depth"])
    assert result.projection == Projection("cylindrical", 90, wrap=False)


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


def test_an_ensemble_is_members_of_the_seeds_that_follow(engines: Engines) -> None:
    from jointnet_cli.sampling.alignment import align_members

    engine, image = engines("depth"), photo(32, 32)
    members = [engine.depth(Depth(image=image, seed=5 + member, sampling=QUICK)).maps["depth"] for member in range(3)]
    seen: list[tuple[int, int]] = []
    task = Depth(image=image, seed=5, ensemble=3, sampling=QUICK)
    together = engine.depth(task, lambda done, count: seen.append((done, count)))
    expected = align_members([torch.from_numpy(member)[None] for member in members], "depth")[0].numpy()
    assert np.allclose(together.maps["depth"], expected, atol=1e-4)
    assert seen == [(done, 6) for done in range(1, 7)]


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
    defaults = {"scheduler": "dpm++", "steps": 3, "guidance": 2.5, "depth_steps": 2}
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


def test_describe(engines: Engines) -> None:
    facts = engines("masked").describe()
    assert facts["branches"] == ["rgb", "depth"]
    assert facts["masked_input"] is True
    assert facts["prediction"] == "v_prediction"
    assert facts["size"] == 32
    assert facts["parameters"] == sum(x.numel() for x in engines("masked").model.joint.parameters())
    assert facts["parameters"] > engines("depth").describe()["parameters"]


def test_a_model_without_maps_predicts_none(engines: Engines) -> None:
    with pytest.raises(UserError, match="only an RGB branch"):
        engines("base").depth(Depth(image=photo(), seed=0, sampling=QUICK))


def test_sizes_are_refused_before_work(engines: Engines) -> None:
    with pytest.raises(UserError, match="width 33"):
        engines("depth").generate(Generate(prompt="sea", seed=0, width=33))
    with pytest.raises(UserError, match="leaves gaps"):
        engines("depth").panorama(Panorama(prompt="sea", seed=0, width=128, stride=40))


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta:0:0"])
def test_devices_that_cannot_be_used(name: str) -> None:
    with pytest.raises(UserError, match=f"device {name} cannot be used") as fault:
        choose_device(name)
    assert fault.value.hint == "--device cpu"
    assert "\n" not in str(fault.value)


def test_devices_and_types_by_default() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device(None).type == expected
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.float16
    for name, dtype in DTYPES.items():
        assert choose_dtype(name, torch.device("cuda")) == dtype


def test_unknown_types() -> None:
    with pytest.raises(UserError, match="unknown dtype bfloat") as fault:
        choose_dtype("bfloat", torch.device("cpu"))
    assert fault.value.hint == "--dtype bfloat16"
    with pytest.raises(UserError, match="unknown dtype int4"):
        choose_dtype("int4", torch.device("cpu"))


def test_an_unknown_model_is_refused_before_torch_looks_for_a_device() -> None:
    with pytest.raises(UserError, match="no model none/here"):
        Engine.open("none/here", device="toaster")
