from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jointnet_cli.files.color import colorize, linear_to_srgb, srgb_to_linear


@pytest.mark.parametrize(
    ("srgb", "linear"), [(0.0, 0.0), (0.04045, 0.0031308), (0.02, 0.02 / 12.92), (0.5, 0.21404114), (1.0, 1.0)]
)
def test_known_values(srgb: float, linear: float) -> None:
    assert srgb_to_linear(np.array([srgb], np.float32))[0] == pytest.approx(linear, rel=2e-6)
    assert linear_to_srgb(np.array([linear], np.float32))[0] == pytest.approx(srgb, rel=2e-6)


@given(arrays.arrays(np.float32, st.integers(1, 20), elements=st.floats(0, 1, width=32)))
def test_the_two_are_inverse(srgb: np.ndarray) -> None:
    linear = srgb_to_linear(srgb)
    assert linear.dtype == np.float32
    np.testing.assert_allclose(linear_to_srgb(linear), srgb, rtol=2e-6, atol=1e-7)


def test_the_preview_brightens_evenly_from_far_to_near() -> None:
    ramp = colorize(np.linspace(0, 1, 257, dtype=np.float32)[None])
    assert ramp.shape == (1, 257, 3)
    assert ramp.min() >= 0
    assert ramp.max() <= 1
    luminance = srgb_to_linear(ramp[0]) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(lightness)
    assert lightness[0] < 10
    assert lightness[-1] > 95
    assert steps.min() > 0.85 * steps.mean()
    assert steps.max() < 1.15 * steps.mean()
