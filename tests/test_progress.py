"""Timings of phases."""

from __future__ import annotations

import time

import pytest

from jointnet_cli.progress import timed


def test_seconds_of_a_phase_add_up_also_after_an_error() -> None:
    timings = {"denoise": 1.0}
    with timed(timings, "denoise"):
        time.sleep(0.02)
    with pytest.raises(ValueError, match="stop"), timed(timings, "decode"):
        time.sleep(0.02)
        raise ValueError("stop")
    assert 1.02 <= timings["denoise"] < 2
    assert 0.02 <= timings["decode"] < 1
