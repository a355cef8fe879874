"""Colour of hits: ground, water, objects and sky, seen through the air."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jointnet_cli.data.worlds.noise import mix, read, smoothstep, texture
from jointnet_cli.data.worlds.raycast import Hits, Surface, shadowed
from jointnet_cli.data.worlds.shapes import Primitives
from jointnet_cli.data.worlds.sky import Sky, radiance
from jointnet_cli.data.worlds.terrain import Terrain

_SHADOW_REACH = 90.0  # metres: beyond, shadows of objects are not looked for
_EXPOSURE, _WHITE, _GAMMA = 1.35, 1.5, 1.6


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp(min=1e-12)


class Shader:
    """Shades hits in one world."""

    def __init__(self, terrain: Terrain, shapes: Primitives, sky: Sky, origin: Tensor) -> None:
        self.terrain, self.shapes, self.sky, self.origin = terrain, shapes, sky, origin
        self.grain = texture("detail", str(origin.device))

    def __call__(self, hits: Hits, rays: Tensor) -> Tensor:
        """Display colour (n, 3) in [0, 1] of hits along rays (n, 3)."""
        length = rays.norm(dim=1)
        unit = rays / length[:, None]
        colour = torch.zeros_like(rays)
        index = (hits.surface == Surface.SKY).nonzero()[:, 0]
        colour[index] = radiance(self.sky, unit[index])
        index = (hits.surface != Surface.SKY).nonzero()[:, 0]
        if len(index):
            unit, distance, surface = unit[index], (hits.depth * length)[index], hits.surface[index]
            seen = self._solids(hits, index, surface, unit, distance)
            colour[index] = self._air(seen, surface, unit, distance)
        return _tone(colour)

    def _solids(self, hits: Hits, index: Tensor, surface: Tensor, unit: Tensor, distance: Tensor) -> Tensor:
        points = self.origin + distance[:, None] * unit
        normal = hits.normal[index]
        sunlit = self._direct_light(points, normal, distance)
        seen = torch.zeros_like(points)
        for kind, shade in ((Surface.TERRAIN, self._ground), (Surface.WATER, self._water)):
            k = (surface == kind).nonzero()[:, 0]
            if len(k):
                seen[k] = shade(points[k], normal[k], unit[k], distance[k], sunlit[k])
        k = (surface == Surface.OBJECT).nonzero()[:, 0]
        if len(k):
            seen[k] = self._object(points[k], normal[k], hits.primitive[index[k]], sunlit[k])
        return seen

    def _direct_light(self, points: Tensor, normal: Tensor, distance: Tensor) -> Tensor:
        """1 in the open, less where an object of the world stands in the light."""
        light = torch.ones_like(distance)
        lit = ((distance < _SHADOW_REACH) & (_dot(normal, self.sky.sun) > 0)).nonzero()[:, 0]
        dark = shadowed(self.shapes, points[lit] + normal[lit] * 0.04, self.sky.sun)
        light[lit[dark]] = 0.55 if self.sky.underwater else 0.2
        return light

    def _lit(self, normal: Tensor, share: Tensor) -> Tensor:
        """Light (n, 3) on a surface whose share of direct light is `share` (n,)."""
        direct = _dot(normal, self.sky.sun).clamp(min=0) * share
        return self.sky.sunlight * direct[:, None] + self.sky.ambient * (0.62 + 0.38 * normal[:, 1:2])

    def _ground(self, points: Tensor, normal: Tensor, unit: Tensor, distance: Tensor, sunlit: Tensor) -> Tensor:
        x, z = points[:, 0], points[:, 2]
        cell = self.terrain.surface(x, z)
        fine = read(self.grain, x * 0.045, z * 0.045) + 0.8 * read(self.grain, x * 0.011, z * 0.011 + 0.3)
        fade = torch.exp(distance * -0.02)
        bump = torch.stack([fine, torch.zeros_like(fine), read(self.grain, z * 0.045 + 0.5, x * 0.045)], 1)
        bumpy = _unit(normal + bump * (0.10 * fade)[:, None])
        colour = cell[:, Terrain.ALBEDO] * (1 + 0.13 * fine * fade.clamp(min=0.25))[:, None]
        light = self._lit(bumpy, cell[:, Terrain.SUNLIT] * sunlit)
        if self.sky.underwater:  # caustics
            light = light * (1 + 0.5 * (1 - 2 * read(self.grain, x * 0.02, z * 0.02).abs()).clamp(-0.4, 1))[:, None]
        return colour * light + cell[:, Terrain.GLOW, None] * colour.new_tensor([1.2, 0.36, 0.04])

    def _object(self, points: Tensor, normal: Tensor, primitive: Tensor, sunlit: Tensor) -> Tensor:
        grain = read(self.grain, points[:, 0] * 0.09, (points[:, 1] + points[:, 2]) * 0.09)
        mottled = 1 + (0.14 if self.sky.underwater else 0.05) * grain
        colour = self.shapes.colour[primitive]
        glow = self.shapes.glow[primitive][:, None]
        return colour * mottled[:, None] * self._lit(normal, sunlit) * (1 - glow) + colour * glow

    def _water(self, points: Tensor, normal: Tensor, unit: Tensor, distance: Tensor, sunlit: Tensor) -> Tensor:
        sky, x, z = self.sky, points[:, 0], points[:, 2]
        calm = 1 / (1 + distance * 0.03)
        long, short = read(self.grain, x * 0.02, z * 0.03), read(self.grain, x * 0.05 + 0.4, z * 0.07)
        tilt_x, tilt_z = (long * 0.5 + short) * 0.05 * (calm + 0.15), (short * 0.5 - long) * 0.06 * (calm + 0.15)
        wave = _unit(torch.stack([tilt_x, torch.ones_like(x), tilt_z], 1))
        facing = _dot(unit, wave)
        mirror = unit - 2 * facing[:, None] * wave
        mirror[:, 1] = mirror[:, 1].abs()
        fresnel = 0.03 + 0.8 * (1 + facing).clamp(0, 1) ** 4
        bed = self.terrain.surface(x, z)
        deep = (-bed[:, Terrain.HEIGHT]).clamp(min=0)
        bright = sky.sunlight * sky.sun[1] + sky.ambient
        blue, teal = bright * bright.new_tensor([0.02, 0.16, 0.32]), bright * bright.new_tensor([0.14, 0.62, 0.64])
        body = mix(blue, teal, torch.exp(deep * -0.42))
        body = mix(body, bed[:, Terrain.ALBEDO] * self._lit(normal, bed[:, Terrain.SUNLIT]), torch.exp(deep * -1.6))
        body = body * (0.55 + 0.45 * sunlit)[:, None]
        colour = mix(body, radiance(sky, mirror, full=False), fresnel)
        gloss = _dot(mirror, sky.sun).clamp(min=0)
        colour = colour + ((gloss**90 * 1.1 + gloss**18 * 0.22) * sunlit)[:, None] * sky.sunlight
        surf = smoothstep(-deep, -0.28, -0.05) * smoothstep(deep + 0.02, 0, 0.04) * 0.75
        crests = 0.5 * smoothstep(short + long * 0.5, 1.5, 2.4) * calm
        foam = (surf + crests)[:, None] * (sky.ambient * 0.9 + sky.sunlight * 0.6)
        return colour + foam * (1 - colour).clamp(min=0)

    def _air(self, colour: Tensor, surface: Tensor, unit: Tensor, distance: Tensor) -> Tensor:
        """Fog between the eye and what it sees; open water stays clearer, so that its horizon shows."""
        clear = torch.exp(distance * -self.sky.fog)
        clear = torch.where(surface == Surface.WATER, clear.sqrt(), clear)
        level = unit.clone()
        level[:, 1] = level[:, 1].clamp(min=0)
        return mix(radiance(self.sky, _unit(level), full=False), colour, clear)


def _tone(radiance_: Tensor) -> Tensor:
    """Linear radiance to display values: an exponential shoulder, then gamma."""
    mapped = (1 - torch.exp(radiance_.clamp(min=0) * -_EXPOSURE)) / (1 - math.exp(-_EXPOSURE * _WHITE))
    return mapped.clamp(0, 1) ** (1 / _GAMMA)
