"""The denoising loop on its own and as a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.schedules import EPSILON, VELOCITY
from torch import Generator, Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model
from jointnet_cli.progress import Timer
from jointnet_cli.sampling.known import Known, Region
from jointnet_cli.sampling.layout import Layout, single_tile, tiled
from jointnet_cli.sampling.loop import GuidedDenoiser, Job, denoise, place_tiles, sample_all
from jointnet_cli.sampling.loop import sample as sample_job
from jointnet_cli.sampling.presets import PRESETS, Resolved, Sampling, resolve
from jointnet_cli.sampling.schedule import SCHEDULERS, Schedule, make_schedule

Models = Callable[[str], JointModel]
Folders = Callable[[str], Path]
CONFIGS = pytest.mark.parametrize("config", [VELOCITY, EPSILON], ids=["velocity", "epsilon"])
SIDE = 32
BAND = Layout(8, 40, (8, 8), 4, wrap=True, whole_image_until=0.4, taper=1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def job(**changes: Any) -> Job:
    settings: dict[str, Any] = {"scheduler": "ddim", "steps": 3, "guidance": 3.0}
    settings |= {
        name: changes.pop(name)
        for name in ("scheduler", "steps", "guidance", "guidance_interval", "tile_batch")
        if name in changes
    }
    defaults = {
        "prompt": "ocean reef",
        "seed": 1,
        "layout": single_tile(8, 10),
        "sampling": Resolved(preset="paper", **settings),
    }
    return Job(**{**defaults, **changes})


def sample(model: JointModel, asked: Job, **more: Any) -> Tensor:
    return sample_job(model, asked, **more).latents


def inputs(model: JointModel, asked: Job) -> list[tuple[Tensor, ...]]:
    """What the network is given at every call: latents, timestep, text, known regions."""
    seen: list[tuple[Tensor, ...]] = []
    hook = model.joint.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    sample(model, asked)
    hook.remove()
    return seen


def batches(model: JointModel, asked: Job) -> list[int]:
    """How many items the network sees at every call."""
    return [len(arguments[0]) for arguments in inputs(model, asked)]


def half_known(seed: int = 0, *, left: bool = True) -> Region:
    """The left or the right half of a canvas of 8 by 10 is given."""
    mask = torch.ones(1, 8, 10)
    mask[:, :, slice(None, 5) if left else slice(5, None)] = 0
    return Region(draw(5, 8, 10, seed=seed), mask)


@pytest.mark.parametrize("layout", [single_tile(8, 10), BAND], ids=["single", "band"])
@pytest.mark.parametrize("variant", ["base", "depth-normal", "masked"])
def test_the_same_job_gives_the_same_bytes(tiny_model: Models, variant: str, layout: Layout) -> None:
    model, asked = tiny_model(variant), job(layout=layout)
    torch.manual_seed(1)
    first = sample(model, asked)
    torch.manual_seed(2)
    assert torch.equal(first, sample(model, asked))
    assert first.shape == (len(model.joint.names), 5, 8, layout.width)
    assert torch.isfinite(first).all()


def test_seed_prompt_and_guidance_matter(tiny_model: Models) -> None:
    model = tiny_model("depth")
    first = sample(model, job())
    changes = ({"seed": 2}, {"prompt": "snowy hills"}, {"guidance": 4.0}, {"negative_prompt": "a lake"}, {"steps": 4})
    for change in changes:
        assert not torch.allclose(sample(model, job(**change)), first, atol=1e-4), change


def test_tile_offsets_come_from_the_seed(tiny_model: Models) -> None:
    """With the same noise, another generator state for the offsets gives another canvas."""
    model = tiny_model("depth")
    with torch.inference_mode():
        texts = model.encode_text(["sea", ""])

    def made(seed: int, layout: Layout) -> Tensor:
        schedule = make_schedule("ddim", VELOCITY, 2)
        tiles = place_tiles(layout, schedule, Generator().manual_seed(seed))
        return denoise(GuidedDenoiser(model.joint, texts, 1, schedule), draw(2, 5, 8, 40), layout, tiles)

    assert torch.equal(made(1, BAND), made(1, BAND))
    assert not torch.allclose(made(1, BAND), made(2, BAND), atol=1e-4)
    fixed = replace(BAND, offsets="none")
    assert torch.equal(made(1, fixed), made(2, fixed))


def test_tile_offsets_are_two_numbers_of_thirty_bits_a_step() -> None:
    schedule, generator = make_schedule("ddim", VELOCITY, 3), Generator().manual_seed(5)
    draws = [tuple(torch.randint(2**30, (2,), generator=generator).tolist()) for _ in range(3)]
    placed = place_tiles(BAND, schedule, Generator().manual_seed(5))
    assert placed == [BAND.at(step, 3, draw) for step, draw in enumerate(draws)]
    golden = replace(BAND, offsets="golden")
    placed = place_tiles(golden, schedule, Generator().manual_seed(5))
    assert placed == [golden.at(step, 3, draws[0]) for step in range(3)]


def test_tile_batches_change_nothing(tiny_model: Models) -> None:
    model = tiny_model("depth")
    whole = sample(model, job(layout=BAND))
    for batch in (1, 3):
        assert torch.allclose(sample(model, job(layout=BAND, tile_batch=batch)), whole, atol=1e-4)
    assert max(batches(model, job(layout=BAND, tile_batch=3))) == 2 * 3


def test_memory_grows_with_the_tile_batch_and_not_with_the_width(tiny_model: Models) -> None:
    """What the network sees at once is the measure; the whole-image tile is left out, which is as wide as the canvas."""

    def largest(width: int, batch: int) -> int:
        asked = job(layout=replace(BAND, width=width, whole_image_until=0.0), tile_batch=batch, steps=1)
        return max(arguments[0].numel() for arguments in inputs(tiny_model("depth"), asked))

    assert largest(24, 2) == largest(72, 2)
    assert largest(72, 4) == 2 * largest(72, 2)


@pytest.mark.parametrize("variant", ["depth-normal", "masked"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_given_comes_back_exactly(tiny_model: Models, variant: str, name: str) -> None:
    model, photo = tiny_model(variant), draw(5, 8, 10)
    free = sample(model, job(scheduler=name))
    made = sample(model, job(given={"rgb": Region.whole(photo)}, scheduler=name))
    assert torch.equal(made[0], photo)
    assert torch.isfinite(made).all()
    assert not torch.allclose(made[1], free[1], atol=1e-3)
    other = sample(model, job(given={"rgb": Region.whole(photo + 1)}, scheduler=name))
    assert not torch.allclose(made[1], other[1], atol=1e-3)


def test_any_branch_can_be_given(tiny_model: Models) -> None:
    depth = draw(5, 8, 10)
    made = sample(tiny_model("depth-normal"), job(given={"depth": Region.whole(depth)}))
    assert torch.equal(made[1], depth)
    assert not torch.allclose(made[0], depth, atol=0.1)


@pytest.mark.parametrize("variant", ["depth", "masked"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_region_of_every_modality_can_be_given(
    tiny_model: Models, variant: str, symmetric: bool, strength: float
) -> None:
    """Each with its own mask: what is given comes back exactly, the rest is made and depends on it."""
    model = tiny_model(variant)
    regions = {"rgb": half_known(0), "depth": half_known(1, left=symmetric)}
    start = {name: region.latents for name, region in regions.items()}

    def made(**changes: Any) -> Tensor:
        return sample(model, job(given=regions, start=start, strength=strength, **changes))

    first = made()
    for branch, region in zip(first, regions.values(), strict=True):
        unknown = region.mask.expand_as(branch) == 1
        assert torch.equal(branch[~unknown], region.latents[~unknown])
        assert not torch.allclose(branch[unknown], region.latents[unknown], atol=0.1)
    assert not torch.allclose(made(seed=2), first, atol=0.1)
    regions["rgb"] = replace(regions["rgb"], latents=regions["rgb"].latents + 1)
    assert not torch.allclose(made()[1], first[1], atol=1e-3)


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_what_lies_under_the_mask_does_not_leak_at_full_strength(tiny_model: Models, variant: str) -> None:
    region = half_known()
    other = replace(region, latents=torch.where(region.mask > 0.5, 7.0, region.latents))
    one, same = (
        sample(tiny_model(variant), job(given={"rgb": each}, start={"rgb": each.latents, "depth": each.latents}))
        for each in (region, other)
    )
    assert torch.equal(one, same)


def test_a_masked_input_model_is_told_what_is_known(tiny_model: Models) -> None:
    model, photo, half = tiny_model("masked"), draw(5, 8, 10), half_known(3)
    (free,) = inputs(model, job(steps=1))
    (given,) = inputs(model, job(steps=1, given={"rgb": Region.whole(photo), "depth": half}))
    nothing = torch.cat([torch.ones(2, 1, 8, 10), torch.zeros(2, 5, 8, 10)], dim=1)
    assert torch.equal(free[3][0], nothing)
    told = given[3][0]
    assert torch.equal(told[0], torch.cat([torch.zeros(1, 8, 10), photo]))
    assert torch.equal(told[1], torch.cat([half.mask, half.latents * (1 - half.mask)]))
    assert inputs(tiny_model("depth"), job(steps=1, given={"rgb": half}))[0][3] is None


def test_without_guidance_there_is_no_negative_pass(tiny_model: Models) -> None:
    model = tiny_model("depth")
    assert batches(model, job(guidance=1.0)) == [1, 1, 1]
    assert batches(model, job(guidance=3.0)) == [2, 2, 2]
    alone = sample(model, job(guidance=1.0))
    assert torch.equal(alone, sample(model, job(guidance=1.0, negative_prompt="a lake")))
    assert torch.allclose(alone, sample(model, job(guidance=1.0 + 1e-6)), atol=1e-4)


class Echo(nn.Module):
    """A network that predicts the mean of its text, and notes the text of every item."""

    channels = 5

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[Tensor] = []

    def forward(self, latents: Tensor, timestep: Tensor, conditioning: Conditioning, known: Tensor | None) -> Tensor:
        self.texts.append(conditioning.text)
        return conditioning.text.mean(dim=(1, 2)).view(-1, 1, 1, 1, 1).expand(-1, *latents.shape[1:])


def test_guidance_extrapolates_from_the_negative_prompt_to_the_prompt() -> None:
    positive, negative = draw(4, 3), draw(4, 3, seed=1)
    tiles, schedule, texts = draw(2, 2, 5, 6, 7), make_schedule("ddim", VELOCITY, 3), torch.stack([positive, negative])
    network = Echo()
    guided = GuidedDenoiser(network, Conditioning(texts), 3.0, schedule)(0, tiles, [0, 0])
    assert torch.equal(network.texts.pop(), torch.stack([negative, negative, positive, positive]))
    assert torch.allclose(
        guided, negative.mean() + 3 * (positive.mean() - negative.mean()) + torch.zeros(2, 2, 5, 6, 7)
    )
    plain = GuidedDenoiser(network, Conditioning(texts), 1, schedule)(0, tiles, [0, 0])
    assert torch.equal(network.texts.pop(), torch.stack([positive, positive]))
    assert torch.equal(plain, positive.mean().expand(2, 2, 5, 6, 7))


@CONFIGS
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 5])
def test_every_scheduler_runs(tiny_model: Models, name: str, config: dict[str, Any], steps: int) -> None:
    model = replace(tiny_model("depth"), scheduler=config)
    latents = sample(model, job(scheduler=name, steps=steps, layout=single_tile(4, 4)))
    assert torch.isfinite(latents).all()


class Oracle(nn.Module):
    """The network of a data set of one picture: it always knows what is under the noise."""

    channels = 5
    has_masked_input = False

    def __init__(self, clean: Tensor, config: dict[str, Any]) -> None:
        super().__init__()
        self.clean = clean
        self.velocity = config["prediction_type"] == "v_prediction"
        self.levels = make_schedule("ddim", config, 1).scheduler.alphas_cumprod
        self.seen: list[Tensor] = []

    def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Tensor | None) -> Tensor:
        self.seen.append(latents)
        level = self.levels[int(timestep)].double()
        signal, noise = level.sqrt(), (1 - level).sqrt()
        if self.velocity:
            return ((signal * latents - self.clean) / noise).float()
        return ((latents - signal * self.clean) / noise).float()


def follow(oracle: Oracle, start: Tensor, schedule: Schedule, known: Known | None = None) -> Tensor:
    denoiser, tile = GuidedDenoiser(oracle, Conditioning(torch.zeros(2, 1, 1)), 1, schedule), single_tile(6, 7)
    return denoise(denoiser, start, tile, place_tiles(tile, schedule, Generator()), known)


@CONFIGS
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_a_perfect_network_is_followed_to_its_picture(name: str, config: dict[str, Any], steps: int) -> None:
    clean, noise = draw(2, 5, 6, 7), draw(2, 5, 6, 7, seed=1)
    oracle, schedule = Oracle(clean, config), make_schedule(name, config, steps)
    assert torch.allclose(follow(oracle, schedule.start(noise), schedule), clean, atol=5e-3)
    # It starts from the noise itself, whatever the scheduler multiplies it with in between.
    assert torch.allclose(oracle.seen[0][0], noise, rtol=0.01)
    assert len(oracle.seen) == steps


@CONFIGS
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [7, 61, 100])
def test_any_number_of_steps_ends_at_the_clean_image(
    name: str, config: dict[str, Any], spacing: str, steps: int
) -> None:
    """The run takes the requested number of steps and ends at the clean image.

    diffusers gives 62 timesteps for 61 trailing steps. The extra one is -1, which indexes the noisiest timestep.
    """
    clean, noise = draw(2, 5, 6, 7), draw(2, 5, 6, 7, seed=1)
    trained = 1000 if steps == 61 else 100
    config = {**config, "timestep_spacing": spacing, "num_train_timesteps": trained, "steps_offset": 1}
    oracle, schedule = Oracle(clean, config), make_schedule(name, config, steps)
    assert torch.allclose(follow(oracle, schedule.start(noise), schedule), clean, atol=1e-2)
    assert len(oracle.seen) == steps


@CONFIGS
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.1, 0.4, 0.9])
def test_from_any_strength_a_perfect_network_is_followed_from_one_picture_to_another(
    name: str, config: dict[str, Any], strength: float
) -> None:
    clean, other, noise = (draw(2, 5, 6, 7, seed=seed) for seed in range(3))
    oracle, schedule = Oracle(clean, config), make_schedule(name, config, 10, strength)
    made = follow(oracle, schedule.start(noise, other), schedule)
    assert torch.allclose(made, clean, atol=5e-3)
    assert len(oracle.seen) == round(10 * strength)
    # What it sees first is the other picture under that timestep's noise.
    level = oracle.levels[int(schedule.scheduler.timesteps[schedule.begin])]
    assert torch.allclose(oracle.seen[0][0], level.sqrt() * other + (1 - level).sqrt() * noise, atol=5e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_without_strength_the_start_comes_back_and_no_network_is_asked(name: str) -> None:
    clean, start = draw(2, 5, 6, 7), draw(2, 5, 6, 7, seed=1)
    oracle, schedule = Oracle(clean, VELOCITY), make_schedule(name, VELOCITY, 5, 0.0)
    assert torch.equal(follow(oracle, schedule.start(clean, start), schedule), start)
    assert not oracle.seen


@CONFIGS
@pytest.mark.parametrize("name", SCHEDULERS)
def test_given_content_is_seen_under_the_canvas_s_own_noise(name: str, config: dict[str, Any]) -> None:
    """A perfect network that is given its own picture sees the same whether or not it is told."""
    clean, noise = draw(2, 5, 6, 7), draw(2, 5, 6, 7, seed=1)
    mask = (draw(2, 1, 6, 7, seed=2) > 0).float()
    seen = []
    for known in (None, Known(clean, mask, noise)):
        oracle, schedule = Oracle(clean, config), make_schedule(name, config, 5, 0.8)
        follow(oracle, schedule.start(noise, clean), schedule, known)
        seen.append(torch.stack(oracle.seen))
    assert torch.allclose(*seen, atol=1e-2)


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_are_limited(steps: int) -> None:
    with pytest.raises(UserError, match="between 1 and 1000"):
        make_schedule("ddim", VELOCITY, steps)


def square(seed: int = 7, **changes: Any) -> Job:
    return job(seed=seed, layout=single_tile(SIDE, SIDE), steps=2, guidance=1.0, **changes)


def first_canvas(model: JointModel, task: Job) -> Tensor:
    """(N, C, H, W): the canvas that the network sees first."""
    seen: list[Tensor] = []
    hook = model.joint.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        sample(model, task)
    finally:
        hook.remove()
    return seen[0][0]


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def starts(model: JointModel) -> Mapping[str, Tensor]:
    """The same clean latents for every branch."""
    clean = torch.randn(model.joint.channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return dict.fromkeys(model.joint.names, clean)


def test_the_canvas_starts_as_the_noise_of_the_seed(tiny_model: Models) -> None:
    model = tiny_model("depth-normal")
    expected = torch.randn(3, model.joint.channels, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    assert torch.equal(first_canvas(model, square(7)), expected)
    assert torch.equal(first_canvas(model, square(7)), expected)


def test_seeds_are_those_that_the_generator_takes(tiny_model: Models) -> None:
    model = tiny_model("depth")
    assert sample(model, square(2**64 - 1)).isfinite().all()
    for seed in (2**64, -1):
        with pytest.raises(UserError, match=f"^seed {seed} does not fit into 64 bits$") as caught:
            sample(model, square(seed))
        assert caught.value.hint == "choose between 0 and 18446744073709551615"


@pytest.mark.parametrize("start", ["noise", "SDEdit"])
def test_branches_start_from_independent_noise(tiny_model: Models, start: str) -> None:
    """Correlations of 5,120 independent numbers have a standard deviation of 0.014."""
    model = tiny_model("depth-normal")
    task = square() if start == "noise" else square(start=starts(model), strength=0.5)
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


def test_seeds_of_a_batch_give_independent_noise(tiny_model: Models) -> None:
    model = tiny_model("depth")
    assert abs(correlation(first_canvas(model, square(7)), first_canvas(model, square(8)))) < 0.06


def test_known_regions_are_noised_with_the_canvas_s_own_noise(tiny_model: Models) -> None:
    """Given content stays in step with the canvas: both hold the same noise, each branch its own."""
    model = tiny_model("depth")
    given = {"rgb": Region.whole(torch.zeros(model.joint.channels, SIDE, SIDE))}
    seen: list[Tensor] = []
    hook = model.joint.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        sample(model, square(given=given))
    finally:
        hook.remove()
    noise = torch.randn(2, model.joint.channels, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    schedule = make_schedule("ddim", model.scheduler, 2)
    level = schedule.scheduler.alphas_cumprod[schedule.scheduler.timesteps[1]]
    assert torch.allclose(seen[1][0, 0], (1 - level).sqrt() * noise[0], atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_tiles_of_what_is_given_are_left_out(
    tiny_model: Models, monkeypatch: pytest.MonkeyPatch, variant: str, preset: Any
) -> None:
    """What is unknown, in the image to the left and in the depth to the right, is painted as by all tiles."""
    model = tiny_model(variant)
    regions = {}
    for seed, name in enumerate(model.joint.names):
        regions[name] = Region(draw(model.joint.channels, 16, 160, seed=seed), torch.zeros(1, 16, 160))
        regions[name].mask[:, 4:9, 20 + 70 * seed : 30 + 70 * seed] = 1
    layout = replace(
        tiled(16, 160, 16, PRESETS[preset].tiles, wrap=True), whole_image_until=0.0, whole_image_only_until=0.0
    )
    settings = {"scheduler": PRESETS[preset].scheduler, "steps": 3, "tile_batch": 1}
    asked = job(layout=layout, given=regions, **settings)
    few = sample_job(model, asked)
    monkeypatch.setattr("jointnet_cli.sampling.loop._with_unknown", lambda tiles, known: tiles)
    every = sample_job(model, asked)
    assert few.evaluations < every.evaluations / 2
    assert torch.equal(few.latents, every.latents)
    assert not torch.equal(few.latents, torch.stack([region.latents for region in regions.values()]))


def test_a_canvas_of_which_all_is_given_takes_one_tile_a_step(tiny_model: Models) -> None:
    model = tiny_model("depth")
    regions = {name: Region.whole(draw(model.joint.channels, 8, 40)) for name in model.joint.names}
    made = sample_job(model, job(layout=replace(BAND, whole_image_until=0.0), given=regions))
    assert [len(tiles) for tiles in made.tiles] == [1, 1, 1]
    assert torch.equal(made.latents, torch.stack([region.latents for region in regions.values()]))


def test_settings_that_were_not_asked_for_are_the_model_s() -> None:
    stated = {"scheduler": "unipc", "steps": 10, "guidance": 3.0}
    defaults = {"preset": "paper", **stated}
    assert resolve(Sampling(), defaults, "generate") == Resolved(preset="paper", **stated)
    assert resolve(Sampling(steps=2, tile_batch=4), defaults, "panorama") == Resolved(
        preset="paper", **{**stated, "steps": 2}, tile_batch=4
    )
    assert resolve(Sampling(), defaults, "depth") == Resolved(preset="paper", **{**stated, "guidance": 1.0})
    assert resolve(Sampling(), {**defaults, "depth_steps": 1}, "depth").steps == 1
    assert resolve(Sampling(), {**defaults, "depth_steps": 1}, "generate").steps == 10
    asked = resolve(Sampling(steps=4, guidance=2.0), {**defaults, "depth_steps": 1}, "depth")
    assert (asked.scheduler, asked.steps, asked.guidance) == ("unipc", 4, 2.0)


def test_a_preset_comes_before_the_model_s_settings_and_after_what_is_asked_for() -> None:
    defaults = {"preset": "paper", "scheduler": "euler", "steps": 10, "guidance": 3.0, "depth_steps": 1}
    fast = PRESETS["fast"]
    found = resolve(Sampling(preset="fast", steps=6), defaults, "panorama")
    assert found == Resolved("fast", fast.scheduler, 6, 3.0, fast.guidance_interval, fast.spacing)
    assert found.tiles == fast.tiles
    assert resolve(Sampling(preset="fast"), defaults, "depth").steps == 1
    for name, preset in PRESETS.items():
        found = resolve(Sampling(), {"preset": name, "guidance": 7.5}, "generate")
        assert (found.preset, found.scheduler, found.steps) == (name, preset.scheduler, preset.steps)
    for name, stated in (("preset", "best"), ("scheduler", "ddmi")):
        with pytest.raises(UserError, match=f"states an unknown {name} {stated}") as fault:
            resolve(Sampling(), {"preset": "paper", "guidance": 7.5, name: stated}, "generate")
        assert fault.value.hint and fault.value.hint.startswith(f"choose one: --{name} ")
        resolve(Sampling(preset="fast", scheduler="ddim"), {"guidance": 7.5, name: stated}, "generate")
    with pytest.raises(UserError, match="guidance interval 800 200 is empty"):
        Sampling(guidance_interval=(800, 200))


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_canvases_of_one_tile_share_batches_and_keep_their_latents(tiny_model: Models, variant: str) -> None:
    model, other = tiny_model(variant), single_tile(8, 8)
    given = {"rgb": Region.whole(draw(model.joint.channels, 8, 10, seed=7))}
    start = {name: draw(model.joint.channels, 8, 10, seed=8) for name in model.joint.names}
    jobs = [
        job(prompt="a red hut", seed=3),
        job(seed=4, negative_prompt="fog"),
        job(seed=5, given=given),
        job(layout=other),
        job(guidance=1.0),
        job(start=start, strength=0.5),
        job(layout=BAND),
        job(prompt="a red hut", seed=3),
    ]
    sizes: list[int] = []
    hook = model.joint.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    together = sample_all(model, jobs)
    hook.remove()
    alone = [sample_job(model, each) for each in jobs]
    for one, own in zip(together, alone, strict=True):
        torch.testing.assert_close(one.latents, own.latents, atol=1e-5, rtol=1e-5)
        assert (one.tiles, one.evaluations) == (own.tiles, own.evaluations)
    assert sizes[:3] == [8, 8, 8]  # four canvases, each twice
    assert not torch.allclose(together[0].latents, together[1].latents, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_canvas_is_float32_under_a_network_of_16_bits(tiny_folder: Folders, dtype: torch.dtype) -> None:
    model = load_model(tiny_folder("masked"), dtype)
    asked = job(layout=tiled(16, 32, 16, PRESETS["paper"].tiles))
    assert {tensor.dtype for tensor in (called[0] for called in inputs(model, asked))} == {dtype}
    latents = sample(model, asked)
    assert latents.dtype == torch.float32
    assert not torch.equal(latents, latents.to(dtype).float())  # no rounding on the way


def test_a_prompt_that_equals_the_negative_one_takes_one_pass(tiny_model: Models) -> None:
    model = tiny_model("depth")
    for asked in (Sampling(), Sampling(preset="paper", guidance=7.5)):
        assert resolve(asked, {"preset": "fast", "guidance": 3.0}, "inpaint", guided=False).guidance == 1
    for prompt in ("", "a house"):
        both = sample(model, job(prompt=prompt, negative_prompt=prompt, guidance=7.5))
        torch.testing.assert_close(sample(model, job(prompt=prompt, guidance=1.0)), both)


@pytest.mark.parametrize(
    ("interval", "expected"), [((0, 1000), [2, 2, 2]), ((400, 1000), [2, 2, 1]), ((0, 0), [1, 1, 1])]
)
def test_guidance_is_applied_within_its_interval(
    tiny_model: Models, interval: tuple[int, int], expected: list[int]
) -> None:
    """Timesteps 999, 666 and 333. Elsewhere the network sees the prompt alone, in the same positions of its text."""
    model, asked = tiny_model("depth"), job(guidance_interval=interval)
    assert batches(model, asked) == expected
    assert sample_job(model, asked).evaluations == sum(expected)
    if interval == (0, 0):
        torch.testing.assert_close(sample(model, asked), sample(model, job(guidance=1.0)))


@pytest.mark.parametrize(("name", "expected"), [("paper", 1452), ("balanced", 156), ("fast", 90)])
def test_the_evaluations_of_a_panorama_six_windows_wide(tiny_model: Models, name: Any, expected: int) -> None:
    model, settings = tiny_model("depth"), resolve(Sampling(), {"preset": name, "guidance": 3.0}, "panorama")
    layout = tiled(4, 24, 4, settings.tiles, wrap=True)
    assert sample_job(model, replace(job(layout=layout), sampling=settings)).evaluations == expected


TILED = Layout(16, 32, (16, 16), 8, wrap=True, offsets="random")


@pytest.mark.parametrize("variant", ["depth", "masked"])
@pytest.mark.parametrize("changed", [{}, {"guidance": 1.0}, {"given": {}}, {"start": {}, "strength": 1.0}], ids=str)
def test_all_of_a_job_reaches_the_denoising(tiny_model: Models, variant: str, changed: dict[str, Any]) -> None:
    """Prompts, noise, steps, start, known regions; the tile offsets are drawn after the noise, by the same generator."""
    model = tiny_model(variant)
    generator = torch.Generator().manual_seed(1)
    clean, known = (torch.randn(2, model.joint.channels, 16, 32, generator=generator) for _ in range(2))
    mask = (torch.rand(1, 16, 32, generator=generator) > 0.5).float()
    settings: dict[str, Any] = {
        "prompt": "a lake",
        "negative_prompt": "sea",
        "seed": 7,
        "layout": TILED,
        "scheduler": "euler",
        "steps": 4,
        "strength": 0.5,
        "start": {"depth": clean[1], "rgb": clean[0]},
        "given": {"depth": Region(known[1], mask)},
    }
    asked = job(**{**settings, **changed})
    with torch.inference_mode():
        texts = model.encode_text(["a lake", "" if asked.sampling.guidance == 1 else "sea"])
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(2, model.joint.channels, 16, 32, generator=generator)
    schedule = make_schedule("euler", model.scheduler, 4, asked.strength)
    nothing = Region.nothing(noise[0])
    regions = Known.of([nothing, Region(known[1], mask) if asked.given else nothing], noise)
    expected = denoise(
        GuidedDenoiser(
            model.joint, texts, asked.sampling.guidance, schedule, regions.masked_input if variant == "masked" else None
        ),
        schedule.start(noise, clean if asked.start else None),
        TILED,
        place_tiles(TILED, schedule, generator),
        regions if asked.given or variant == "masked" else None,
    )
    torch.testing.assert_close(sample(model, asked), expected, rtol=1e-4, atol=1e-5)


def test_a_job_reports_its_steps_and_times(tiny_model: Models) -> None:
    told: list[tuple[str, int, int]] = []
    timer = Timer(lambda *words: told.append(words), {"text": 1e6, "decode": 3.0})
    sample(tiny_model("depth"), job(), timer=timer)
    assert told == [("text", 0, 0), ("denoise", 0, 0), *(("denoise", step, 3) for step in (1, 2, 3))]
    assert list(timer.seconds) == ["text", "decode", "denoise"] and timer.seconds["decode"] == 3
    assert 1e6 < timer.seconds["text"] < 1e6 + 60 and 0 < timer.seconds["denoise"] < 60
    told.clear()
    late = job(steps=4, strength=0.5, start={"rgb": draw(5, 8, 10)})
    sample(tiny_model("base"), late, timer=timer)
    assert told[-2:] == [("denoise", 1, 2), ("denoise", 2, 2)]


@pytest.mark.parametrize(("size", "expected"), [(1, [1, 1, 1, 1]), (3, [3, 1]), (None, [4])])
def test_as_many_tiles_at_once_as_a_job_says(tiny_model: Models, size: int | None, expected: list[int]) -> None:
    assert batches(tiny_model("depth"), job(layout=TILED, steps=1, guidance=1.0, tile_batch=size)) == expected


def test_without_guidance_the_negative_prompt_is_not_read(tiny_model: Models) -> None:
    """Its length would change how many chunks the prompt is encoded in."""
    model, asked = tiny_model("depth"), job(guidance=1.0)
    assert torch.equal(sample(model, replace(asked, negative_prompt="sea " * 40)), sample(model, asked))
    guided = [sample(model, job(guidance=2.0, negative_prompt=words)) for words in ("sea " * 40, "")]
    assert not torch.allclose(*guided, atol=1e-4)
