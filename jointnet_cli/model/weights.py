"""Which files hold a network's weights, and the tensors in them. Files are read as data: nothing in them is executed."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.text import from_json, open_regular

if TYPE_CHECKING:
    from torch import Tensor


MOST_HEADER = 100_000_000
"""Bytes of a safetensors file's header at most, as in safetensors itself."""


def weights_hash(*folders: str | Path) -> str:
    """Return SHA-256 over the weights of folders, in order of path, cut to twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for folder in folders:
        files = [path for suffix in ("safetensors", "bin") for path in Path(folder).rglob(f"*.{suffix}")]
        for path in sorted(files):
            digest.update(path.relative_to(folder).as_posix().encode())
            with open_regular(path) as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Kind:
    """A format of weights, as diffusers and transformers name its files."""

    safetensors: bool
    variant: str | None

    @property
    def patterns(self) -> list[str]:
        """Names of the files, whole or in shards, for `fnmatch`."""
        suffix = "safetensors" if self.safetensors else "bin"
        shard, variant = "-?????-of-?????", f".{self.variant}"
        endings = [variant, variant + shard, shard + variant] if self.variant else ["", shard]
        stems = ("diffusion_pytorch_model", "model" if self.safetensors else "pytorch_model")
        return [f"{stem}{ending}.{suffix}" for stem in stems for ending in endings]


KINDS = (Kind(True, None), Kind(True, "fp16"), Kind(False, None), Kind(False, "fp16"))
"""Best first: safetensors before pickles, full before half precision."""


@dataclass(frozen=True)
class WeightFiles:
    """The files of one network's weights, all of one kind."""

    files: list[Path]
    kind: Kind


def find_weights(folder: Path) -> WeightFiles | None:
    """Return the best kind of weights that a network's folder holds."""
    for kind in KINDS:
        files = sorted({path for pattern in kind.patterns for path in folder.glob(pattern)})
        if files:
            return WeightFiles(files, kind)
    return None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a `.bin` that holds tensors and nothing else.

    Raises:
        UserError: the file is damaged, or a pickle that asks for anything but tensors.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        with reading(path, "copy or download it again"):
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
    return _unpickle(path, "cpu")


def count_parameters(path: Path) -> int:
    """Return numbers in a file of weights; of a safetensors file only the header is read."""
    if path.suffix != ".safetensors":
        return sum(tensor.numel() for tensor in _unpickle(path, "meta").values())
    with reading(path, "copy or download it again"), open_regular(path) as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = from_json(stream.read(min(length, MOST_HEADER)))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _unpickle(path: Path, device: str) -> dict[str, Tensor]:
    import torch

    with reading(path, "use a safetensors file", cause="it is damaged or holds more than tensors"):
        tensors = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} holds more than tensors", hint="use a safetensors file")
    return tensors


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep diffusers and transformers from drawing bars on stderr, which belongs to the caller, as they load or save."""
    import diffusers
    import transformers

    logs = [library.utils.logging for library in (diffusers, transformers)]
    shown = [log for log in logs if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()
