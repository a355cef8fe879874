"""Maps to latents and back: normalisation, closed canvases, wide canvases in strips."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.devices import STRIP_AREA, STRIP_MARGIN

if TYPE_CHECKING:
    from jointnet_cli.model.checkpoint import JointModel


def encode_maps(vae: AutoencoderKL | None, maps: Tensor) -> Tensor:
    """Encode maps (B, 3, H, W) in [-1, 1] to normalised latents (B, C, h, w), the posterior's mean.

    In the VAE's own type, even where a network trains in mixed precision.
    """
    if vae is None:
        return maps
    mean, scale = _normalisation(vae)
    with torch.autocast(vae.device.type, enabled=False):
        latents: Tensor = (vae.encode(maps.to(vae.device, vae.dtype)).latent_dist.mean - mean) * scale
        return latents


def encoder_hash(vae: AutoencoderKL | None) -> str:
    """Return twelve hexadecimal digits that name an encoder: latents of the same name are the same.

    Neither the decoder nor the type that the weights are stored in makes a difference.
    """
    if vae is None:
        return "pixels"
    digest = hashlib.sha256(repr([vae.config.get(key) for key in _NORMALISATION]).encode())
    for name, weights in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(weights.float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]


def decode_latents(vae: AutoencoderKL | None, latents: Tensor) -> Tensor:
    """Decode latents (B, C, h, w) to maps (B, 3, H, W), about [-1, 1]."""
    if vae is None:
        return latents.float()
    mean, scale = _normalisation(vae)
    maps: Tensor = vae.decode(latents.to(vae.device, vae.dtype) / scale + mean).sample.float()
    return maps


_NORMALISATION = ("latents_mean", "latents_std", "shift_factor", "scaling_factor")


def _normalisation(vae: AutoencoderKL) -> tuple[Tensor | float, Tensor | float]:
    """Return what is taken off the VAE's latents and what they are then multiplied by: numbers, or (1, C, 1, 1)."""
    config = vae.config
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return config.shift_factor or 0.0, config.scaling_factor
    means, stds = (torch.tensor(values, dtype=vae.dtype, device=vae.device).view(1, -1, 1, 1) for values in (mean, std))
    return means, config.scaling_factor / stds


Apply = Callable[[Tensor], Tensor]


def strip_width(height: int, width: int) -> int:
    """Return latent columns of a piece; all of them where the canvas is small enough."""
    return width if height * width <= STRIP_AREA else max(STRIP_MARGIN, STRIP_AREA // height - 2 * STRIP_MARGIN)


def apply_in_strips(network: nn.Module, apply: Apply, canvas: Tensor, cells: int, piece: int, *, wrap: bool) -> Tensor:
    """Return what `apply` makes of a canvas, a piece at a time, with the statistics of the whole.

    Args:
        network: holds the norms that `apply` runs through.
        apply: from (B, C, H, W) to (B, C', H', W'), its result as many times wider or narrower as for the whole.
        canvas: (B, C, H, W).
        cells: the canvas's width in latent columns; in it and in the result a cell has a whole number of columns.
        piece: cells at once.
        wrap: whether the left edge continues the right edge.
    """
    statistics = GroupNormStatistics()
    with statistics.measured(network):
        _pass(apply, canvas, cells, piece, wrap)
    with statistics.fixed(network):
        return _pass(apply, canvas, cells, piece, wrap)


def _pass(apply: Apply, canvas: Tensor, cells: int, piece: int, wrap: bool) -> Tensor:
    unit = canvas.shape[-1] // cells
    results = []
    for left in range(0, cells, piece):
        right = min(left + piece, cells)
        before, after = [STRIP_MARGIN] * 2 if wrap else (min(STRIP_MARGIN, left), min(STRIP_MARGIN, cells - right))
        columns = torch.arange((left - before) * unit, (right + after) * unit, device=canvas.device)
        result = apply(canvas[..., columns % canvas.shape[-1]])
        scale = result.shape[-1] / (before + right - left + after)
        results.append(result[..., round(before * scale) : round((before + right - left) * scale)])
    return torch.cat(results, dim=-1)


@dataclass
class GroupNormStatistics:
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


@torch.inference_mode()
def decode_canvas(model: JointModel, latents: Tensor, *, wrap: bool = False) -> Tensor:
    """Decode latents (B, C, h, w) to maps (B, 3, H, W).

    With `wrap` every convolution sees the left edge beyond the right one: rolled latents give the rolled maps. A canvas too
    large for one piece is decoded in strips, see `apply_in_strips`.
    """
    height, width = latents.shape[-2:]
    return _apply(model, model.decode, latents, height, width, wrap)


@torch.inference_mode()
def encode_canvas(model: JointModel, maps: Tensor, *, wrap: bool = False) -> Tensor:
    """Encode maps (1, 3, H, W) in [-1, 1] to latents (C, h, w), `wrap` and large canvases as in `decode_canvas`."""
    height, width = (side // model.factor for side in maps.shape[-2:])
    return _apply(model, model.encode, maps, height, width, wrap)[0]


def _apply(model: JointModel, apply: Apply, canvas: Tensor, height: int, width: int, wrap: bool) -> Tensor:
    """Apply one half of the autoencoder to a canvas of a height and width in latent pixels."""
    piece = strip_width(height, width)
    if model.vae is None or (piece >= width and not wrap):
        return apply(canvas)
    if piece < width:
        vae = model.vae
        return torch.cat([apply_in_strips(vae, apply, row, width, piece, wrap=wrap) for row in canvas.split(1)])
    with _closed(model.vae):
        return apply(canvas)


@contextmanager
def _closed(network: nn.Module) -> Iterator[None]:
    """Let the convolutions of a network see the columns of the other side beside the first and the last."""
    padded = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.padding[1]]
    halving = [module.conv for module in network.modules() if isinstance(module, Downsample2D) and not module.padding]
    hooks = [conv.register_forward_hook(_close_ends) for conv in padded]
    hooks += [conv.register_forward_pre_hook(_close_column) for conv in halving]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _close_ends(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Replace the outer columns of a convolution's output, which saw zeros, by those of a strip across the seam."""
    assert isinstance(conv, nn.Conv2d)
    (canvas,), reach = inputs, int(conv.padding[1])
    strip = torch.cat([canvas[..., -2 * reach :], canvas[..., : 2 * reach]], dim=-1)
    closed = F.conv2d(strip, conv.weight, conv.bias, conv.stride, conv.padding)
    output[..., -reach:], output[..., :reach] = closed[..., reach : 2 * reach], closed[..., 2 * reach : 3 * reach]
    return output


def _close_column(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    """Replace the zeros that an encoder's halving layer has padded on the right by the first column."""
    return (torch.cat([inputs[0][..., :-1], inputs[0][..., :1]], dim=-1),)
