"""Schedulers by name, and the timesteps of a run."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Name to diffusers class and its settings. `ddim` with 50 steps is the paper's."""


@dataclass(frozen=True)
class Schedule:
    """A diffusers scheduler with its timesteps set, and the step at which a run joins it."""

    scheduler: Any
    begin: int = 0
    """Steps that are left out at the noisy end; SDEdit with strength s leaves out a fraction of 1 - s."""

    @property
    def steps(self) -> int:
        """Number of steps, those left out included."""
        return len(self.scheduler.timesteps)

    def start(self, noise: Tensor, clean: Tensor | None = None) -> Tensor:
        """The canvas at the first timestep of the run: noise, or clean latents under as much noise as belongs there.

        Raises:
            ValueError: the run joins later than the first step and there is nothing to start from.
        """
        if self.begin == 0:
            return noise * self.scheduler.init_noise_sigma
        if clean is None:
            raise ValueError("a run that joins late needs latents to start from")
        return self.noised(clean, noise, self.begin)

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """Clean latents under the noise that a canvas holds before a step; after the last step that is none."""
        if step == self.steps:
            return clean
        timestep = self.scheduler.timesteps[step].reshape(1).to(clean.device)
        noisy: Tensor = self.scheduler.add_noise(clean, noise, timestep)
        return noisy

    def foresee(self, seen: Tensor, prediction: Tensor, step: int) -> Tensor:
        """The clean latents that noisy ones, as the network sees them, and its prediction amount to."""
        level = self.scheduler.alphas_cumprod[self.scheduler.timesteps[step].long().cpu()].to(seen)
        signal, noise = level.sqrt(), (1 - level).sqrt()
        if self.scheduler.config.prediction_type == "v_prediction":
            return signal * seen - noise * prediction
        return (seen - noise * prediction) / signal


def check_scheduler(name: str) -> str:
    """The name itself.

    Raises:
        UserError: it is none of `SCHEDULERS`.
    """
    if name not in SCHEDULERS:
        near = difflib.get_close_matches(name, SCHEDULERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"schedulers: {', '.join(SCHEDULERS)}"
        raise UserError(f"unknown scheduler {name}", hint=hint)
    return name


def make_schedule(name: str, config: dict[str, Any], steps: int, strength: float = 1.0) -> Schedule:
    """The steps of a run on a base model's noise schedule.

    Args:
        name: one of `SCHEDULERS`.
        config: the base model's scheduler configuration (betas, prediction type, timestep spacing).
        steps: number of denoising steps, at least 1.
        strength: fraction of the steps, from the clean end, that are run (SDEdit, Meng et al., 2021).

    Raises:
        UserError: unknown name, a number of steps that the schedule does not have, or a strength outside of [0, 1].
    """
    import diffusers

    class_name, settings = SCHEDULERS[check_scheduler(name)]
    if not 1 <= steps <= config.get("num_train_timesteps", 1000):
        raise UserError(f"{steps} steps: choose between 1 and {config.get('num_train_timesteps', 1000)}")
    if not 0 <= strength <= 1:
        raise UserError(f"strength {strength:g} is not between 0 and 1")
    scheduler = getattr(diffusers, class_name).from_config(config, **settings)
    scheduler.set_timesteps(steps)
    return Schedule(scheduler, steps - min(steps, round(strength * steps)))
