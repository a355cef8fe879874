"""Arrays of users and tensors of models, and both at other sizes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.modality import unit_normals

Size = tuple[int, int]


def to_tensor(array: NDArray[np.float32]) -> Tensor:
    """(H, W, 3) or (H, W) to (1, 3, H, W) or (1, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    return (tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor)[None]


def to_array(values: Tensor) -> NDArray[np.float32]:
    """(1, 3, H, W) or (1, H, W) to (H, W, 3) or (H, W)."""
    values = values[0].permute(1, 2, 0) if values.ndim == 4 else values[0]
    return values.float().contiguous().numpy()


def resize(values: Tensor, size: Size, modality: str) -> Tensor:
    """A physical array, RGB or normals (1, 3, H, W) or disparity (1, H, W), smoothly at another size."""
    if values.shape[-2:] == size:
        return values
    if modality == "depth":
        return F.interpolate(values[:, None], size, mode="bilinear", antialias=True)[:, 0]
    if modality == "normal":
        return unit_normals(F.interpolate(values, size, mode="bilinear", antialias=True))
    return F.interpolate(values, size, mode="bicubic", antialias=True).clamp(0, 1)


def enlarge(values: Tensor, size: Size, modality: str) -> Tensor:
    """The same before refinement: RGB by Lanczos, dense maps by the nearest pixel, which invents no values (paper 5.2)."""
    if values.shape[-2:] == size:
        return values
    if modality == "rgb":
        return torch.stack([_lanczos(plane, size) for plane in values[0]])[None].clamp(0, 1)
    planes = values if values.ndim == 4 else values[:, None]
    return F.interpolate(planes, size, mode="nearest-exact").view(*values.shape[:-2], *size)


def shrink_mask(mask: Tensor, size: Size) -> Tensor:
    """A mask (H, W) at another size: a pixel is marked if any pixel it stands for is."""
    return F.adaptive_max_pool2d((mask > 0.5).float()[None], size)[0]


def _lanczos(plane: Tensor, size: Size) -> Tensor:
    picture = Image.fromarray(plane.contiguous().numpy()).resize(size[::-1], Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.float32).view(size)
