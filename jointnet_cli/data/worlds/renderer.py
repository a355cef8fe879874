"""Worlds to images: RGB, planar depth, camera-space normals and object ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointnet_cli.data.worlds.objects import primitives
from jointnet_cli.data.worlds.raycast import Hits, trace
from jointnet_cli.data.worlds.shading import Shader, make_sky
from jointnet_cli.data.worlds.terrain import Terrain
from jointnet_cli.data.worlds.world import World, WorldCamera, image_size, intrinsics

# Extra samples at edges, symmetric about the pixel's centre, where depth and normals are taken.
_JITTER = ((0.36, 0.22), (-0.36, -0.22))
_DEPTH_EDGE, _COLOUR_EDGE = 1.15, 0.10
_BLOCK = 1 << 16  # rays traced at once


@dataclass
class Rendering:
    """A batch of B images of H x W pixels.

    `rgb` (B, 3, H, W) sRGB in [0, 1]; `depth` (B, H, W) planar Z in metres, +inf for the sky; `normals` (B, 3, H, W)
    unit vectors in camera space, x right, y up, z towards the viewer, zero for the sky; `object_ids` (B, H, W), 0 where
    no object shows; `surface` (B, H, W), values of `SurfaceKind`; `intrinsics` (B, 3, 3) in pixels.
    """

    rgb: Tensor
    depth: Tensor
    normals: Tensor
    object_ids: Tensor
    surface: Tensor
    intrinsics: Tensor


@dataclass
class _View:
    """Rays of one camera. Rows of `axes` are its right, up and forward vectors in the world."""

    height: int
    width: int
    focal: float
    axes: Tensor

    def rays(self, x: Tensor, y: Tensor) -> Tensor:
        """Return world rays (n, 3) of unit length along the camera's axis, through pixel coordinates (n,)."""
        right, up = (x - self.width / 2) / self.focal, (self.height / 2 - y) / self.focal
        return right[:, None] * self.axes[0] + up[:, None] * self.axes[1] + self.axes[2]


def _view(camera: WorldCamera, height: int, width: int, device: str) -> _View:
    pitch = math.radians(camera.pitch)
    c, s = math.cos(pitch), math.sin(pitch)
    axes = torch.tensor([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]], device=device)
    return _View(height, width, intrinsics(camera, (height, width))[0][0], axes)


def _neighbours(field: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return two views of a field: all but the last, and all but the first, along an axis."""
    last = field.shape[axis] - 1
    return field.narrow(axis, 0, last), field.narrow(axis, 1, last)


def _edges(rgb: Tensor, hits: Hits, owner: Tensor, height: int, width: int) -> Tensor:
    """Return pixels (k,) that differ from a neighbour in object, surface, depth or brightness."""
    depth = hits.depth.clamp(max=1e5).view(height, width)
    part = (owner * 8 + hits.surface).view(height, width)
    tone = rgb.mean(1).view(height, width)
    edge = torch.zeros(height, width, dtype=torch.bool, device=rgb.device)
    for axis in (0, 1):
        (part_a, part_b), (tone_a, tone_b) = _neighbours(part, axis), _neighbours(tone, axis)
        depth_a, depth_b = _neighbours(depth, axis)
        jump = torch.maximum(depth_a, depth_b) > torch.minimum(depth_a, depth_b) * _DEPTH_EDGE
        differs = (part_a != part_b) | jump | ((tone_a - tone_b).abs() > _COLOUR_EDGE)
        for side in _neighbours(edge, axis):
            side.logical_or_(differs)
    return edge.view(-1).nonzero()[:, 0]


def _grounds(world: World, terrain: Terrain, device: str) -> list[float]:
    """Height in metres under each object; boats and everything in the air start from the water where it is higher."""
    if not world.objects:
        return []
    x = torch.tensor([thing.position[0] for thing in world.objects], device=device)
    z = torch.tensor([thing.position[2] for thing in world.objects], device=device)
    heights = terrain.at(x, z).tolist()
    return [
        max(h, 0.0) if terrain.water and (t.kind == "boat" or t.position[1] > 0) else h
        for h, t in zip(heights, world.objects, strict=True)
    ]


class _Scene:
    """One world built on a device, ready to be rendered."""

    def __init__(self, world: World, device: str) -> None:
        self.terrain = Terrain(world, device)
        self.shapes = primitives(world, _grounds(world, self.terrain, device), device)
        zero = torch.zeros(1, device=device)
        foot = float(self.terrain.at(zero, zero))
        eye = (max(foot, 0.0) if self.terrain.water else foot) + world.camera.height
        self.origin = torch.tensor([0.0, eye, 0.0], device=device)
        self.shader = Shader(self.terrain, self.shapes, make_sky(world, device), self.origin)

    def look(self, rays: Tensor) -> tuple[Tensor, Hits]:
        """Return display colour (n, 3) and hits of rays (n, 3), a block at a time to bound memory."""
        blocks = []
        for block in rays.split(_BLOCK):
            hits = trace(self.terrain, self.shapes, self.origin, block)
            blocks.append((self.shader(hits, block), hits))
        if len(blocks) == 1:
            return blocks[0]
        parts = zip(*(vars(hits).values() for _, hits in blocks), strict=True)
        return torch.cat([rgb for rgb, _ in blocks]), Hits(*(torch.cat(part) for part in parts))


@torch.inference_mode()
def _render_one(world: World, height: int, width: int, device: str) -> tuple[Tensor, ...]:
    scene, view = _Scene(world, device), _view(world.camera, height, width, device)
    row, column = torch.arange(height, device=device), torch.arange(width, device=device)
    x, y = column.repeat(height) + 0.5, row.repeat_interleave(width) + 0.5
    rgb, hits = scene.look(view.rays(x, y))
    owner = torch.zeros_like(hits.primitive)
    if len(scene.shapes):
        owner = torch.where(hits.primitive >= 0, scene.shapes.owner[hits.primitive.clamp(min=0)], owner)

    edge = _edges(rgb, hits, owner, height, width)
    if len(edge):
        shift = torch.tensor(_JITTER, device=device)
        around, _ = scene.look(view.rays((x[edge] + shift[:, :1]).view(-1), (y[edge] + shift[:, 1:]).view(-1)))
        rgb[edge] = torch.cat([rgb[edge][None], around.view(len(_JITTER), -1, 3)]).mean(0)

    normals = hits.normal @ view.axes.T * rgb.new_tensor([1.0, 1.0, -1.0])  # forward is away from the viewer
    shape = (height, width)
    return (
        rgb.T.reshape(3, *shape), hits.depth.view(shape), normals.T.reshape(3, *shape), owner.view(shape),
        hits.surface.view(shape), torch.tensor(intrinsics(world.camera, shape), device=device),
    )  # fmt: skip


def render(worlds: Sequence[World], size: int | tuple[int, int] = 128, device: str | torch.device = "cpu") -> Rendering:
    """Render worlds at `size` (a side, or height and width) on a torch device.

    Each world is one batch of rays, traced on its own: what it looks like cannot depend on its neighbours. Raises
    `ValueError` without worlds.
    """
    if not worlds:
        raise ValueError("nothing to render: no worlds")
    height, width = image_size(size)
    images = [_render_one(world, height, width, str(device)) for world in worlds]
    return Rendering(*(torch.stack(part) for part in zip(*images, strict=True)))
