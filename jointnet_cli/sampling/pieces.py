"""A wide canvas through a convolutional network piece by piece, so that memory does not grow with the width.

Group norms take their statistics over all they see, so pieces by themselves would differ in tone where they meet. Hence two
passes: the first measures the statistics of every norm in every piece, the second uses their mean over all pieces in each.
That is near the whole, not equal to it: what a later norm sees in the first pass went through norms that knew a piece alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

AREA = 8192
"""Latent pixels that go through an autoencoder at once: two tiles of Stable Diffusion."""
MARGIN = 20
"""Latent columns that a piece sees beside its own: about what the convolutions of Stable Diffusion's decoder reach."""

Apply = Callable[[Tensor], Tensor]


def piece_width(height: int, width: int) -> int:
    """Latent columns of a piece; all of them where the canvas is small enough."""
    return width if height * width <= AREA else max(MARGIN, AREA // height - 2 * MARGIN)


def in_pieces(network: nn.Module, apply: Apply, canvas: Tensor, cells: int, piece: int, *, wrap: bool) -> Tensor:
    """What `apply` makes of a canvas, a piece at a time, with the statistics of the whole.

    Args:
        network: holds the norms that `apply` runs through.
        apply: from (B, C, H, W) to (B, C', H', W'), its result as many times wider or narrower as for the whole.
        canvas: (B, C, H, W).
        cells: the canvas's width in latent columns; in it and in the result a cell has a whole number of columns.
        piece: cells at once.
        wrap: whether the left edge continues the right edge.
    """
    statistics = Statistics()
    with statistics.measured(network):
        _pass(apply, canvas, cells, piece, wrap)
    with statistics.fixed(network):
        return _pass(apply, canvas, cells, piece, wrap)


def _pass(apply: Apply, canvas: Tensor, cells: int, piece: int, wrap: bool) -> Tensor:
    unit = canvas.shape[-1] // cells
    results = []
    for left in range(0, cells, piece):
        right = min(left + piece, cells)
        before, after = (MARGIN, MARGIN) if wrap else (min(MARGIN, left), min(MARGIN, cells - right))
        columns = torch.arange((left - before) * unit, (right + after) * unit, device=canvas.device)
        result = apply(canvas[..., columns % canvas.shape[-1]])
        scale = result.shape[-1] / (before + right - left + after)
        results.append(result[..., round(before * scale) : round((before + right - left) * scale)])
    return torch.cat(results, dim=-1)


@dataclass
class Statistics:
    """Mean and mean square of the groups of every norm, over all pieces."""

    sums: dict[nn.Module, tuple[Tensor, Tensor, int]] = field(default_factory=dict)

    @contextmanager
    def measured(self, network: nn.Module) -> Iterator[None]:
        """Collect them while pieces go through the network."""
        hooks = [norm.register_forward_pre_hook(self._measure) for norm in _norms(network)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def fixed(self, network: nn.Module) -> Iterator[None]:
        """Let all norms use them instead of their own."""
        norms = _norms(network)
        try:
            for norm in norms:
                norm.forward = partial(self._normalize, norm)  # type: ignore[method-assign]
            yield
        finally:
            for norm in norms:
                norm.__dict__.pop("forward", None)

    def _measure(self, norm: nn.GroupNorm, inputs: tuple[Tensor, ...]) -> None:
        groups = inputs[0].unflatten(1, (norm.num_groups, -1)).flatten(2).float()
        mean, square, count = self.sums.get(norm, (0.0, 0.0, 0))
        columns = inputs[0].shape[-1]
        mean = mean + columns * groups.mean(dim=2)
        self.sums[norm] = (mean, square + columns * groups.square().mean(dim=2), count + columns)

    def _normalize(self, norm: nn.GroupNorm, hidden: Tensor) -> Tensor:
        sums, squares, count = self.sums[norm]
        mean, variance = sums / count, squares / count - (sums / count).square()
        scale = (variance + norm.eps).rsqrt()
        per_channel = hidden.shape[1] // norm.num_groups
        # The norm of an attention layer sees (B, C, positions).
        shape = (-1, hidden.shape[1], *[1] * (hidden.ndim - 2))
        scale, mean = (each.repeat_interleave(per_channel, dim=1).to(hidden.dtype) for each in (scale, mean))
        scale, mean, weight, bias = (each.view(shape) for each in (scale, mean, norm.weight, norm.bias))
        return (hidden - mean) * scale * weight + bias


def _norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
