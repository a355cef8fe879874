"""A height field around the camera: dense near it, sparse far away, with slopes, albedo and baked light."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from jointnet_cli.data.worlds.biomes import Ground, ground
from jointnet_cli.data.worlds.grammar import FIRM, WATERY
from jointnet_cli.data.worlds.world import World

SIDE = 256
HALF_WIDTH, DEPTH, BEHIND = 300.0, 400.0, 8.0  # metres: to each side, ahead of and behind the camera
BEND = 0.3  # u = w (1 + b) / (w + b): cells of 0.5 m at the camera, 7 m at the far edge


def _unbend(u: Tensor) -> Tensor:
    return u * BEND / (1 + BEND - u.abs())


@cache
def _axes(device: str) -> tuple[Tensor, Tensor]:
    """World x of each column and z of each row (SIDE,)."""
    step = torch.arange(SIDE, device=device) / (SIDE - 1)
    return _unbend(step * 2 - 1) * HALF_WIDTH, _unbend(step) * DEPTH - BEHIND


def _read(field: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Bilinear values (c, n) of a field (1, c, SIDE, SIDE) at world points (n,).

    Clamped to the grid: beyond its edge the ground goes on level.
    """
    u = x * (1 / HALF_WIDTH)
    v = ((z + BEHIND) * (1 / DEPTH)).clamp(min=0)
    where = torch.stack([u / (u.abs() + BEND) * (1 + BEND), v / (v + BEND) * (2 + 2 * BEND) - 1], 1)
    return F.grid_sample(field, where[None, None], align_corners=True, padding_mode="border")[0, :, 0]


class Terrain:
    """The ground of one world, on one device."""

    # columns of `_surface`
    SLOPE_X, SLOPE_Z, ALBEDO, SUNLIT, GLOW, HEIGHT = 0, 1, slice(2, 5), 5, 6, 7

    def __init__(self, world: World, device: str = "cpu") -> None:
        self.water = world.biome in WATERY or world.theme == "river"
        x, z = _axes(device)
        self._x, self._z = x.repeat(SIDE), z.repeat_interleave(SIDE)
        made = ground(world, self._x, self._z)
        self._level(world, made)
        self.height = made.height.view(1, 1, SIDE, SIDE)
        self.top = float(self.height.max())
        grid = self.height[0, 0]
        slope_z, slope_x = torch.gradient(grid, spacing=(z, x))
        sun = (math.radians(world.sun[0]), math.radians(world.sun[1]))
        sunlit = torch.ones_like(grid) if world.biome == "reef" else self._sunlit(*sun)
        glow = made.glow if made.glow is not None else torch.zeros_like(made.height)
        slopes = (slope_x.reshape(-1), slope_z.reshape(-1))
        columns = [*slopes, *made.albedo.unbind(1), sunlit.reshape(-1), glow, made.height]
        self._surface = torch.stack(columns).view(1, 8, SIDE, SIDE)

    def _level(self, world: World, made: Ground) -> None:
        """Flatten the ground under firm objects, raise it above water under those on land, dredge it under boats."""
        for thing in world.objects:
            if thing.kind not in FIRM and not (self.water and thing.position[1] == 0):
                continue
            x, _, z = thing.position
            reach = {"lighthouse": 0.3, "pyramid": 1.3, "palm": 0.2, "pine": 0.25}.get(thing.kind, 0.7) * thing.size
            distance = ((self._x - x) ** 2 + (self._z - z) ** 2).sqrt()
            weight = 1 - ((distance - reach) / (1.2 * reach)).clamp(0, 1)
            weight = weight * weight * (3 - 2 * weight)
            at = made.height[distance.argmin()]
            if thing.kind == "boat":
                made.height = torch.minimum(made.height, made.height.lerp(at.clamp(max=-2.0), weight))
            else:
                made.height = made.height.lerp(at.clamp(min=0.5) if self.water else at, weight)

    def _sunlit(self, azimuth: float, elevation: float) -> Tensor:
        """Share of direct light that reaches the ground (SIDE, SIDE): hills shade hills, hollows are darker."""
        half = SIDE // 2
        x, z = (t.view(SIDE, SIDE)[::2, ::2].reshape(-1) for t in (self._x, self._z))
        start = self.height[0, 0, ::2, ::2].reshape(-1)
        shade, reach = torch.zeros_like(start), 2.0
        while reach < 130:
            over = self.at(x + math.sin(azimuth) * reach, z + math.cos(azimuth) * reach) - start
            shade = torch.maximum(shade, (over - reach * math.tan(elevation) - 0.1) / (0.3 + 0.06 * reach))
            reach = reach * 1.5 + 0.5
        lit = (1 - 0.85 * shade.clamp(0, 1)).view(1, 1, half, half)
        hollow = F.avg_pool2d(self.height, 5, 1, 2, count_include_pad=False) - self.height
        return (F.interpolate(lit, (SIDE, SIDE), mode="bilinear") * (1 - 0.4 * (hollow / 2).clamp(0, 1)))[0, 0]

    def at(self, x: Tensor, z: Tensor) -> Tensor:
        """Height in metres of world points (n,)."""
        return _read(self.height, x, z)[0]

    def surface(self, x: Tensor, z: Tensor) -> Tensor:
        """Slopes, albedo, sunlit share, glow and height (n, 8) of world points (n,)."""
        return _read(self._surface, x, z).T
