"""Several predictions of one photo brought together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.modality import SKY_LENGTH
from jointnet_cli.sampling.alignment import align_members, fit_scale_shift


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2))
def test_scale_and_shift_are_recovered(scale: float, shift: float) -> None:
    source = draw(400)
    fitted = fit_scale_shift(source, source * scale + shift)
    assert float(fitted[0]) == pytest.approx(scale, abs=1e-4)
    assert float(fitted[1]) == pytest.approx(shift, abs=1e-4)


def test_the_fit_is_the_least_squares_one() -> None:
    source, target = draw(300), draw(300, seed=1)
    scale, shift = fit_scale_shift(source, target)
    error = source * scale + shift - target
    assert abs(float(error.mean())) < 1e-5
    assert abs(float((error * source).mean())) < 1e-5


def test_one_member_is_the_answer() -> None:
    only = draw(1, 4, 4)
    assert align_members([only], "depth") is only


def test_members_that_differ_in_scale_and_shift_agree() -> None:
    first = 0.2 + 0.6 * draw(1, 8, 8)
    members = [first, 0.5 * first, 0.3 + 0.4 * first, 1 - 0.4 * first]
    assert torch.allclose(align_members(members, "depth"), first, atol=1e-5)


def test_the_median_leaves_an_outlier_out() -> None:
    first = draw(1, 16, 16)
    wrong = first.clone()
    wrong[0, 3, 4] += 50
    merged = align_members([first, first, wrong], "depth")
    assert torch.allclose(merged, first, atol=1e-5)
    assert (align_members([wrong, wrong, first], "depth") - first).abs().max() > 0.1


def test_the_median_of_two_is_between_them() -> None:
    first = torch.tensor([[[0.0, 0.5, 1.0]]])
    second = torch.tensor([[[0.0, 0.8, 1.0]]])
    scale, shift = fit_scale_shift(second.flatten(), first.flatten())
    expected = (first + second * scale + shift) / 2
    assert torch.allclose(align_members([first, second], "depth"), expected.clamp(0, 1), atol=1e-5)


def test_disparity_stays_in_range() -> None:
    merged = align_members([draw(1, 8, 8, seed=seed).round() for seed in range(5)], "depth")
    assert merged.min() >= 0 and merged.max() <= 1


def test_a_flat_prediction_does_no_harm() -> None:
    members = [draw(1, 8, 8), torch.full((1, 8, 8), 0.5), torch.zeros(1, 8, 8)]
    assert torch.isfinite(align_members(members, "depth")).all()


def test_normals_are_averaged_to_unit_length() -> None:
    members = [torch.nn.functional.normalize(draw(1, 3, 6, 6, seed=seed) - 0.5, dim=1) for seed in range(3)]
    merged = align_members(members, "normal")
    agreeing = torch.stack(members).mean(dim=0).norm(dim=1) > SKY_LENGTH
    assert agreeing.any() and torch.allclose(merged.norm(dim=1), agreeing.float(), atol=1e-5)
    assert torch.allclose(torch.linalg.cross(merged, sum(members), dim=1), torch.zeros(1, 3, 6, 6), atol=1e-5)
    assert ((merged * sum(members)).sum(dim=1) > 0)[agreeing].all()
