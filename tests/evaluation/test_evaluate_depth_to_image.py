"""`jointnet evaluate depth-to-image`: every kind of row, and that pictures have the depth they were painted for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionDepth2ImgPipeline
from helpers import tables
from helpers.pipelines import SIDE, save_controlnet, save_judge, save_sd2_depth
from helpers.tables import table
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import Case
from jointnet_cli.evaluation.methods import MethodSettings, open_method
from jointnet_cli.evaluation.metrics.depth import aligned_error
from jointnet_cli.evaluation.pipelines import DEPTH_TO_IMAGE, ControlNetDepth, Pipeline, Sd2Depth
from jointnet_cli.sampling.presets import Sampling

Folders = Callable[[str], Path]
HOW = MethodSettings(device="cpu", sampling=Sampling(steps=2, guidance=2.0))


QUICK = ("--steps", "2", "--resamples", "5", "--device", "cpu", "--quiet", "--json")
evaluate = partial(tables.evaluate, "depth-to-image", *QUICK)


def ramp(height: int = 24, width: int = 24) -> NDArray[np.float32]:
    """Near below."""
    return np.broadcast_to(np.linspace(0, 1, height, dtype=np.float32)[:, None], (height, width)).copy()


def case(depth: NDArray[np.float32] | None = None, *, prompt: str = "a lake", seed: int = 4) -> Case:
    """A case of relative depth, which reads as itself: a shift would be undone."""
    return GivenDepth(0, prompt=prompt, seed=seed, inverse_depth=ramp() if depth is None else depth)


class GivenDepth(Case):
    """A case whose relative depth is given as it is."""

    @property
    def relative_depth(self) -> NDArray[np.float32]:
        assert self.inverse_depth is not None
        return self.inverse_depth


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def sd2_depth(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Folders) -> Path:
    return save_sd2_depth(tiny_pipeline("sd1"), tmp_path_factory.mktemp("sd2-depth"))


@pytest.fixture(scope="module")
def controlnet(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Folders) -> tuple[Path, Path]:
    return save_controlnet(tiny_pipeline("sd1"), tmp_path_factory.mktemp("controlnet"))


def test_all_rows(
    tmp_path: Path,
    judge: Path,
    sd2_depth: Path,
    controlnet: tuple[Path, Path],
    tiny_folder: Folders,
    tiny_pipeline: Folders,
    evaluation_shards: Path,
) -> None:
    arguments = (
        *("--shards", evaluation_shards, "--features", judge, "--limit", 3, "--out", tmp_path / "out"),
        *("--depth-method", f"jointnet:{tiny_folder('masked')}?steps=1"),
    )
    models = (
        *("--method", f"joint=jointnet:{tiny_folder('depth')}", "--method", f"SD2=sd2-depth:{sd2_depth}"),
        *("--method", f"ControlNet=controlnet-depth:{controlnet[0]},{tiny_pipeline('sd1')}"),
    )
    found = table(evaluate(*arguments, *models))
    assert list(found["rows"]) == ["real images", "joint", "SD2", "ControlNet"]
    for name, cells in found["rows"].items():
        assert (cells["FD-Judge"] is None) == (name == "real images")
        assert -1 <= cells["depth correlation"]["value"] <= 1
        assert cells["RMSE of disparity"]["count"] == 3
        assert cells["depth correlation, shuffled"] != cells["depth correlation"]
    assert found["facts"]["depth of images predicted by"] == f"jointnet:{tiny_folder('masked')}?steps=1"
    pictures = list((tmp_path / "out").rglob("*.image.png"))
    assert len(pictures) == 9

    dates = {path: path.stat().st_mtime_ns for path in pictures}
    again = table(evaluate(*arguments, *models))
    assert again["rows"] == found["rows"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.image.png")} == dates
    made = next(path.parent for path in pictures if "sd2-depth" in path.parent.name)
    finished = table(evaluate(*arguments, "--method", f"done=folder:{made}"))["rows"]["done"]
    assert finished["FD-Judge"]["value"] == pytest.approx(found["rows"]["SD2"]["FD-Judge"]["value"])
    assert finished["depth correlation"]["value"] == pytest.approx(found["rows"]["SD2"]["depth correlation"]["value"])


def test_sd2_depth_is_diffusers_from_a_grey_picture(sd2_depth: Path) -> None:
    made = Sd2Depth(str(sd2_depth), HOW).predict(case(ramp(SIDE, SIDE)))
    pipeline = StableDiffusionDepth2ImgPipeline.from_pretrained(sd2_depth)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a lake",
        image=torch.full((1, 3, SIDE, SIDE), 0.5),
        depth_map=torch.from_numpy(ramp(SIDE, SIDE))[None],
        strength=1.0,
        num_inference_steps=2,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(4),
        output_type="np",
    )
    assert np.allclose(made.image, theirs.images[0], atol=1e-6)
    assert made.settings["steps"] == 2 and made.depth is None


def test_a_peer_takes_the_number_of_steps_that_is_asked_for(tiny_pipeline: Callable[[str], Path]) -> None:
    """Of 61 trailing steps diffusers makes 62."""
    how = MethodSettings(device="cpu", sampling=Sampling(steps=61, scheduler="ddim"))
    scheduler = Pipeline.open("StableDiffusionPipeline", str(tiny_pipeline("sd2")), how).pipeline.scheduler
    scheduler.register_to_config(timestep_spacing="trailing")
    scheduler.set_timesteps(61, device="cpu")
    assert (len(scheduler.timesteps), int(scheduler.timesteps[-1])) == (61, 15)


@pytest.mark.parametrize("kind", [Sd2Depth, ControlNetDepth])
def test_peers_see_the_depth(kind: Any, sd2_depth: Path, controlnet: tuple[Path, Path]) -> None:
    painter = kind(str(sd2_depth if kind is Sd2Depth else controlnet[1]), HOW)
    up, down = (painter.predict(case(values)).image for values in (ramp(), ramp()[::-1].copy()))
    assert up.shape == down.shape == (SIDE, SIDE, 3)
    assert np.array_equal(up, painter.predict(case()).image)
    assert np.abs(up - down).max() > 1e-3
    assert np.abs(up - painter.predict(case(seed=5)).image).max() > 1e-3, "another seed"


@pytest.mark.parametrize("kind", [Sd2Depth, ControlNetDepth])
def test_peers_read_long_prompts_to_their_end(kind: Any, sd2_depth: Path, controlnet: tuple[Path, Path]) -> None:
    """The tiny text encoder reads 14 tokens at once."""
    painter = kind(str(sd2_depth if kind is Sd2Depth else controlnet[1]), HOW)
    prompts = ("snowy hills by the " * 4 + end for end in ("lake", "reef"))
    lake, reef = (painter.predict(case(prompt=prompt)).image for prompt in prompts)
    assert np.abs(lake - reef).max() > 1e-4


def test_a_controlnet_beside_its_base_is_the_whole_pipeline(
    controlnet: tuple[Path, Path], tiny_pipeline: Folders
) -> None:
    settings = MethodSettings(device="cpu", sampling=Sampling(steps=2, scheduler="ddim"))
    apart = ControlNetDepth(f"{controlnet[0]},{tiny_pipeline('sd1')}", settings)
    whole = ControlNetDepth(str(controlnet[1]), settings)
    pictures = [painter.predict(case()) for painter in (apart, whole)]
    assert np.array_equal(pictures[0].image, pictures[1].image)
    assert pictures[0].settings["scheduler"] == "DDIMScheduler"


def test_the_size_follows_the_shape_of_the_map(sd2_depth: Path) -> None:
    pipeline = Pipeline.open("StableDiffusionDepth2ImgPipeline", str(sd2_depth), HOW)
    assert pipeline.size == SIDE and pipeline.sides(100, 100) == (SIDE, SIDE)
    assert pipeline.sides(100, 400) == (SIDE, 2 * SIDE)
    made = Sd2Depth(str(sd2_depth), HOW).predict(case(ramp(20, 80)))
    assert made.image.shape == (SIDE, 2 * SIDE, 3)


def test_a_flat_map_is_refused(sd2_depth: Path) -> None:
    with pytest.raises(UserError, match="flat"):
        Sd2Depth(str(sd2_depth), HOW).predict(case(np.ones((8, 8), np.float32)))


def test_a_model_without_depth(tiny_folder: Folders) -> None:
    with pytest.raises(UserError, match="no depth branch"):
        open_method(f"jointnet:{tiny_folder('base')}", DEPTH_TO_IMAGE, HOW)


def test_the_error_of_disparity_knows_no_scale_and_shift() -> None:
    given = torch.rand(20, 20, generator=torch.Generator().manual_seed(0))
    assert aligned_error(3 * given - 2, given) == pytest.approx(0, abs=1e-6)
    flat = aligned_error(torch.ones(20, 20), given)
    assert flat == pytest.approx(given.std(correction=0).item(), rel=1e-3)
    noise = torch.randn(20, 20, generator=torch.Generator().manual_seed(1))
    assert 0 < aligned_error(given + 0.1 * noise, given) < flat


def test_depth_is_needed(tmp_path: Path) -> None:
    result = evaluate("--out", tmp_path)
    assert result.exit_code == 2
    assert "no depth to paint for" in result.stderr
