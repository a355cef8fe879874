"""SyncDiffusion: tiles drawn towards each other's looks."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from helpers.schedules import EPSILON
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.known import Known, Region
from jointnet_cli.sampling.layout import Layout, Tile, tiled
from jointnet_cli.sampling.loop import GuidedDenoiser, Job, sample
from jointnet_cli.sampling.presets import BASELINES, Resolved
from jointnet_cli.sampling.schedule import SCHEDULERS, make_schedule
from jointnet_cli.sampling.syncdiffusion import DECAY, WEIGHT, SyncDiffusion, perceptual_distance
from jointnet_cli.sampling.tiles import crop

Models = Callable[[str], JointModel]
BAND = Layout(16, 32, (16, 16), 8, wrap=True, offsets="none")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Step:
    """A canvas of two branches before a step, and what SyncDiffusion needs to move it, as the loop sets it up."""

    model: JointModel
    denoiser: GuidedDenoiser
    number: int

    @classmethod
    def of(cls, model: JointModel, number: int = 2, *, scheduler: str = "ddim", guidance: float = 1.0) -> Step:
        with torch.inference_mode():
            texts = model.encode_text(["sea", ""])
        # `begin` lets the scheduler take this for the first step.
        schedule = make_schedule(scheduler, model.scheduler, 5, 1 - number / 5)
        masked_input = None
        if model.joint.has_masked_input:
            nothing = Region.nothing(torch.zeros(5, 16, 32))
            masked_input = Known.of([nothing, nothing], torch.zeros(2, 5, 16, 32)).masked_input
        return cls(model, GuidedDenoiser(model.joint, texts, guidance, schedule, masked_input), number)

    @property
    def tiles(self) -> list[Tile]:
        return BAND.at(self.number, 5, (0, 0))

    @torch.inference_mode()
    def move(self, canvas: Tensor, tiles: list[Tile] | None = None) -> Tensor:
        return SyncDiffusion(self.model)(self.denoiser, canvas.clone(), self.number, tiles or self.tiles)

    def picture(self, canvas: Tensor, tile: Tile) -> Tensor:
        """The RGB image that a tile's noisy latents imply."""
        inputs = crop(self.denoiser.inputs(canvas, self.number), tile)
        predicted = self.denoiser(self.number, inputs[None])[0]
        latents = self.denoiser.schedule.predict_clean(inputs[:, : self.model.joint.channels], predicted, self.number)
        return self.model.decode(latents[:1])

    @torch.no_grad()
    def distance(self, canvas: Tensor) -> float:
        """Summed distance of the tiles' images from that of the first tile."""
        pictures = [self.picture(canvas, tile) for tile in self.tiles]
        return sum(float(perceptual_distance(self.model.vae, picture, pictures[0])) for picture in pictures[1:])


def test_distances_are_zero_for_equal_pictures_and_positive_and_symmetric_for_others(tiny_model: Models) -> None:
    vae = tiny_model("depth").vae
    first, second = draw(2, 3, 16, 16), draw(2, 3, 16, 16, seed=1)
    with torch.no_grad():
        assert perceptual_distance(vae, first, first) == 0
        apart = perceptual_distance(vae, first, second)
        assert apart.shape == () and apart > 0
        assert torch.allclose(apart, perceptual_distance(vae, second, first))
        near = perceptual_distance(vae, first, first + 0.1 * (second - first))
        assert 0 < near < apart
        alone = sum(perceptual_distance(vae, first[i : i + 1], second[i : i + 1]) for i in range(2))
        assert torch.allclose(apart, alone, rtol=1e-4)


@pytest.mark.parametrize(
    ("scheduler", "config"), [*((name, None) for name in SCHEDULERS), ("ddim", EPSILON), ("euler", EPSILON)]
)
def test_one_move_brings_tiles_nearer(tiny_model: Models, scheduler: str, config: dict[str, Any] | None) -> None:
    model = tiny_model("depth")
    step = Step.of(model if config is None else replace(model, scheduler=config), scheduler=scheduler)
    canvas = step.denoiser.schedule.noised(draw(2, 5, 16, 32), draw(2, 5, 16, 32, seed=1), step.number)
    before = canvas.clone()
    moved = step.move(canvas)
    assert torch.equal(canvas, before)
    assert moved.shape == canvas.shape and not moved.requires_grad
    assert 0 < step.distance(moved) < step.distance(canvas)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_masked_input_model_moves_too(tiny_model: Models, guidance: float) -> None:
    step, canvas = Step.of(tiny_model("masked"), guidance=guidance), draw(2, 5, 16, 32)
    assert step.distance(step.move(canvas)) < step.distance(canvas)


def test_equal_tiles_stay_where_they_are(tiny_model: Models) -> None:
    step, canvas = Step.of(tiny_model("depth")), draw(2, 5, 16, 16).repeat(1, 1, 1, 2)
    apart = [Tile(0, 0, 16, 16), Tile(0, 16, 16, 16)]
    assert torch.allclose(step.move(canvas, apart), canvas, atol=1e-6)
    alone = draw(2, 5, 16, 16)
    assert torch.equal(step.move(alone, apart[:1]), alone)


def test_the_anchor_is_the_first_tile(tiny_model: Models) -> None:
    """Of tiles side by side only the others move."""
    step, canvas = Step.of(tiny_model("depth")), draw(2, 5, 16, 32)
    moved = step.move(canvas, [Tile(0, 0, 16, 16), Tile(0, 16, 16, 16)])
    assert torch.equal(moved[..., :16], canvas[..., :16])
    assert not torch.allclose(moved[..., 16:], canvas[..., 16:], atol=1e-5)


def test_moves_decay_from_step_to_step(tiny_model: Models) -> None:
    assert (WEIGHT, DECAY) == (20, 0.95)
    step, canvas = Step.of(tiny_model("depth"), 0), draw(2, 5, 16, 32)
    step.denoiser.schedule.scheduler.timesteps = torch.full((5,), 500)
    first = step.move(canvas) - canvas
    step.number = 4
    assert first.abs().max() > 1e-4
    assert torch.allclose(step.move(canvas) - canvas, 0.95**4 * first, atol=1e-6)


def test_tiles_of_other_sizes_are_not_compared(tiny_model: Models) -> None:
    """The whole image may be asked to take part as one more tile."""
    step, canvas = Step.of(tiny_model("depth")), draw(2, 5, 16, 32)
    whole = Tile(0, 0, 16, 32, weight=5.0, taper=False)
    assert torch.equal(step.move(canvas, [*step.tiles, whole]), step.move(canvas))


@pytest.mark.parametrize("variant", ["base", "depth", "masked"])
def test_a_synchronized_job(tiny_model: Models, variant: str) -> None:
    job = Job(
        prompt="sea",
        seed=1,
        layout=tiled(16, 20, 16, BASELINES["syncdiffusion"], wrap=True),
        sampling=Resolved(preset="paper", scheduler="ddim", steps=1, guidance=1.0),
    )
    model = tiny_model(variant)
    made = sample(model, replace(job, before_step=SyncDiffusion(model))).latents
    assert torch.isfinite(made).all()
    assert torch.equal(made, sample(model, replace(job, before_step=SyncDiffusion(model))).latents)
    assert not torch.allclose(made, sample(model, job).latents, atol=1e-3)
    assert all(parameter.grad is None for parameter in (*model.joint.parameters(), *model.vae.parameters()))


def test_without_an_autoencoder_there_is_nothing_to_compare_by(tiny_model: Models) -> None:
    model = replace(tiny_model("depth"), vae=None)
    said = "^syncdiffusion compares images by an autoencoder's features; this model has none$"
    with pytest.raises(UserError, match=said):
        SyncDiffusion(model)


def test_the_distance_is_that_of_unit_features_over_channels_summed_over_levels(tiny_model: Models) -> None:
    vae = tiny_model("depth").vae
    first, second = draw(2, 3, 24, 40), draw(2, 3, 24, 40, seed=1)  # of no level as many rows as channels
    with torch.no_grad():
        left, right, expected = vae.encoder.conv_in(first), vae.encoder.conv_in(second), 0.0
        for block in vae.encoder.down_blocks:
            left, right = block(left), block(right)
            units = [torch.nn.functional.normalize(features, dim=1) for features in (left, right)]
            expected += float((units[0] - units[1]).square().sum(dim=1).flatten(1).mean(dim=1).sum())
        assert float(perceptual_distance(vae, first, second)) == pytest.approx(expected, rel=1e-5)
        exact = perceptual_distance(deepcopy(vae).double(), first, second)  # in the autoencoder's type
        assert float(exact) == pytest.approx(expected, rel=1e-5)


def test_a_move_goes_down_the_sum_of_the_distances_to_the_anchor(tiny_model: Models) -> None:
    """By the mean gradient of the tiles over a pixel, as far as the weight and its decay say."""
    step, canvas = Step.of(tiny_model("depth")), draw(2, 5, 16, 32)
    tiles, coverage = step.tiles, torch.zeros(16, 32)
    assert len(tiles) == 4
    for tile in tiles:
        columns = torch.arange(tile.left, tile.left + tile.width) % 32
        coverage[tile.top : tile.top + tile.height, columns] += 1
    moving = canvas.clone().requires_grad_()

    anchor = step.picture(moving, tiles[0]).detach()
    total = sum(perceptual_distance(step.model.vae, step.picture(moving, tile), anchor) for tile in tiles[1:])
    (gradient,) = torch.autograd.grad(total, moving)
    expected = canvas - WEIGHT * DECAY**step.number * gradient / coverage
    assert torch.allclose(step.move(canvas), expected, atol=1e-5)
