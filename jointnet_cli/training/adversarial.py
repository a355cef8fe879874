"""A discriminator on features of a classifier: it teaches a decoder likely detail where latents do not say which.

A discriminator of pixels alone learns slowly (after 240 batches it could not tell these decoders' pictures from true ones);
on features of a network that was trained on photos, twenty are enough (Projected GAN; Sauer et al., 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_WIDTH = 64


class FeatureDiscriminator(nn.Module):
    """Says of every place of every level of features (B, C, h, w) how real it looks: a list of (B, 1, h, w).

    Args:
        channels: of the levels, whose features have unit length.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.scales = [count**0.5 for count in channels]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, _WIDTH, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(_WIDTH, 1, 1))
            for count in channels
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        heads = zip(self.heads, self.scales, levels, strict=True)
        return [head(scale * level) for head, scale, level in heads]


def adversarial_losses(
    discriminator: nn.Module, decoded: Sequence[Tensor], real: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return what a decoder and its discriminator lose to each other, in that order; both are trained on the sum.

    The first has no gradient for the discriminator, the second (hinge; Lim and Ye, 2017) none for the decoder. Both are
    means over the levels.

    Args:
        discriminator: a `FeatureDiscriminator`.
        decoded: features of reconstructions, level by level.
        real: those of the originals.
    """
    fixed = {name: weights.detach() for name, weights in discriminator.named_parameters()}
    fooled = [-said.mean() for said in functional_call(discriminator, fixed, (decoded,))]
    told = [F.relu(1 - said).mean() for said in discriminator(real)]
    told += [F.relu(1 + said).mean() for said in discriminator([level.detach() for level in decoded])]
    return torch.stack(fooled).mean(), torch.stack(told).mean()
