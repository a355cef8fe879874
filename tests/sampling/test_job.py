"""What a run starts from: the noise of every branch, by its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import pytest
import torch
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.job import Job, run
from jointnet_cli.sampling.known import Region
from jointnet_cli.sampling.layout import single_tile
from jointnet_cli.sampling.schedule import make_schedule

SIDE = 32


def job(seed: int = 7, **changes: object) -> Job:
    layout = single_tile(SIDE, SIDE)
    return Job(prompt="a lake", seed=seed, layout=layout, scheduler="ddim", steps=2, guidance=1.0, **changes)


def first_canvas(model: JointModel, task: Job) -> Tensor:
    """(N, C, H, W): the canvas that the network sees first."""
    seen: list[Tensor] = []
    hook = model.joint.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        run(model, task)
    finally:
        hook.remove()
    return seen[0][0]


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def starts(model: JointModel) -> Mapping[str, Tensor]:
    """The same clean latents for every branch."""
    clean = torch.randn(model.joint.channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return dict.fromkeys(model.joint.names, clean)


def test_the_canvas_starts_as_the_noise_of_the_seed(tiny_model: Callable[[str], JointModel]) -> None:
    model = tiny_model("depth-normal")
    expected = torch.randn(3, model.joint.channels, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    assert torch.equal(first_canvas(model, job(7)), expected)
    assert torch.equal(first_canvas(model, job(7)), expected)


def test_seeds_are_those_that_the_generator_takes(tiny_model: Callable[[str], JointModel]) -> None:
    model = tiny_model("depth")
    assert run(model, job(2**64 - 1)).isfinite().all()
    for seed in (2**64, -1):
        with pytest.raises(UserError, match=f"seed {seed} does not fit into 64 bits"):
            run(model, job(seed))


@pytest.mark.parametrize("start", ["noise", "SDEdit"])
def test_branches_start_from_independent_noise(tiny_model: Callable[[str], JointModel], start: str) -> None:
    """Correlations of 5,120 independent numbers have a standard deviation of 0.014."""
    model = tiny_model("depth-normal")
    task = job() if start == "noise" else job(start=starts(model), strength=0.5)
    canvas = first_canvas(model, task)
    if start == "SDEdit":  # what is left without the clean latents is noise
        schedule = make_schedule("ddim", model.scheduler, 2, 0.5)
        level = schedule.scheduler.alphas_cumprod[schedule.scheduler.timesteps[1]]
        clean = torch.stack(list(starts(model).values()))
        canvas = (canvas - level.sqrt() * clean) / (1 - level).sqrt()
    assert canvas.mean().abs() < 0.05 and abs(canvas.std() - 1) < 0.05
    for one, other in combinations(canvas, 2):
        assert abs(correlation(one, other)) < 0.07
    assert abs(correlation(canvas[:, 0], canvas[:, 1])) < 0.07  # channels of a branch


def test_seeds_of_a_batch_give_independent_noise(tiny_model: Callable[[str], JointModel]) -> None:
    model = tiny_model("depth")
    assert abs(correlation(first_canvas(model, job(7)), first_canvas(model, job(8)))) < 0.06


def test_known_regions_are_noised_with_the_canvas_s_own_noise(tiny_model: Callable[[str], JointModel]) -> None:
    """Given content stays in step with the canvas: both hold the same noise, each branch its own."""
    model = tiny_model("depth")
    given = {"rgb": Region.whole(torch.zeros(model.joint.channels, SIDE, SIDE))}
    seen: list[Tensor] = []
    hook = model.joint.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        run(model, job(given=given))
    finally:
        hook.remove()
    noise = torch.randn(2, model.joint.channels, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    schedule = make_schedule("ddim", model.scheduler, 2)
    level = schedule.scheduler.alphas_cumprod[schedule.scheduler.timesteps[1]]
    assert torch.allclose(seen[1][0, 0], (1 - level).sqrt() * noise[0], atol=1e-6)
