"""Biomes and the ground of a world."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from jointnet_cli.data.worlds.grammar import FIRM, PALETTE, WATERY
from jointnet_cli.data.worlds.noise import mix, read, smoothstep, texture
from jointnet_cli.data.worlds.world import World, stream

SIDE = 256

HALF_WIDTH, DEPTH, BEHIND = 300.0, 400.0, 8.0  # metres: to each side, ahead of and behind the camera

BEND = 0.3  # u = w (1 + b) / (w + b): cells of 0.5 m at the camera, 7 m at the far edge


def _unbend(u: Tensor) -> Tensor:
    return u * BEND / (1 + BEND - u.abs())


@cache
def _axes(device: str) -> tuple[Tensor, Tensor]:
    """Return world x of each column and z of each row (SIDE,)."""
    step = torch.arange(SIDE, device=device) / (SIDE - 1)
    return _unbend(step * 2 - 1) * HALF_WIDTH, _unbend(step) * DEPTH - BEHIND


def _read(field: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Return bilinear values (c, n) of a field (1, c, SIDE, SIDE) at world points (n,).

    Clamped to the grid: beyond its edge the ground goes on level.
    """
    u = x * (1 / HALF_WIDTH)
    v = ((z + BEHIND) * (1 / DEPTH)).clamp(min=0)
    where = torch.stack([u / (u.abs() + BEND) * (1 + BEND), v / (v + BEND) * (2 + 2 * BEND) - 1], 1)
    return F.grid_sample(field, where[None, None], align_corners=True, padding_mode="border")[0, :, 0]


class Terrain:
    """The ground of one world, on one device."""

    # columns of `_surface`
    SLOPES, ALBEDO, SUNLIT, GLOW, HEIGHT = slice(2), slice(2, 5), 5, 6, 7

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
        """Return the height in metres of world points (n,)."""
        return _read(self.height, x, z)[0]

    def surface(self, x: Tensor, z: Tensor) -> Tensor:
        """Return slopes, albedo, sunlit share, glow and height (n, 8) of world points (n,)."""
        return _read(self._surface, x, z).T


TILE = 400.0  # metres per noise period


@dataclass
class Ground:
    """Height (n,) in metres with the water at zero, albedo (n, 3) in linear [0, 1], glow (n,) in [0, 1]."""

    height: Tensor
    albedo: Tensor
    glow: Tensor | None = None


class TerrainPoints:
    """The points to be given ground, (n,) each, and noise that belongs to one world."""

    def __init__(self, world: World, x: Tensor, z: Tensor) -> None:
        self.world, self.x, self.z = world, x, z
        self.rng: random.Random = stream(world.seed, "terrain")
        self.radius = (x * x + z * z).sqrt()
        self.near = smoothstep(self.radius, 8, 60)  # 0 at the camera: gentle ground there keeps the view open

    def noise(self, name: str, metres: float = TILE) -> Tensor:
        turn, period = self.rng.uniform(-math.pi, math.pi), 1 / metres
        c, s = math.cos(turn) * period, math.sin(turn) * period
        u = self.x * c - self.z * s + self.rng.random()
        v = self.x * s + self.z * c + self.rng.random()
        return read(texture(name, str(self.x.device)), u, v)

    def colour(self, *rgb: float) -> Tensor:
        return torch.tensor(rgb, device=self.x.device)

    def blend(self, a: tuple[float, float, float], b: tuple[float, float, float], weight: Tensor) -> Tensor:
        return mix(self.colour(*a), self.colour(*b), weight.clamp(0, 1))

    def distance(self, x: float, z: float) -> Tensor:
        return ((self.x - x) ** 2 + (self.z - z) ** 2).sqrt()


def _hills(plot: TerrainPoints) -> Ground:
    rolls, patches = plot.noise("smooth", 650), plot.noise("rough", 120)
    height = rolls * plot.rng.uniform(6, 14) * (0.06 + 0.94 * plot.near)
    theme = plot.world.theme
    if theme == "wheat":
        return Ground(height, plot.blend((0.62, 0.48, 0.14), (0.92, 0.76, 0.30), patches * 0.35 + 0.5))
    albedo = plot.blend((0.15, 0.36, 0.09), (0.30, 0.58, 0.17), patches * 0.35 + 0.5)
    if theme is not None:
        flower = torch.tensor(PALETTE[theme.split()[0]], device=plot.x.device)
        grain, beds = plot.noise("white", 200), plot.noise("smooth", 150)
        bloom = smoothstep(grain + 0.16 * beds.clamp(-1, 1), 0.50, 0.58) * (1 - smoothstep(plot.radius, 70, 120))
        albedo = mix(albedo, flower, bloom)
    return Ground(height, albedo)


def _forest(plot: TerrainPoints) -> Ground:
    height = plot.noise("smooth") * plot.rng.uniform(2, 6) * (0.15 + 0.85 * plot.near)
    litter = (0.52, 0.27, 0.08) if plot.world.theme == "autumn" else (0.28, 0.27, 0.11)
    return Ground(height, plot.blend((0.13, 0.26, 0.07), litter, plot.noise("rough", 120) * 0.4 + 0.5))


def _mountains(plot: TerrainPoints) -> Tensor:
    ridges = plot.noise("ridged") * plot.rng.uniform(26, 46) + 9
    return ridges.clamp(min=0) * smoothstep(plot.radius, 30, 140) + plot.noise("smooth") * 2 * (0.15 + 0.85 * plot.near)


def _steepness(plot: TerrainPoints, height: Tensor) -> Tensor:
    """Return slope of a square grid of points, whose spacing may vary along each axis."""
    side = math.isqrt(height.numel())
    x, z, field = (t.view(side, side) for t in (plot.x, plot.z, height))
    gz, gx = torch.gradient(field, spacing=(z[:, 0].contiguous(), x[0].contiguous()))
    return (gx * gx + gz * gz).sqrt().reshape(-1)


def _snow(plot: TerrainPoints) -> Ground:
    height = _mountains(plot)
    bare = smoothstep(_steepness(plot, height) + 0.15 * plot.noise("rough", 120), 1.0, 1.9)
    return Ground(height, plot.blend((0.93, 0.95, 0.98), (0.36, 0.34, 0.36), bare))


def _lake(plot: TerrainPoints) -> Ground:
    height = _mountains(plot)
    steep = _steepness(plot, height)
    shore = plot.distance(*plot.world.anchor) + plot.noise("smooth", 160) * 1.6
    height = (height.abs() + 1.4) * smoothstep(shore, 19, 48) + 0.6 - 3.8 * (1 - smoothstep(shore, 16, 26))
    patches = plot.noise("rough", 120)
    grass = plot.blend((0.15, 0.37, 0.11), (0.30, 0.47, 0.16), patches * 0.4 + 0.5)
    albedo = mix(grass, plot.colour(0.42, 0.39, 0.36), smoothstep(steep + 0.1 * patches, 0.45, 0.9))
    line = plot.rng.uniform(18, 34)
    albedo = mix(albedo, plot.colour(0.94, 0.95, 0.98), smoothstep(height + 4 * patches, line, line + 7))
    return Ground(height, mix(plot.colour(0.6, 0.52, 0.36).expand_as(albedo), albedo, smoothstep(height, 0.1, 0.9)))


def _volcano(plot: TerrainPoints) -> Ground:
    patches = plot.noise("rough", 120)
    x, z = plot.world.anchor
    distance = plot.distance(x, z) * (1 + 0.07 * patches)
    summit = plot.rng.uniform(46, 60)
    cone = summit * (1 - distance / 68).clamp(min=0) ** 1.25
    cone = torch.minimum(cone, summit * 0.76 - (9 - distance).clamp(min=0) * 0.9)
    height = plot.noise("smooth") * 3 * (0.15 + 0.85 * plot.near) + cone
    albedo = plot.blend((0.17, 0.14, 0.14), (0.30, 0.26, 0.24), patches * 0.4 + 0.5)
    if plot.rng.random() < 0.4:
        albedo = mix(plot.colour(0.2, 0.38, 0.12).expand_as(albedo), albedo, smoothstep(height + patches, 3, 12))
    bearing = torch.atan2(plot.x - x, plot.z - z) * plot.rng.choice((4, 5, 6)) + plot.rng.uniform(0, 6)
    streams = smoothstep(torch.sin(bearing + patches * 0.6 + distance * 0.05), 0.72, 0.9) * (distance < 58)
    glow = torch.maximum(streams, (distance < 11).float()) * (cone > 1.0)
    return Ground(height, mix(albedo, plot.colour(1.0, 0.32, 0.05), glow), glow)


def _desert(plot: TerrainPoints) -> Ground:
    swell = plot.noise("smooth")
    length, angle = plot.rng.uniform(22, 38), plot.rng.uniform(-0.8, 0.8)
    phase = (plot.x * math.sin(angle) + plot.z * math.cos(angle) + swell * 10) / length
    phase = phase - phase.floor()
    # A dune rises gently for 70 % of its length and slips steeply down the rest, with rounded crests.
    dune = torch.where(phase < 0.7, smoothstep(phase, -0.25, 0.75), smoothstep(1 - phase, -0.05, 0.34))
    height = (dune * plot.rng.uniform(2.5, 5.5) + swell * 3) * (0.15 + 0.85 * plot.near)
    return Ground(height, plot.blend((0.80, 0.55, 0.29), (0.92, 0.72, 0.44), plot.noise("rough", 120) * 0.3 + 0.5))


def _canyon(plot: TerrainPoints) -> Ground:
    bend, rough = plot.noise("smooth"), plot.noise("rough", 120)
    across = plot.x + bend * 7 * plot.near + plot.z * plot.rng.uniform(-0.2, 0.2)
    width, rise = plot.rng.uniform(10, 16), plot.rng.uniform(24, 38)
    walls = smoothstep(across.abs(), width, width + plot.rng.uniform(14, 26)) * rise * (0.8 + 0.2 * rough.clamp(-1, 1))
    end = smoothstep(plot.z, 150, 300) * rise * 0.8  # the gorge closes far ahead
    rock = torch.maximum(walls, end) + bend.clamp(-1, 2) * 2.0 * plot.near
    step = plot.rng.uniform(4, 7)
    ledge = (rock / step).floor()
    height = (ledge + smoothstep(rock / step - ledge, 0.55, 1.0)) * step
    albedo = plot.blend((0.64, 0.25, 0.11), (0.88, 0.52, 0.27), torch.sin(height * 1.7 + rough * 0.8) * 0.5 + 0.5)
    if plot.world.theme == "river":
        height = height + 0.9 - 3.1 * (1 - smoothstep(across.abs() + rough, 3.5, 8.5))
    return Ground(height, albedo)


def _sand(plot: TerrainPoints) -> Tensor:
    return plot.blend((0.86, 0.75, 0.52), (0.94, 0.86, 0.66), plot.noise("rough", 120) * 0.3 + 0.5)


def _beach(plot: TerrainPoints) -> Ground:
    x, z = plot.world.anchor
    reach = math.hypot(x, z)
    rough, swell = plot.noise("rough", 120), plot.noise("smooth")
    offshore = (plot.x * x + plot.z * z) / reach - reach + swell * 2.2 * (0.3 + 0.7 * plot.near)
    slope = offshore * -0.11
    sand = slope.clamp(max=3) + 0.1 * rough * smoothstep(slope, 0, 1)
    height = torch.where(slope > 0, sand, slope * 1.3).clamp(min=-8)
    if plot.rng.random() < 0.35:  # green hills behind the sand
        rise = smoothstep(-offshore + swell * 10, 30, 110) * plot.near * plot.rng.uniform(8, 20)
        height = height + rise * (1 + 0.3 * rough)
    grass = plot.colour(0.22, 0.45, 0.15) * (1 + 0.2 * rough)[:, None]
    albedo = mix(_sand(plot), grass, smoothstep(height + 0.3 * rough, 2.5, 3.6))
    if plot.rng.random() < 0.35:
        angle = math.atan2(x, z) + plot.rng.uniform(-0.4, 0.4)
        distance = plot.rng.uniform(80, 120)
        isle = plot.distance(distance * math.sin(angle), distance * math.cos(angle))
        isle = plot.rng.uniform(8, 18) * (1 - (isle / 30) ** 2) + rough * 2
        albedo = torch.where((isle > height)[:, None], grass, albedo)
        height = torch.maximum(height, isle)
    return Ground(height, albedo)


def _ocean(plot: TerrainPoints) -> Ground:
    rough = plot.noise("rough", 120)
    if plot.world.theme != "island":
        return Ground(torch.full_like(rough, -9.0), _sand(plot))
    radius = math.hypot(*plot.world.anchor) * 0.36
    island = plot.rng.uniform(0.16, 0.34) * radius * (1 - (plot.distance(*plot.world.anchor) / radius) ** 2)
    height = (island + rough * 0.045 * radius).clamp(min=-9)
    grass = plot.colour(0.19, 0.42, 0.14) * (1 + 0.25 * rough)[:, None]
    return Ground(height, mix(_sand(plot), grass, smoothstep(height + 0.4 * rough, 0.9, 2.0)))


def _reef(plot: TerrainPoints) -> Ground:
    swell, rough = plot.noise("smooth"), plot.noise("rough", 120)
    height = swell * plot.rng.uniform(0.8, 2.0) * (0.3 + 0.7 * plot.near) + 0.3 * rough * smoothstep(plot.radius, 4, 14)
    height = height + smoothstep(plot.radius, 14, 45) * swell.clamp(-0.3, 2) * plot.rng.uniform(1.5, 4.5)
    sand = plot.blend((0.62, 0.56, 0.44), (0.84, 0.78, 0.62), rough * 0.4 + 0.5)
    growth = torch.tensor(PALETTE[plot.rng.choice(("pink", "orange", "purple", "red", "green"))], device=plot.x.device)
    return Ground(height, mix(sand, growth * 0.75, smoothstep(plot.noise("rough", 60), 0.5, 1.0) * 0.75))


GROUNDS: dict[str, Callable[[TerrainPoints], Ground]] = {
    "ocean": _ocean, "beach": _beach, "reef": _reef, "desert": _desert, "snow": _snow,
    "hills": _hills, "canyon": _canyon, "forest": _forest, "lake": _lake, "volcano": _volcano,
}  # fmt: skip


def ground(world: World, x: Tensor, z: Tensor) -> Ground:
    """Return ground of a world at the points of a square grid (n,), levelled or dredged where its objects need it."""
    plot = TerrainPoints(world, x, z)
    made = GROUNDS[world.biome](plot)
    grain = plot.noise("detail", 60)
    made.albedo = (made.albedo * (1 + 0.08 * grain[:, None])).clamp(0, 1.2)
    return made
