"""Pictures by number: of a folder, of shards, and those that an evaluation made and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.captions import Caption, shard_caption
from jointnet_cli.evaluation.files import PICTURES, WORDS, digest, take_apart
from jointnet_cli.evaluation.shard_samples import ShardSamples
from jointnet_cli.output.image import read_image


@dataclass(frozen=True)
class PictureSet:
    """Pictures with their numbers; of a set that was made some may be missing."""

    key: str
    """What tells them from any other pictures, these ones remade included."""
    count: int
    read: Callable[[int], NDArray[np.floating]]
    """The picture of a number, (H, W, 3) sRGB in [0, 1]. Raises UserError: it is missing or cannot be read."""

    def tensor(self, number: int) -> Tensor:
        """(1, 3, H, W) in [0, 1]."""
        values = np.ascontiguousarray(self.read(number), np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None]


class ShardPictures(ShardSamples):
    """The pictures of shards, with their captions.

    Raises:
        UserError: no complete shards.
    """

    @cached_property
    def captions(self) -> list[Caption]:
        """The captions of all samples. Pictures are passed over undecoded."""
        return [shard_caption(raw) for raw in self.undecoded()]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What they are, ready for JSON."""
        return {"shards": self.source, "pictures": len(self), "digest": self.digest, **self.origin}

    def pictures(self) -> PictureSet:
        """All of their pictures."""
        return PictureSet(
            f"shards {self.digest}", len(self), lambda number: self.sample(number).image / np.float32(255)
        )


class FolderPictures:
    """The pictures of a folder and its subfolders in the order of their paths, without the maps beside them.

    Raises:
        UserError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
        self.folder = folder
        self.paths = [path for path in sorted(folder.rglob("*")) if _is_picture(path.relative_to(folder))]
        if not self.paths:
            raise UserError(f"no pictures in {folder}", hint=f"looked for {', '.join(PICTURES)}")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What they are, ready for JSON."""
        key = digest(self.folder, {str(path): path for path in self.paths})
        return {"folder": str(self.folder), "pictures": len(self.paths), "digest": key}

    def pictures(self, limit: int | None = None) -> PictureSet:
        """The first of them, or all."""
        count = len(self.paths) if limit is None else min(limit, len(self.paths))
        return PictureSet(f"folder {self.facts['digest']}", count, lambda number: read_image(self.paths[number]))


def _is_picture(path: Path) -> bool:
    """Whether a path within a folder is a picture, by its suffix and the words of its name."""
    word = take_apart(path).word
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in PICTURES and not hidden and (word is None or word in WORDS["image"])
