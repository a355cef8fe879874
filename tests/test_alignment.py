"""Several predictions of one photo brought together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.modality import SKY_LENGTH
from jointnet_cli.tensors import align_members, fit_scale_shift


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
    merged, uncertainty = align_members([only], "depth")
    assert torch.equal(merged, only)
    assert torch.equal(uncertainty, torch.zeros(1, 4, 4))


def test_members_that_differ_in_scale_and_shift_agree() -> None:
    first = 0.2 + 0.6 * draw(1, 8, 8)
    members = [first, 0.5 * first, 0.3 + 0.4 * first, 1 - 0.4 * first]
    merged, uncertainty = align_members(members, "depth")
    assert torch.allclose(merged, first, atol=1e-5)
    assert uncertainty.shape == (1, 8, 8) and uncertainty.max() < 1e-5


def test_the_median_leaves_an_outlier_out() -> None:
    first = draw(1, 16, 16)
    wrong = first.clone()
    wrong[0, 3, 4] += 50
    assert torch.allclose(align_members([first, first, wrong], "depth")[0], first, atol=1e-5)
    assert (align_members([wrong, wrong, first], "depth")[0] - first).abs().max() > 0.1


def test_the_median_of_two_is_between_them() -> None:
    first = torch.tensor([[[0.0, 0.5, 1.0]]])
    second = torch.tensor([[[0.0, 0.8, 1.0]]])
    scale, shift = fit_scale_shift(second.flatten(), first.flatten())
    aligned = second * scale + shift
    merged, uncertainty = align_members([first, second], "depth")
    assert torch.allclose(merged, ((first + aligned) / 2).clamp(0, 1), atol=1e-5)
    assert torch.allclose(uncertainty, (first - aligned).abs() / 2, atol=1e-5) and uncertainty.max() > 0.05


def test_disparity_stays_in_range() -> None:
    merged, _ = align_members([draw(1, 8, 8, seed=seed).round() for seed in range(5)], "depth")
    assert merged.min() >= 0 and merged.max() <= 1


def test_a_flat_prediction_does_no_harm() -> None:
    members = [draw(1, 8, 8), torch.full((1, 8, 8), 0.5), torch.zeros(1, 8, 8)]
    assert all(torch.isfinite(answer).all() for answer in align_members(members, "depth"))


def test_normals_are_averaged_to_unit_length() -> None:
    members = [torch.nn.functional.normalize(draw(1, 3, 6, 6, seed=seed) - 0.5, dim=1) for seed in range(3)]
    merged, _ = align_members(members, "normal")
    agreeing = torch.stack(members).mean(dim=0).norm(dim=1) > SKY_LENGTH
    assert agreeing.any() and torch.allclose(merged.norm(dim=1), agreeing.float(), atol=1e-5)
    assert torch.allclose(torch.linalg.cross(merged, sum(members), dim=1), torch.zeros(1, 3, 6, 6), atol=1e-5)
    assert ((merged * sum(members)).sum(dim=1) > 0)[agreeing].all()


def turned(degrees: float, side: int = 4) -> torch.Tensor:
    """Normals (1, 3, side, side) turned from the viewer to the right."""
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.sin(), torch.zeros(()), angle.cos()]).view(1, 3, 1, 1).repeat(1, 1, side, side)


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 70))
def test_the_uncertainty_of_normals_is_the_angle_to_their_mean(degrees: float) -> None:
    mean, uncertainty = align_members([turned(degrees), turned(-degrees)], "normal")
    assert torch.allclose(mean, turned(0), atol=1e-5)
    assert torch.allclose(uncertainty, torch.full((1, 4, 4), degrees).deg2rad(), atol=1e-3)


def test_agreeing_normals_are_certain() -> None:
    _, uncertainty = align_members([turned(20)] * 3, "normal")
    assert uncertainty.shape == (1, 4, 4) and uncertainty.max() < 1e-3


def test_a_member_without_a_surface_is_a_right_angle_off_and_sky_is_certain() -> None:
    sky = torch.zeros(1, 3, 4, 4)
    mean, uncertainty = align_members([turned(0), turned(0), turned(0), sky], "normal")
    assert torch.allclose(mean, turned(0))
    assert torch.allclose(uncertainty, torch.full((1, 4, 4), torch.pi / 4), atol=1e-3)
    assert not any(answer.any() for answer in align_members([sky, sky], "normal"))


def directions(seed: int = 0) -> torch.Tensor:
    """Unit normals (1, 3, 32, 32) in every direction."""
    return torch.nn.functional.normalize(draw(1, 3, 32, 32, seed=seed) - 0.5, dim=1)


def test_rounding_makes_no_angle_undefined() -> None:
    """The dot product of a unit vector with itself, or with its opposite, may lie just outside of [-1, 1]."""
    normals = directions()
    _, certain = align_members([normals] * 3, "normal")
    assert certain.max() < 2e-3
    _, doubtful = align_members([normals, normals, normals, -normals], "normal")
    assert torch.allclose(doubtful, torch.full((1, 32, 32), torch.pi / 2), atol=2e-3)


def test_the_uncertainty_of_normals_is_each_pixel_s_own() -> None:
    first, second = (torch.cat([turned(s * 10), turned(s * 40), turned(0) * 0], dim=-1) for s in (1, -1))
    _, uncertainty = align_members([first, second], "normal")
    expected = torch.tensor([10.0, 40.0, 0.0]).deg2rad().repeat_interleave(4).expand(1, 4, 12)
    assert torch.allclose(uncertainty, expected, atol=1e-3)


def test_the_median_is_taken_at_every_pixel() -> None:
    first = draw(1, 8, 8)
    members = [first, first + 0.3 * draw(1, 8, 8, seed=1), first - 0.3 * draw(1, 8, 8, seed=2)]
    fits = [fit_scale_shift(member.flatten(), first.flatten()) for member in members[1:]]
    aligned = torch.stack([first, *(m * scale + shift for m, (scale, shift) in zip(members[1:], fits, strict=True))])
    merged, _ = align_members(members, "depth")
    assert torch.allclose(merged, aligned.median(dim=0).values.clamp(0, 1))


def test_what_alignment_carries_beyond_the_nearest_is_the_nearest() -> None:
    members = [torch.tensor([[[0.0, 1.0, 1.0, 1.0]]]), torch.tensor([[[0.0, 0.2, 0.2, 1.0]]])]
    merged, _ = align_members(members, "depth")
    assert merged[0, 0, 3] == 1
