"""From a canvas of latents to maps, closed left to right where the canvas is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.model.checkpoint import JointModel


@torch.inference_mode()
def decode_canvas(model: JointModel, latents: Tensor, *, wrap: bool = False) -> Tensor:
    """Decode latents (B, C, h, w) to maps (B, 3, H, W) in one piece.

    Not in several: the decoder's group norms take their statistics over all it sees, so pieces differ in tone where they meet.
    With `wrap` every convolution sees the left edge beyond the right one: rolled latents give the rolled maps.
    """
    if not wrap:
        return model.decode(latents)
    with _closed(model.vae):
        return model.decode(latents)


@contextmanager
def _closed(network: nn.Module) -> Iterator[None]:
    """Let the convolutions of a network pad their columns with those of the other side."""
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.padding[1]]
    paddings = [conv.padding for conv in convs]
    hooks = []
    try:
        for conv in convs:
            above, beside = int(conv.padding[0]), int(conv.padding[1])
            hooks.append(conv.register_forward_pre_hook(partial(_pad_columns, beside)))
            conv.padding = (above, 0)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for conv, padding in zip(convs, paddings, strict=True):
            conv.padding = padding


def _pad_columns(count: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (F.pad(inputs[0], (count, count, 0, 0), mode="circular"),)
