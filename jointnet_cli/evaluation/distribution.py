"""How far pictures are from real ones as a set: Fréchet distances (Heusel et al., 2017), in the features of the judge.

The Inception network that gives FID its features knows photographs of a thousand things and has to be fetched; the judge of
`attributes` knows the worlds. Its distances compare with each other, and with no FID.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.attributes import Judge, shrink

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance

BATCH = 128


class JudgeFeatures(nn.Module):
    """The judge's last features before its questions, averaged over the picture."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.trunk = judge.net.trunk
        self.num_features = judge.net.head.in_features // 2

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] to features (B, 160)."""
        features: Tensor = self.trunk(shrink(pictures.float()) * 2 - 1)
        return features.mean(dim=(2, 3)).double()


class Distribution:
    """Real pictures, to which sets of others are compared.

    Args:
        judge: whose features count.
        real: batches of pictures (B, 3, H, W) in [0, 1].

    Raises:
        UserError: torchmetrics is not installed.
    """

    def __init__(self, judge: Judge, real: Iterable[Tensor]) -> None:
        self._metric = _metric(JudgeFeatures(judge))
        for pictures in real:
            self._metric.update(pictures, real=True)

    def distance(self, pictures: Tensor) -> float:
        """The Fréchet distance of pictures (N, 3, H, W) in [0, 1] from the real ones."""
        self._metric.reset()  # the real ones stay
        for batch in pictures.split(BATCH):
            self._metric.update(batch, real=False)
        return float(self._metric.compute())


def _metric(features: nn.Module) -> FrechetInceptionDistance:
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise UserError("Fréchet distances need torchmetrics", hint='pip install "jointnet-cli[eval]"') from error
    return FrechetInceptionDistance(features, reset_real_features=False, normalize=True)
