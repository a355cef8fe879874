"""Named settings of sampling as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, get_args

from jointnet_cli.errors import UserError
from jointnet_cli.params import SAMPLING_PANEL, Param

MAX_STEPS = 1000
"""Timesteps of the training schedule: there are no more to sample at."""

_Setting = partial(Param, panel=SAMPLING_PANEL, env=True, shown="model's")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to denoise. `None` means the default that the model's folder states (`jointnet.json`)."""

    steps: Annotated[int | None, _Setting("Denoising steps.", "N", ge=1, le=MAX_STEPS)] = None
    guidance: Annotated[float | None, _Setting("Classifier-free guidance scale; 1 is off.", "SCALE", ge=0)] = None
    scheduler: Annotated[str | None, _Setting("Sampler, such as `ddim`.", "NAME", complete="scheduler")] = None
    """A name of `jointnet_cli.sampling.schedule.SCHEDULERS`."""
    tile_batch: Annotated[
        int | None, _Setting("Tiles that go through the network at once.", "N", ge=1, shown="automatic")
    ] = None

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"steps must be between 1 and {MAX_STEPS}, got {self.steps}")

    @property
    def complete(self) -> tuple[str, int, float]:
        """Scheduler, steps and guidance of settings from `resolve`.

        Raises:
            ValueError: one of them is `None`.
        """
        if self.scheduler is None or self.steps is None or self.guidance is None:
            raise ValueError("sampling settings are incomplete")
        return self.scheduler, self.steps, self.guidance


def resolve(asked: Sampling, defaults: Mapping[str, Any], task: str) -> Sampling:
    """Fill settings that were not asked for.

    Args:
        asked: what the user gave.
        defaults: of the model's folder: `scheduler`, `steps`, `guidance`, and `depth_steps` where it has its own.
        task: name of the task. `depth` runs without guidance and in `depth_steps`.
    """
    own = {"guidance": 1.0, "steps": defaults.get("depth_steps", defaults["steps"])} if task == "depth" else {}
    usual = {name: defaults[name] for name in ("scheduler", "steps", "guidance")} | own
    return replace(asked, **{name: value for name, value in usual.items() if getattr(asked, name) is None})


Method = Literal["jointnet", "multidiffusion", "syncdiffusion", "direct"]

METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class Tiling:
    """How a method of the paper's Table 3 tiles, for a window of any size."""

    tiles_per_window: int
    """Tiles that begin within one window: the stride is the window divided by it."""
    tapered: bool = False
    """Whether weights fall off over an eighth of a window."""
    random_offset: bool = False
    whole_image_until: float = 0.0
    whole_image_weight: float = 5.0


TILINGS: dict[Method, Tiling] = {
    "jointnet": Tiling(2, tapered=True, random_offset=True, whole_image_until=0.4),
    "multidiffusion": Tiling(8),
    "syncdiffusion": Tiling(4),
    "direct": Tiling(1),
}
"""Strides of 32, 8 and 16 latent pixels at Stable Diffusion's window of 64; `direct` sees the canvas as one tile."""
