"""Schedulers by name, and the timesteps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jointnet_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SchedulerName = Literal["ddim", "dpm++", "unipc", "euler"]

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Name to diffusers class and its settings. `ddim` with 50 steps is the paper's."""
_OWN_NOISE_LEVELS = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
)
"""Settings with which a scheduler chooses noise levels and derives the timesteps from them, instead of spacing timesteps."""


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
        """Return the canvas at the first timestep: noise, or clean latents under as much noise as belongs there.

        Raises:
            ValueError: the run joins later than the first step and there is nothing to start from.
        """
        if self.begin == 0:
            scaled: Tensor = noise * self.scheduler.init_noise_sigma
            return scaled
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

    def timestep(self, step: int) -> Tensor:
        """Return the training timestep of a step, a scalar."""
        timestep: Tensor = self.scheduler.timesteps[step]
        return timestep

    def scaled(self, canvas: Tensor, step: int) -> Tensor:
        """Return a canvas as the network reads it before a step: with the signal and noise levels it was trained on."""
        scaled: Tensor = self.scheduler.scale_model_input(canvas, self.timestep(step))
        return scaled

    def step(self, prediction: Tensor, canvas: Tensor, step: int) -> Tensor:
        """Return the canvas after a step, from the network's prediction before it."""
        if not hasattr(self.scheduler, "sigmas"):
            self._set_interval(step)
        after: Tensor = self.scheduler.step(prediction, self.timestep(step), canvas, return_dict=False)[0]
        return after

    def _set_interval(self, step: int) -> None:
        """Set the interval that DDIM subtracts from the current timestep to get the next one.

        diffusers always subtracts N // n, for N training timesteps and n steps. The next timestep of the schedule can differ
        from the result. A difference of one timestep is kept, so that images equal those of diffusers. A larger difference
        (`linspace` with few steps) is corrected. The last step goes to timestep -1, the end.
        """
        trained, timesteps = self.scheduler.config.num_train_timesteps, self.scheduler.timesteps
        last = step == self.steps - 1
        interval = int(timesteps[step]) - (-1 if last else int(timesteps[step + 1]))
        usual = trained // self.steps
        taken = interval if last or abs(interval - usual) > 1 else usual
        self.scheduler.num_inference_steps = Fraction(trained, taken)  # diffusers computes N // (N / taken) = taken

    def predict_clean(self, inputs: Tensor, prediction: Tensor, step: int) -> Tensor:
        """Return the clean latents that the network's inputs and its prediction at a step imply."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return prediction
        signal = self.scheduler.alphas_cumprod[self.timestep(step).long().cpu()].to(inputs)
        return clean_estimate(inputs, prediction, signal, kind)


def clean_estimate(noisy: Tensor, prediction: Tensor, signal: Tensor, kind: str) -> Tensor:
    """Return the clean latents that noisy ones and a prediction imply (Ho et al., 2020; Salimans & Ho, 2022).

    Args:
        noisy: latents at some timestep, of unit variance.
        prediction: their noise or velocity, of the same shape.
        signal: share of the signal's variance, alpha-bar, broadcast to the latents.
        kind: `epsilon` or `v_prediction`.
    """
    noise = (1 - signal).sqrt()
    if kind == "v_prediction":
        return signal.sqrt() * noisy - noise * prediction
    return (noisy - noise * prediction) / signal.sqrt()


def check_scheduler(name: str) -> str:
    """Check a scheduler's name and return it.

    Raises:
        UserError: it is none of `SCHEDULERS`.
    """
    if name not in SCHEDULERS:
        hint = did_you_mean(name, SCHEDULERS) or f"schedulers: {', '.join(SCHEDULERS)}"
        raise UserError(f"unknown scheduler {name}", hint=hint)
    return name


def make_schedule(
    name: str, config: Mapping[str, Any], steps: int, strength: float = 1.0, spacing: str | None = None
) -> Schedule:
    """Return the steps of a run on a base model's noise schedule.

    Args:
        name: one of `SCHEDULERS`.
        config: the base model's scheduler configuration (betas, prediction type, timestep spacing).
        steps: number of denoising steps, at least 1.
        strength: fraction of the steps, from the clean end, that are run (SDEdit, Meng et al., 2021).
        spacing: `leading`, `trailing` or `linspace` (Lin et al., 2024) in place of the configuration's.

    Raises:
        UserError: unknown name, a number of steps that the schedule does not have, or a strength outside of [0, 1].
    """
    scheduler = make_scheduler(name, config if spacing is None else {**config, "timestep_spacing": spacing})
    if not 1 <= steps <= scheduler.config.num_train_timesteps:
        raise UserError(f"{steps} steps: choose between 1 and {scheduler.config.num_train_timesteps}")
    if not 0 <= strength <= 1:
        raise UserError(f"strength {strength:g} is not between 0 and 1")
    scheduler.set_timesteps(steps)
    return Schedule(scheduler, steps - steps_run(steps, strength))


def steps_run(steps: int, strength: float) -> int:
    """Return how many of the steps SDEdit runs: about the fraction `strength`, and at least one unless that is 0."""
    return min(steps, max(round(strength * steps), strength > 0))


def make_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """Return a diffusers scheduler whose `set_timesteps` gives as many timesteps as it is asked for.

    Raises:
        UserError: unknown name.
    """
    import diffusers

    class_name, settings = SCHEDULERS[check_scheduler(name)]
    scheduler = getattr(diffusers, class_name).from_config(config, **settings)
    scheduler.set_timesteps = partial(_set_timesteps, scheduler, scheduler.set_timesteps)
    return scheduler


def _set_timesteps(scheduler: Any, set_timesteps: Any, num_inference_steps: int, device: Any = None) -> None:
    """Set a scheduler's timesteps: diffusers' own where their number is right and they strictly decrease, else mended."""
    import numpy as np
    import torch

    set_timesteps(num_inference_steps, device=device)
    if any(scheduler.config.get(setting) for setting in _OWN_NOISE_LEVELS):
        return
    found = scheduler.timesteps.cpu().numpy()
    timesteps = mended_timesteps(found, num_inference_steps, scheduler.config.num_train_timesteps)
    if np.array_equal(timesteps, found):
        return
    scheduler.num_inference_steps = num_inference_steps
    scheduler.timesteps = torch.from_numpy(timesteps).to(device)
    if hasattr(scheduler, "sigmas"):
        levels = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().numpy()
        sigmas = np.interp(timesteps, np.arange(len(levels)), levels).astype(np.float32)
        scheduler.sigmas = torch.cat([torch.from_numpy(sigmas), scheduler.sigmas[-1:]])


def mended_timesteps(found: NDArray[Any], steps: int, trained: int) -> NDArray[Any]:
    """Return the timesteps of a run, from what diffusers makes of a spacing.

    Args:
        found: diffusers' timesteps, the noisiest first. A rounding error appends one (`trailing`), an offset moves them
            beyond the last training timestep (`leading`), and as many steps as timesteps repeat some (`leading`, `linspace`).
        steps: how many there have to be.
        trained: the number of training timesteps, at least `steps`.

    Returns:
        (steps,) strictly decreasing timesteps from 0 to `trained` - 1, of the type of `found`; `found` itself if it is right.
    """
    import numpy as np

    kept = found[:steps]
    if len(kept) == steps and (np.diff(kept) < 0).all():
        shifted: NDArray[Any] = kept - max(0, kept[0] - (trained - 1))
        return shifted
    top = int(found[0]) + 1
    spread = np.arange(steps, 0, -1) * (top if top >= steps else trained) / steps
    return (spread.round() - 1).astype(found.dtype)
