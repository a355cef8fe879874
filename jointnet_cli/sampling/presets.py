"""Named settings of sampling as data: presets, and how each method tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, Literal, get_args

from jointnet_cli.errors import UserError
from jointnet_cli.params import SAMPLING_PANEL, Param
from jointnet_cli.sampling.schedule import SCHEDULERS

MAX_STEPS = 1000
"""Timesteps of the training schedule: there are no more to sample at."""

MAX_GUIDANCE = 1000.0
"""Far beyond any use; larger scales overflow."""

PresetName = Literal["paper", "balanced", "fast"]
Spacing = Literal["leading", "trailing", "linspace"]
Offsets = Literal["none", "random", "golden"]
Method = Literal["jointnet", "multidiffusion", "syncdiffusion", "direct"]

METHODS: tuple[Method, ...] = get_args(Method)

_Setting = partial(Param, panel=SAMPLING_PANEL, env=True, shown="model's or preset's")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to denoise. `None` means the preset's value, or the one that the model's folder states (`jointnet.json`)."""

    preset: Annotated[
        PresetName | None,
        Param(
            "Settings of the paper, with fewer evaluations of the network, or with the fewest.",
            panel=SAMPLING_PANEL,
            env=True,
            shown="model's",
        ),
    ] = None
    """A name of `PRESETS`, whose values hold where nothing else is asked for."""
    steps: Annotated[int | None, _Setting("Denoising steps.", "N", ge=1, le=MAX_STEPS)] = None
    guidance: Annotated[
        float | None,
        _Setting(
            "Classifier-free guidance scale; 1 is off.", "SCALE", ge=0, le=MAX_GUIDANCE, shown="model's; depth: 1"
        ),
    ] = None
    guidance_interval: Annotated[
        tuple[int, int] | None,
        _Setting(
            "Timesteps, of 1000, between which guidance is applied; elsewhere one pass takes the place of two.",
            "LOW HIGH",
            ge=0,
            le=MAX_STEPS,
        ),
    ] = None
    """Least and greatest guided timestep (Kynkäänniemi et al., 2024)."""
    scheduler: Annotated[str | None, _Setting("Sampler, such as `ddim`.", "NAME", complete="scheduler")] = None
    """A name of `jointnet_cli.sampling.schedule.SCHEDULERS`."""
    spacing: Annotated[Spacing | None, _Setting("How timesteps are spaced.")] = None
    """`None` leaves what the base model's scheduler states."""
    tiling: Annotated[PresetName | None, _Setting("Tiles of this preset, where the canvas is larger than a tile.")] = (
        None
    )
    tile_batch: Annotated[
        int | None, _Setting("Tiles or images that go through the network at once.", "N", ge=1, shown="automatic")
    ] = None

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"steps must be between 1 and {MAX_STEPS}, got {self.steps}")
        if self.guidance_interval is not None and self.guidance_interval[0] > self.guidance_interval[1]:
            low, high = self.guidance_interval
            raise UserError(f"the guidance interval {low} {high} is empty", hint=f"--guidance-interval {high} {low}")


@dataclass(frozen=True)
class Tiling:
    """How a canvas is tiled, for a window of any size."""

    tiles_per_window: int
    """Tiles that begin within one window: the stride is the window divided by it."""
    last_tiles_per_window: int | None = None
    """The same in the last step; `None` changes nothing there."""
    taper: float = 0.0
    """Fraction of a window over which weights fall off towards each side."""
    offsets: Offsets = "none"
    """How tiles shift from step to step: not at all, at random, or by the golden ratio, so that borders spread evenly."""
    whole_image_until: float = 0.0
    """Fraction of the steps in which the whole canvas is one more tile."""
    whole_image_weight: float = 5.0
    whole_image_only_until: float = 0.0
    """Fraction of the steps in which it is the only one."""


BASELINES: dict[Method, Tiling] = {
    "multidiffusion": Tiling(8),
    "syncdiffusion": Tiling(4),
}
"""Strides of 8 and 16 latent pixels at Stable Diffusion's window of 64."""


@dataclass(frozen=True)
class Preset:
    """What a name of `--preset` stands for."""

    scheduler: str
    steps: int
    tiles: Tiling
    spacing: Spacing | None = None
    """`None` leaves what the base model's scheduler states."""
    guidance_interval: tuple[int, int] = (0, MAX_STEPS)


_APART = Tiling(
    1,
    last_tiles_per_window=2,
    taper=1 / 2,
    offsets="golden",
    whole_image_until=0.4,
    whole_image_only_until=5 / 12,
)
"""A window apart; of 12 steps the first five see the whole image alone, the last one tiles that overlap."""

PRESETS: dict[PresetName, Preset] = {
    "paper": Preset("ddim", 50, Tiling(2, taper=1 / 8, offsets="random", whole_image_until=0.4)),
    "balanced": Preset("dpm++", 12, _APART, spacing="trailing"),
    "fast": Preset(
        "unipc",
        8,
        replace(_APART, whole_image_only_until=1 / 2),
        spacing="trailing",
        guidance_interval=(250, MAX_STEPS),
    ),
}
"""Measured by `jointnet evaluate speed`; figures in docs/results.md."""


@dataclass(frozen=True)
class Resolved:
    """Settings of sampling that are complete."""

    preset: PresetName
    scheduler: str
    steps: int
    guidance: float
    guidance_interval: tuple[int, int] = (0, MAX_STEPS)
    spacing: Spacing | None = None
    """`None` leaves what the base model's scheduler states."""
    tiling: PresetName | None = None
    """The preset whose tiles are taken; `None` is `preset`."""
    tile_batch: int | None = None

    @property
    def tiles(self) -> Tiling:
        """How a canvas larger than a window is tiled."""
        return PRESETS[self.tiling or self.preset].tiles


def is_guided(guidance: float, interval: tuple[int, int], timestep: float) -> bool:
    """Whether the network also runs on the negative prompt at a timestep."""
    return guidance != 1 and interval[0] <= timestep <= interval[1]


def resolve(asked: Sampling, defaults: Mapping[str, Any], task: str, *, guided: bool = True) -> Resolved:
    """Fill settings that were not asked for.

    What is asked for comes first, then the preset that is asked for, then what the model's folder states, then its preset.

    Args:
        asked: what the user gave.
        defaults: of the model's folder: `preset`, `guidance`, and where it has its own `scheduler`, `steps`, `depth_steps`.
        task: name of the task. `depth` runs without guidance, and in `depth_steps` under every preset.
        guided: whether the prompt differs from the negative one. Where it does not, guidance at any scale is the prediction
            of a single pass, so its scale is 1.

    Raises:
        UserError: the folder states a preset or a scheduler that is not known.
    """
    known: dict[str, Sequence[str]] = {"preset": list(PRESETS), "scheduler": list(SCHEDULERS)}
    for name, values in known.items():
        if getattr(asked, name) is None and (stated := defaults.get(name)) is not None and stated not in values:
            hint = f"choose one: --{name} {values[0]}"
            raise UserError(f"the model's folder states an unknown {name} {stated}", hint)
    preset: PresetName = asked.preset or defaults["preset"]
    usual = vars(PRESETS[preset]) | {"guidance": defaults["guidance"]} | ({} if asked.preset else dict(defaults))
    if task == "depth":
        usual |= {"guidance": 1.0, "steps": defaults.get("depth_steps", usual["steps"])}
    names = [field.name for field in fields(Resolved) if field.name != "preset"]
    settings: dict[str, Any] = {name: usual[name] for name in names if name in usual}
    settings |= {name: value for name in names if (value := getattr(asked, name)) is not None}
    if not guided:
        settings["guidance"] = 1.0
    return Resolved(preset=preset, **settings)
