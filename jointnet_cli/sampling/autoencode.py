"""Between a canvas of latents and maps, closed left to right where the canvas is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.known import Region
from jointnet_cli.sampling.pieces import in_pieces, piece_width


@torch.inference_mode()
def decode_canvas(model: JointModel, latents: Tensor, *, wrap: bool = False) -> Tensor:
    """Decode latents (B, C, h, w) to maps (B, 3, H, W).

    With `wrap` every convolution sees the left edge beyond the right one: rolled latents give the rolled maps. A canvas too
    large for one piece is decoded in several, see `pieces.py`.
    """
    height, width = latents.shape[-2:]
    if model.vae is None:
        return model.decode(latents)
    if (piece := piece_width(height, width)) < width:
        rows = (in_pieces(model.vae, model.decode, row, width, piece, wrap=wrap) for row in latents.split(1))
        return torch.cat(list(rows))
    if not wrap:
        return model.decode(latents)
    with _closed(model.vae):
        return model.decode(latents)


@torch.inference_mode()
def encode_canvas(model: JointModel, maps: Tensor, *, wrap: bool = False) -> Tensor:
    """Encode maps (1, 3, H, W) in [-1, 1] to latents (C, h, w), `wrap` and large canvases as in `decode_canvas`."""
    height, width = (side // model.factor for side in maps.shape[-2:])
    if model.vae is None:
        return model.encode(maps)[0]
    if (piece := piece_width(height, width)) < width:
        return in_pieces(model.vae, model.encode, maps, width, piece, wrap=wrap)[0]
    if not wrap:
        return model.encode(maps)[0]
    with _closed(model.vae):
        return model.encode(maps)[0]


def encode_region(model: JointModel, maps: Tensor, unknown: Tensor, *, wrap: bool = False) -> Region:
    """The region of a map (1, 3, H, W) in [-1, 1] that is given outside of a mask (H, W), 1 = unknown.

    A latent pixel is unknown if any of its pixels is. `wrap` as in `decode_canvas`.
    """
    return Region(encode_canvas(model, maps, wrap=wrap), F.max_pool2d((unknown > 0.5).float()[None], model.factor))


@contextmanager
def _closed(network: nn.Module) -> Iterator[None]:
    """Let the convolutions of a network pad their columns with those of the other side."""
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.padding[1]]
    halving = [module.conv for module in network.modules() if isinstance(module, Downsample2D) and not module.padding]
    paddings = [conv.padding for conv in convs]
    hooks = []
    try:
        for conv in convs:
            above, beside = int(conv.padding[0]), int(conv.padding[1])
            hooks.append(conv.register_forward_pre_hook(partial(_pad_columns, beside)))
            conv.padding = (above, 0)
        hooks += [conv.register_forward_pre_hook(_close_column) for conv in halving]
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for conv, padding in zip(convs, paddings, strict=True):
            conv.padding = padding


def _pad_columns(count: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (F.pad(inputs[0], (count, count, 0, 0), mode="circular"),)


def _close_column(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    """An encoder's halving layer has padded one column of zeros on the right itself: the first column takes its place."""
    return (torch.cat([inputs[0][..., :-1], inputs[0][..., :1]], dim=-1),)
