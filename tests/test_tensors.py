"""What depth and normals mean."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.modality import MODALITIES, SKY_LENGTH
from jointnet_cli.tensors import flip, from_map, inverse_depth, relative_disparity, to_map, unit_normals

SHAPES = {name: (1, 4, 5) if modality.values == "disparity" else (1, 3, 4, 5) for name, modality in MODALITIES.items()}


def shares(*shape: int) -> st.SearchStrategy[Tensor]:
    return arrays.arrays("float32", shape, elements=st.floats(0, 1, width=32)).map(torch.from_numpy)


def physical(modality: str) -> st.SearchStrategy[Tensor]:
    """What `to_map` takes: unit vectors, or values in [0, 1]."""
    values = shares(*SHAPES[modality])
    return (
        values.map(lambda x: F.normalize(x * 2 - 0.97, dim=1)) if MODALITIES[modality].values == "direction" else values
    )


CASES = st.sampled_from(list(MODALITIES)).flatmap(lambda name: st.tuples(st.just(name), physical(name)))
DISTANCES = arrays.arrays("float32", (2, 6, 7), elements=st.floats(0.5, 500, width=32) | st.just(math.inf)).map(
    torch.from_numpy
)


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_a_map_and_back_is_the_same(case: tuple[str, Tensor]) -> None:
    modality, values = case
    encoded = to_map(values, modality)
    assert encoded.shape == (1, 3, 4, 5)
    assert encoded.min() >= -1 - 1e-6 and encoded.max() <= 1 + 1e-6
    assert torch.allclose(from_map(encoded, modality), values, atol=1e-6)


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_a_decoder_overshoots_is_brought_back(modality: str) -> None:
    decoded = 3 * torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    values = from_map(decoded, modality)
    assert values.shape == SHAPES[modality]
    if MODALITIES[modality].values == "direction":
        lengths = values.norm(dim=1)
        assert torch.allclose(lengths[lengths > 0], torch.tensor(1.0), atol=1e-5)
    else:
        assert values.min() >= 0 and values.max() <= 1


def test_the_sky_has_no_normal() -> None:
    direction = torch.tensor([0.6, 0.0, -0.8]).view(1, 3, 1, 1)
    assert torch.equal(from_map(to_map(torch.zeros(1, 3, 4, 5), "normal"), "normal"), torch.zeros(1, 3, 4, 5))
    assert torch.equal(from_map((SKY_LENGTH - 0.01) * direction, "normal"), torch.zeros(1, 3, 1, 1))
    for length in (SKY_LENGTH + 0.01, 0.7, 1.3):
        assert torch.allclose(from_map(length * direction, "normal"), direction)


def test_disparity_is_the_mean_of_the_channels() -> None:
    decoded = torch.tensor([-0.4, 0.2, 0.8]).view(1, 3, 1, 1)
    assert from_map(decoded, "depth").item() == pytest.approx(0.6)


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_flipping_twice_changes_nothing(case: tuple[str, Tensor]) -> None:
    modality, values = case
    assert torch.equal(flip(flip(values, modality), modality), values)


def test_a_mirrored_normal_points_to_the_other_side() -> None:
    normals = torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    mirrored = flip(normals, "normal")
    assert torch.equal(mirrored[:, 0], -normals[:, 0].flip(-1))
    assert torch.equal(mirrored[:, 1:], normals[:, 1:].flip(-1))
    assert torch.equal(flip(normals, "rgb"), normals.flip(-1))
    assert torch.equal(flip(normals[:, 0], "depth"), normals[:, 0].flip(-1))


@settings(max_examples=80, deadline=None)
@given(DISTANCES)
def test_disparity_falls_with_distance_and_is_zero_in_the_sky(distance: Tensor) -> None:
    disparity = relative_disparity(inverse_depth(distance))
    assert disparity.min() >= 0 and disparity.max() <= 1
    sky = torch.isinf(distance)
    assert (disparity[sky] == 0).all()
    for one, other in zip(distance.flatten(1), disparity.flatten(1), strict=True):
        assert (other[one.argsort()].diff() <= 1e-6).all()


@settings(max_examples=60, deadline=None)
@given(DISTANCES, st.floats(0.25, 8, width=32))
def test_disparity_does_not_know_the_unit(distance: Tensor, scale: float) -> None:
    one, other = (relative_disparity(inverse_depth(z)) for z in (distance, distance * scale))
    # Nearly flat scenes have no shape to compare: rounding is all there is.
    varied = [float(inverse_depth(z).max() / inverse_depth(z).clamp(min=1e-9).min()) > 1.01 for z in distance]
    assert torch.allclose(one[varied], other[varied], atol=1e-3)


def test_far_is_zero_near_is_one_and_a_close_leaf_does_not_flatten_the_rest() -> None:
    distance = torch.linspace(10, 1, 1000).view(1, 20, 50)
    disparity = relative_disparity(inverse_depth(distance))
    assert disparity.flatten()[0] == 0
    assert disparity.flatten()[-1] == 1
    leaf = distance.clone()
    leaf[0, 0, 0] = 0.01
    middle = distance > 1.5
    middle[0, 0, 0] = False
    changed = relative_disparity(inverse_depth(leaf))
    assert changed[0, 0, 0] == 1
    assert (changed - disparity)[middle].abs().max() < 0.02


@pytest.mark.parametrize("distance", [math.inf, 4.0])
def test_a_flat_picture_is_far(distance: float) -> None:
    assert torch.equal(relative_disparity(inverse_depth(torch.full((1, 4, 4), distance))), torch.zeros(1, 4, 4))


def test_every_picture_of_a_batch_has_its_own_range() -> None:
    """Of 0, 1, ..., 200 the quantile 0.985 is 197."""
    inverse = torch.stack([torch.arange(201.0), 3 * torch.arange(201.0) + 50]).view(2, 3, 67)
    expected = (torch.arange(201.0) / 197).clamp(max=1).view(3, 67)
    for disparity in relative_disparity(inverse):
        assert torch.allclose(disparity, expected, atol=1e-6)


def test_a_batch_of_disparity_becomes_three_equal_channels() -> None:
    encoded = to_map(torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1), "depth")
    assert encoded.flatten(1).tolist() == [[-1.0] * 3, [-0.5] * 3, [1.0] * 3]


def test_a_normal_of_sky_length_is_a_surface_in_every_picture_of_a_batch() -> None:
    vectors = torch.tensor([[0.0, SKY_LENGTH, 0.0], [0.1, 0.2, 0.1]]).view(2, 3, 1, 1)
    assert unit_normals(vectors).flatten(1).tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_map_is_mirrored_on_its_own_device() -> None:
    assert flip(torch.zeros(1, 3, 2, 2, device="meta"), "normal").device.type == "meta"


def test_inverse_depth_is_in_metres() -> None:
    assert inverse_depth(torch.tensor([0.5, 4.0, math.inf])).tolist() == [2.0, 0.25, 0.0]
