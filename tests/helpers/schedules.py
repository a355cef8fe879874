"""Schedules of Stable Diffusion, as its folder states them: for velocity, with zero terminal SNR, and for noise."""

from __future__ import annotations

from typing import Any

VELOCITY: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
}
EPSILON: dict[str, Any] = {**VELOCITY, "prediction_type": "epsilon", "rescale_betas_zero_snr": False}
