"""The channels of an OpenEXR file, and what their names mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError, did_you_mean
from jointnet_cli.files.color_space import light_matrix

IMAGE_LAYERS = ("", "combined")
"""Names of layers that hold the image, in lower case; "" has none."""

_DEPTHS = ("disparity", "z", "depth")
"""What a channel of depth, or its layer, is called, best first."""


class Exr(NamedTuple):
    """What a file holds: arrays by channel name, and the headers' other attributes."""

    path: Path
    channels: dict[str, NDArray[Any]]
    """(H, W) of the display window. Outside of its data window a channel of colour is black, any other NaN."""
    attributes: dict[str, Any]
    views: tuple[str, ...] = ()
    """The names of the eyes of a stereo file; the first is the one that is read."""
    notes: tuple[str, ...] = ()
    """For the user: what had to be decided to make one image of the file."""

    def depths(self) -> list[str]:
        """Return the channels whose name means depth, best first.

        In this order: `disparity` (alone, or with `.Y`, `.V`, `.Z`), `Z`, and `depth` (the same). Of equals the one with the
        fewest layers in its name comes first, then the alphabet decides. A layer with all of `X`, `Y`, `Z`
        is a vector (a normal, a position, a motion), and no depth. The only channel of a file counts under any
        name without a layer but `A` and `X`.
        """
        ranked = sorted((rank, name) for name in self.channels if (rank := self._depth_rank(name)) is not None)
        if not ranked and len(self.channels) == 1:
            (name,) = self.channels
            return [] if "." in name or name in ("A", "X") else [name]
        return [name for _, name in ranked]

    def layers(self, axes: str, *names: str) -> list[tuple[str, ...]]:
        """Return the channels, in the order of `axes`, of each layer called one of `names`, best first, in lower case.

        `ViewLayer.Normal.X` is the channel `X` of the layer `Normal` of `ViewLayer`. Case is ignored; the layer without a name
        is called "". Layers with the fewest dots come first, then the order of `names`, then the alphabet.
        """
        found = []
        for prefix, channels in self._prefixes(axes).items():
            words = self._words(prefix.removesuffix("."))
            if words is not None and (name := "".join(words[-1:])) in names:
                found.append((len(words), names.index(name), channels))
        return [channels for *_, channels in sorted(found)]

    def require_channel(self, name: str) -> None:
        """Raise `UserError` if there is no such channel; it names the nearest."""
        if name not in self.channels:
            raise UserError(f"{self.path} has no channel {name}", _nearest(name, self.channels))

    def vector_layer(self, name: str) -> tuple[str, ...]:
        """Return the channels `X`, `Y`, `Z` of a layer. Raises `UserError` if there is no such layer; it names the nearest."""
        vectors = {prefix.removesuffix("."): channels for prefix, channels in self._prefixes("xyz").items()}
        if name not in vectors:
            message = f"{self.path} has no layer {name} with channels X, Y and Z"
            raise UserError(message, _nearest(name, vectors or self.channels))
        return vectors[name]

    def stack(self, channels: Iterable[str]) -> NDArray[np.float32]:
        """Return these channels as (H, W, C)."""
        planes = [self.channels[name] for name in channels]
        return np.stack(planes, axis=-1, dtype=np.float32, casting="unsafe")

    def light(self, channels: Iterable[str]) -> NDArray[np.float32]:
        """Return red, green and blue as linear light of sRGB's primaries, (H, W, 3); the file may state others."""
        stated = self.attributes.get("chromaticities")
        matrix = None if stated is None else light_matrix(stated)
        return self.stack(channels) if matrix is None else self.stack(channels) @ matrix.T

    def _prefixes(self, axes: str) -> dict[str, tuple[str, ...]]:
        """By prefix, with its dot, the channels of every layer that has all of `axes` (lower case), in any case."""
        by_prefix: dict[str, dict[str, str]] = {}
        for name in self.channels:
            layer, dot, axis = name.rpartition(".")
            by_prefix.setdefault(layer + dot, {})[axis.lower()] = name
        return {
            prefix: tuple(there[axis] for axis in axes)
            for prefix, there in by_prefix.items()
            if set(axes) <= there.keys()
        }

    def _words(self, name: str) -> list[str] | None:
        """Return the parts of a name in lower case without the view that is read; `None` for a name of another view."""
        words = name.split(".")
        if any(word in self.views[1:] for word in words):
            return None
        return [word.lower() for word in words if word not in self.views]

    def _depth_rank(self, name: str) -> tuple[int, int] | None:
        """Return a sort key, the best name first; `None` if the name does not mean depth."""
        words = self._words(name)
        if not words or any(name in vector for vector in self._prefixes("xyz").values()):
            return None
        alone = len(words) == 1
        quantity = words[-1] if alone else words[-2] if words[-1] in ("z", "v", "y") else None
        if quantity not in _DEPTHS or (quantity == "z" and not alone):
            return None
        return _DEPTHS.index(quantity), len(words)


def _nearest(name: str, known: Collection[str]) -> str:
    """Return a hint: the nearest of the known names, and all of them."""
    return " ".join(filter(None, [did_you_mean(name, known), f"it has {', '.join(known)}"]))
