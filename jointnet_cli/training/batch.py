"""What a stage trains on, a micro-batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from torch import Tensor

from jointnet_cli.data.dataset import LatentSet, order
from jointnet_cli.training.draws import Draws
from jointnet_cli.training.share import Share


@dataclass(frozen=True)
class Batch:
    """The samples of some places."""

    places: range
    clean: Tensor
    """(B, N, C, h, w) latents of the N branches; of an autoencoder's training pictures (B, 3, H, W)."""
    captions: list[str]
    framing: Tensor | None = None
    """(B, 4) what Stable Diffusion XL is told of a picture's origin: its height and width before it was resized, and the top
    and left of the crop, in pixels."""


class Source(Protocol):
    """Where the samples come from."""

    def batches(self, share: Share, step: int) -> Iterator[Batch]:
        """The micro-batches of a process from a step on, without end; a function of share and step alone."""


@dataclass(frozen=True)
class CachedSource:
    """Draws from a set of latents in memory."""

    data: LatentSet
    seed: int

    def batches(self, share: Share, step: int) -> Iterator[Batch]:
        for number in count(step):
            for micro in range(share.accumulation):
                yield self._batch(share.places(number, micro))

    def _batch(self, places: range) -> Batch:
        indices = order(len(self.data), places, self.seed)
        sides = Draws(self.seed, places, "mirrored").integers(len(self.data.latents))
        captions = [self.data.captions[index] for index in indices.tolist()]
        device = self.data.latents.device
        return Batch(places, self.data.latents[sides.to(device), indices.to(device)].float(), captions)
