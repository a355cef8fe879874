"""The second layer of a scene: regions hidden by the foreground."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.scene.cameras import focal_length
from jointnet_cli.scene.scene import SKY, Layer, Scene

Array = NDArray[np.float32]


def fill_smoothly(values: Array, known: NDArray[np.bool_], *, wrap: bool = False) -> Array:
    """Return `values` (H, W, C) with what is not known (H, W) drawn from what is around it, nearer in finer detail.

    Pull and push: means of the known pixels at ever coarser sizes, each enlarged where the finer one knows nothing. With
    `wrap` the left edge goes on at the right one. If nothing is known the result is zero.
    """
    if known.all() or known.size == 1:
        return np.where(known[..., None], values, np.float32(0))
    coarse = fill_smoothly(*_halve(values, known), wrap=wrap)
    for axis, length in enumerate(known.shape):
        coarse = _double(coarse, axis, length, wrap=wrap and axis == 1)
    coarse[known] = values[known]
    return coarse


def _halve(values: Array, known: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """Return means of the known among every two by two pixels, and where there are any."""
    odd = [(0, length % 2) for length in known.shape]
    weight: Array = np.pad(known, odd).astype(np.float32)
    total: Array = np.pad(np.where(known[..., None], values, np.float32(0)), [*odd, (0, 0)])
    for axis in (0, 1):
        weight, total = _pair_sums(weight, axis), _pair_sums(total, axis)
    total /= np.maximum(weight, 1)[..., None]
    return total, weight > 0


def _pair_sums(array: Array, axis: int) -> Array:
    """Return sums of neighbours."""
    return array[0::2] + array[1::2] if axis == 0 else array[:, 0::2] + array[:, 1::2]


def _double(values: Array, axis: int, length: int, *, wrap: bool) -> Array:
    """Twice as long along an axis, linearly, and cut to a length."""
    values = np.moveaxis(values, axis, 0)
    padded = np.pad(values, [(1, 1), *[(0, 0)] * (values.ndim - 1)], mode="wrap" if wrap else "edge")
    doubled = np.empty((2 * len(values), *values.shape[1:]), np.float32)
    doubled[0::2] = 0.75 * values + 0.25 * padded[:-2]
    doubled[1::2] = 0.75 * values + 0.25 * padded[2:]
    return np.moveaxis(doubled[:length], 0, axis)


Mask = NDArray[np.bool_]

Floats = NDArray[np.float32]

Indices = NDArray[np.int64]

CUT = 1.3
"""Neighbours whose distances differ by more than this factor are no one surface: in the assumed range a noise of 0.01 in
disparity passes, also far away."""

_RAMP = 5
"""Pixels over which a model's edges may run from near to far."""

_NEAREST = 0.01
"""Quantile of the distances that counts as the nearest."""

_EVERYWHERE = 1e9  # pixels

_JOIN = 8
"""Pixels over which painted values turn into those beside them."""

_MOVE = 0.25
"""How far a viewer is taken to move, in units of the nearest distance."""

_DEEPER = 3
"""Factor of the depth that is painted over the depth that shows: what is left of the foreground would show through."""

_EDGE = 3
"""Pixels beside the foreground that have some of its color."""

Paint = Callable[[Floats, Floats, Mask], tuple[Floats, Floats]]
"""Fill a masked region (H, W): image (H, W, 3) and disparity (H, W), in and out."""


def add_layer(scene: Scene, paint: Paint) -> Scene:
    """Add a second layer behind the foreground of a scene.

    A viewer is taken to move by a quarter of the nearest distance. Where nothing hides anything the scene stays as it is.

    Args:
        scene: of one layer.
        paint: fills a masked region of an image and its disparity.
    """
    projection, distance = scene.projection, scene.front.distance
    reach = max(1, round(_MOVE * focal_length(projection, distance.shape[1])))
    shown, masked = (
        dilate(occluders(distance, CUT, pixels, wrap=projection.wrap), _EDGE, wrap=projection.wrap)
        for pixels in (reach, _DEEPER * reach)
    )
    if not shown.any():
        return scene
    image, disparity = paint(*extend_background(scene, masked), masked)
    return replace(scene, behind=background_layer(scene, masked, image, disparity, shown=shown))


def occluders(distance: Floats, cut: float, reach: int, *, wrap: bool = False) -> Mask:
    """Return the foreground close to where it ends, (H, W): what lies behind it shows to a viewer who moves.

    Where neighbours differ in distance (H, W) by more than the factor `cut`, the nearer one is marked, and from there what is
    nearer than the farther one by that factor: `reach` pixels deep where the nearest things stand before the sky, elsewhere as
    many as shift likewise when the viewer moves. With `wrap` the last column is next to the first.
    """
    return _far_side(distance, cut, reach, wrap) > 0


def dilate(mask: Mask, steps: int, *, wrap: bool = False) -> Mask:
    """Return a mask (H, W) with the pixels up to `steps` pixels beside it."""
    for _ in range(steps):
        grown = mask.copy()
        for here, beside in _pairs(mask.shape, wrap):
            grown[here] |= mask[beside]
        mask = grown
    return mask


def grow_ring(distance: Floats, shown: Mask, cut: float, steps: int, *, wrap: bool = False) -> Mask:
    """Return the pixels shown (H, W) and a ring of `steps` pixels around them, where that is not nearer by `cut`."""
    for _ in range(steps):
        grown = shown.copy()
        for here, beside in _pairs(shown.shape, wrap):
            grown[here] |= shown[beside] & (distance[here] * np.float32(cut) >= distance[beside])
        shown = grown
    return shown


def extend_background(scene: Scene, mask: Mask) -> tuple[Floats, Floats]:
    """Image (H, W, 3) and disparity (H, W) of the front, with what lies beyond the masked foreground carried on there."""
    values = _values(scene)
    _, beyond = _far_border(scene.front.distance, mask, scene.projection.wrap)
    if beyond.any():
        values[mask] = fill_smoothly(values, beyond, wrap=scene.projection.wrap)[mask]
    return values[..., :3], values[..., 3]


def background_layer(scene: Scene, mask: Mask, image: Floats, disparity: Floats, *, shown: Mask | None = None) -> Layer:
    """Return what was painted for the masked foreground as a surface behind it that joins what lies beside it.

    Its disparity is at most the front's, and at most that of the far side of the mask's border, carried on smoothly into the
    mask. Close to that side painted values pass over into those beyond it. Outside of the mask it is the front.

    Args:
        scene: with the front.
        mask: (H, W), what was painted: foreground, and some pixels of the far side.
        image: (H, W, 3) sRGB in [0, 1], painted.
        disparity: (H, W) in [0, 1], painted.
        shown: (H, W), the part of the mask that the surface has; `None` is all of it.
    """
    front, wrap = scene.front, scene.projection.wrap
    values = _values(scene)
    given = values[..., 3].copy()
    border, beyond = _far_border(front.distance, mask, wrap)
    painted = np.concatenate([image, disparity[..., None]], axis=-1)
    nearest = given
    if border.any():
        outside = fill_smoothly(values, beyond, wrap=wrap)
        inside = mask & ~dilate(border, _JOIN, wrap=wrap)
        painted += fill_smoothly(
            np.where(border[..., None], outside - painted, np.float32(0)), border | inside, wrap=wrap
        )
        nearest = np.minimum(given, outside[..., 3])
    values[mask] = painted[mask]
    nearness = np.minimum(values[..., 3], nearest).clip(0, 1)
    distance = np.where(nearness > SKY, np.maximum(scene.scale.distance(nearness), front.distance), np.float32(np.inf))
    distance = np.where(mask, distance, front.distance)
    return Layer(values[..., :3].clip(0, 1), distance, mask if shown is None else mask & shown)


def _values(scene: Scene) -> Floats:
    """Return (H, W, 4) colour and disparity of the front, that of the sky 0."""
    distance = scene.front.distance
    disparity = np.where(np.isinf(distance), np.float32(0), scene.scale.disparity(distance).clip(0, 1))
    return np.concatenate([scene.front.image, disparity[..., None]], axis=-1)


def _far_side(distance: Floats, cut: float, reach: float, wrap: bool, within: Mask | None = None) -> Floats:
    """(H, W) how far what lies behind each pixel is that `occluders` marks, by the edge it was reached from; 0 elsewhere."""
    seen = distance[np.isfinite(distance)]
    shift = reach * (np.quantile(seen, _NEAREST) if seen.size else 1)  # pixels, of what is at 1 m before the sky
    limit = distance * np.float32(cut)
    if within is not None:
        limit = np.where(within, limit, np.float32(np.inf))
    nearness, bound = 1 / distance.reshape(-1), limit.reshape(-1)
    far = np.zeros(distance.size, np.float32)
    index = np.arange(distance.size).reshape(distance.shape)
    moved = np.concatenate(
        [index[beside][distance[beside] > limit[here]] for here, beside in _pairs(distance.shape, wrap)]
    )
    behind = distance.reshape(-1)
    step = 0
    while len(moved):
        reached = []
        for start, target in _steps(np.unique(moved), distance.shape, wrap):
            value = behind[start]
            deep = shift * (nearness[target] - 1 / value) > step + 0.5
            better = (value > bound[target]) & (value > far[target]) & ((step < _RAMP) | (far[target] == 0)) & deep
            np.maximum.at(far, target[better], value[better])
            reached.append(target[better])
        moved, behind, step = np.concatenate(reached), far, step + 1
    return far.reshape(distance.shape)


def _far_border(distance: Floats, mask: Mask, wrap: bool) -> tuple[Mask, Mask]:
    """Return masked pixels next to the far side, and the pixels of the far side next to the mask."""
    far = np.maximum(_far_side(distance, CUT, _EVERYWHERE, wrap, within=mask), distance)
    border, beyond = np.zeros_like(mask), np.zeros_like(mask)
    for here, beside in _pairs(mask.shape, wrap):
        meets = mask[here] & ~mask[beside] & (distance[beside] * np.float32(CUT) >= far[here])
        border[here] |= meets
        beyond[beside] |= meets
    return border, beyond


def _pairs(shape: tuple[int, ...], wrap: bool) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield slices of all pixels that have a neighbour on one side, and of these neighbours, for the four sides."""
    whole, first, last, but_first, but_last = np.s_[:], np.s_[:1], np.s_[-1:], np.s_[1:], np.s_[:-1]
    both: list[Any] = [((but_first, whole), (but_last, whole)), ((whole, but_first), (whole, but_last))]
    if wrap:
        both.append(((whole, first), (whole, last)))
    for here, beside in both:
        yield here, beside
        yield beside, here


def _steps(pixels: Indices, shape: tuple[int, ...], wrap: bool) -> Iterator[tuple[Indices, Indices]]:
    """Of flat indices those that have a neighbour on one side, and these neighbours, for the four sides."""
    height, width = shape
    rows, columns = np.divmod(pixels, width)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        row, column = rows + down, columns + right
        if wrap:
            column %= width
        there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        yield pixels[there], (row * width + column)[there]
