"""Schedulers by name, and the timesteps of a run."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Name to diffusers class and its settings. `ddim` with 50 steps is the paper's."""


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


def make_scheduler(name: str, config: dict[str, Any], steps: int) -> SchedulerMixin:
    """A scheduler for a base model's noise schedule, with its timesteps set.

    Args:
        name: one of `SCHEDULERS`.
        config: the base model's scheduler configuration (betas, prediction type, timestep spacing).
        steps: number of denoising steps, at least 1.

    Raises:
        UserError: unknown name, or a number of steps that the schedule does not have.
    """
    import diffusers

    class_name, settings = SCHEDULERS[check_scheduler(name)]
    if not 1 <= steps <= config.get("num_train_timesteps", 1000):
        raise UserError(f"{steps} steps: choose between 1 and {config.get('num_train_timesteps', 1000)}")
    scheduler = getattr(diffusers, class_name).from_config(config, **settings)
    scheduler.set_timesteps(steps)
    return scheduler
