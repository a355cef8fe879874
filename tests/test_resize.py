"""Arrays and tensors, and both at other sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from jointnet_cli.tensors import downsample_mask, resize, to_array, to_tensor, upsample

MODALITIES = pytest.mark.parametrize("modality", ["rgb", "depth", "normal"])
SIZES = st.tuples(st.integers(1, 30), st.integers(1, 30))


def values(modality: str, height: int, width: int, seed: int = 0) -> Tensor:
    """A physical array of a modality."""
    generator = torch.Generator().manual_seed(seed)
    if modality == "depth":
        return torch.rand((1, height, width), generator=generator)
    drawn = torch.rand((1, 3, height, width), generator=generator)
    return drawn if modality == "rgb" else torch.nn.functional.normalize(drawn - 0.5, dim=1)


def columns(values: Tensor) -> set[tuple[float, ...]]:
    """The distinct pixels of an array."""
    flat = values.view(1, -1, *values.shape[-2:]).flatten(2)[0].T
    return set(map(tuple, flat.tolist()))


@MODALITIES
def test_arrays_go_there_and_back(modality: str) -> None:
    tensor = values(modality, 4, 6)
    array = to_array(tensor)
    assert array.shape == ((4, 6) if modality == "depth" else (4, 6, 3))
    assert array.dtype == np.float32 and array.flags.c_contiguous
    assert torch.equal(to_tensor(array), tensor)
    assert array[1, 2].tolist() == pytest.approx(tensor[0, ..., 1, 2].tolist())


@MODALITIES
def test_the_same_size_is_the_same_object(modality: str) -> None:
    tensor = values(modality, 5, 7)
    assert resize(tensor, (5, 7), modality) is tensor
    assert upsample(tensor, (5, 7), modality) is tensor


@MODALITIES
@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES)
def test_sizes_and_ranges(modality: str, size: tuple[int, int], other: tuple[int, int]) -> None:
    tensor = values(modality, *size)
    for made in (resize(tensor, other, modality), upsample(tensor, other, modality)):
        assert made.shape == (*tensor.shape[:-2], *other)
        if modality == "normal":
            lengths = made.norm(dim=1)
            assert torch.allclose(lengths[lengths > 0], torch.ones(()), atol=1e-5)
        else:
            assert made.min() >= -1e-6 and made.max() <= 1 + 1e-6


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["depth", "normal"]), SIZES, SIZES)
def test_maps_are_enlarged_without_new_values(modality: str, size: tuple[int, int], other: tuple[int, int]) -> None:
    tensor = values(modality, *size)
    assert columns(upsample(tensor, other, modality)) <= columns(tensor)


def test_each_pixel_of_a_map_becomes_a_block() -> None:
    tensor = values("depth", 3, 4)
    expected = tensor.repeat_interleave(2, dim=1).repeat_interleave(3, dim=2)
    assert torch.equal(upsample(tensor, (6, 12), "depth"), expected)
    assert not columns(resize(tensor, (6, 12), "depth")) <= columns(tensor)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1, width=32), SIZES, SIZES)
def test_a_constant_stays_constant(value: float, size: tuple[int, int], other: tuple[int, int]) -> None:
    for modality, shape in (("rgb", (1, 3, *size)), ("depth", (1, *size))):
        for change in (resize, upsample):
            assert torch.allclose(change(torch.full(shape, value), other, modality), torch.tensor(value), atol=1e-5)


def test_images_are_enlarged_by_lanczos_which_keeps_an_edge() -> None:
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 0.8
    sharp, smooth = upsample(edge, (16, 16), "rgb"), resize(edge, (16, 16), "rgb")
    assert torch.equal(sharp[:, 0], sharp[:, 2]) and torch.equal(sharp[:, :, 0], sharp[:, :, 9])
    # It overshoots beside the edge, and falls from lobe to lobe.
    assert sharp.max() > 0.82
    assert not torch.allclose(sharp, smooth, atol=1e-2)
    line = sharp[0, 0, 0]
    assert line[6] < 0.1 and line[9] > 0.7


def test_normals_that_cancel_have_no_surface() -> None:
    opposed = torch.tensor([1.0, -1.0]).repeat(4).view(1, 1, 1, 8) * torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    assert not resize(opposed, (1, 4), "normal").any()
    assert upsample(opposed, (1, 16), "normal").norm(dim=1).min() == 1


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.data())
def test_shrunk_masks_mark_every_pixel_that_stands_for_a_marked_one(
    size: tuple[int, int], other: tuple[int, int], data: st.DataObject
) -> None:
    row, column = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    mask = torch.zeros(size)
    mask[row, column] = 1
    shrunk = downsample_mask(mask, other)
    assert shrunk.shape == other
    for i in range(other[0]):
        for j in range(other[1]):
            over = i * size[0] < (row + 1) * other[0] and (i + 1) * size[0] > row * other[0]
            beside = j * size[1] < (column + 1) * other[1] and (j + 1) * size[1] > column * other[1]
            assert bool(shrunk[i, j]) == (over and beside)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_half_grey_is_not_marked(value: float) -> None:
    assert not downsample_mask(torch.full((9, 7), value), (4, 4)).any()
    assert downsample_mask(torch.full((9, 7), value + 0.51), (4, 4)).all()


def test_arrays_of_any_number_become_single_precision() -> None:
    tensor = to_tensor(np.arange(6).reshape(2, 3))
    assert tensor.dtype == torch.float32 and tensor.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_a_smaller_map_has_read_every_pixel() -> None:
    """Without antialiasing the first column of eight would not be read for one of two."""
    dot = torch.zeros(1, 3, 1, 8)
    dot[..., 0] = 1
    assert resize(dot, (1, 2), "rgb")[0, 0, 0, 0] > 0.1
    assert resize(dot[:, 0], (1, 2), "depth")[0, 0, 0] > 0.1
    facing = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(1, 1, 1, 8)
    facing[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    assert resize(facing, (1, 2), "normal")[0, 0, 0, 0] > 0.1


def test_the_nearest_pixel_is_that_below_the_centre() -> None:
    assert upsample(torch.tensor([[[0.0, 1.0, 2.0]]]), (1, 5), "depth").tolist() == [[[0, 0, 1, 2, 2]]]


def test_images_are_enlarged_as_by_pillow() -> None:
    tensor = values("rgb", 4, 6)
    made = upsample(tensor, (9, 15), "rgb")
    for plane, enlarged in zip(tensor[0], made[0], strict=True):
        picture = Image.fromarray(plane.numpy()).resize((15, 9), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(enlarged.numpy(), np.asarray(picture).clip(0, 1))
