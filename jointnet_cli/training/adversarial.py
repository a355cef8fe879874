"""A discriminator of patches: it teaches a decoder likely detail where latents do not say which (Esser et al., 2021)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_WIDTHS = (32, 64, 128)


class PatchDiscriminator(nn.Module):
    """Says of every patch of pictures how real it looks (Isola et al., 2017): (B, 3, H, W) to (B, 1, H/8, W/8)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in _WIDTHS:
            norm = nn.GroupNorm(8, width) if layers else nn.Identity()
            layers += [nn.Conv2d(inputs, width, 4, stride=2, padding=1), norm, nn.LeakyReLU(0.2)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        judged: Tensor = self.layers(pictures)
        return judged


def adversarial_losses(discriminator: nn.Module, decoded: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a decoder and its discriminator lose to each other, in that order; both are trained on the sum.

    The first has no gradient for the discriminator, the second (hinge; Lim and Ye, 2017) none for the decoder.

    Args:
        discriminator: a `PatchDiscriminator`.
        decoded: (B, 3, H, W) reconstructions.
        pictures: (B, 3, H, W) the originals.
    """
    fixed = {name: weights.detach() for name, weights in discriminator.named_parameters()}
    fooled = -functional_call(discriminator, fixed, (decoded,)).mean()
    real, made = discriminator(pictures), discriminator(decoded.detach())
    return fooled, (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2
