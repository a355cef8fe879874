"""Sky, light and color of a world."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jointnet_cli.data.worlds.noise import mix, read, smoothstep, texture
from jointnet_cli.data.worlds.objects import Primitives
from jointnet_cli.data.worlds.raycast import Hits, SurfaceKind, shadowed
from jointnet_cli.data.worlds.terrain import Terrain
from jointnet_cli.data.worlds.world import World, stream

# zenith, horizon, sunlight, ambient light: linear radiance
_HOURS = {
    "noon": ((0.12, 0.34, 0.80), (0.62, 0.78, 0.93), (1.18, 1.08, 0.92), (0.38, 0.44, 0.55)),
    "sunset": ((0.24, 0.17, 0.44), (1.05, 0.38, 0.08), (1.25, 0.54, 0.18), (0.46, 0.34, 0.40)),
    "night": ((0.008, 0.016, 0.07), (0.04, 0.075, 0.20), (0.24, 0.30, 0.50), (0.085, 0.10, 0.18)),
    "dawn": ((0.40, 0.50, 0.80), (1.0, 0.72, 0.68), (1.0, 0.72, 0.60), (0.44, 0.41, 0.48)),
}

_DEEP = {"noon": 1.0, "sunset": 0.75, "night": 0.25, "dawn": 0.75}  # brightness under water

_MOON = (0.95, 0.95, 0.88)


@dataclass
class Sky:
    """Constants of one world's light; colours are (3,) tensors of linear radiance."""

    sun: Tensor  # unit vector towards the sun or moon
    sunlight: Tensor
    ambient: Tensor
    zenith: Tensor
    horizon: Tensor
    fog: float  # extinction per metre
    cover: float  # offset of the cloud threshold: below 0 few clouds, above much cloud
    night: bool
    disc: bool  # whether the sun or moon shows
    underwater: bool
    drift: tuple[float, float]  # where in the noise the clouds are cut


def make_sky(world: World, device: str = "cpu") -> Sky:
    """Return the light of a world."""
    rng = stream(world.seed, "sky")
    zenith, horizon, sunlight, ambient = (torch.tensor(c, device=device) for c in _HOURS[world.time])
    azimuth, elevation = math.radians(world.sun[0]), math.radians(world.sun[1])
    flat = math.cos(elevation)
    sun = torch.tensor([math.sin(azimuth) * flat, math.sin(elevation), math.cos(azimuth) * flat], device=device)
    cover = {"clear": rng.uniform(-1.1, -0.3), "cloudy": rng.uniform(0.5, 1.0), "foggy": -0.4}[world.weather]
    spread = {"clear": (0.0010, 0.0024), "cloudy": (0.0018, 0.0036), "foggy": (0.014, 0.030)}[world.weather]
    fog, drift = rng.uniform(*spread), (rng.random(), rng.random())
    if world.weather == "foggy":
        horizon = horizon * 0.6 + horizon.mean() * 0.4
        zenith = horizon * 0.8 + zenith * 0.2
        sunlight = sunlight * 0.75
    elif world.weather == "cloudy":
        sunlight = sunlight * 0.8
    underwater = world.biome == "reef"
    if underwater:
        gain = _DEEP[world.time]
        tint = rng.choice([(0.03, 0.36, 0.54), (0.02, 0.33, 0.52), (0.03, 0.43, 0.50)])
        horizon = torch.tensor(tint, device=device) * gain
        zenith = horizon * 1.5 + 0.10 * gain
        sunlight = torch.tensor((0.85, 1.0, 0.95), device=device) * gain
        ambient = torch.tensor((0.34, 0.46, 0.50), device=device) * gain
        sun = torch.tensor([rng.uniform(-0.3, 0.3), 0.9, rng.uniform(-0.3, 0.3)], device=device)
        sun, fog = sun / sun.norm(), rng.uniform(0.030, 0.050)
    disc = world.weather != "foggy" and not underwater
    night = world.time == "night"
    return Sky(sun, sunlight, ambient, zenith, horizon, fog, cover, night, disc, underwater, drift)


def _stars(sky: Sky, rays: Tensor) -> Tensor:
    """Return brightness (n,) of stars: a hash of small cells of direction."""
    # Near the zenith, where the height hardly changes, cells are cut along z.
    second = torch.where(rays[:, 1] > 0.75, rays[:, 2], rays[:, 1])
    cells = torch.floor(rays[:, 0] * 105) * 12.9898 + torch.floor(second * 105) * 78.233 + sky.drift[0] * 9
    chance = (torch.sin(cells) * 43758.5453).frac().abs()
    return ((chance > 0.982) * smoothstep(rays[:, 1], 0.03, 0.2) * (chance - 0.97) * 32).clamp(max=0.95)


def _clouds(sky: Sky, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Return cover (n,) and colour (n, 3) of the cloud layer."""
    height = rays[:, 1].clamp(min=0) + 0.18
    u, v = rays[:, 0] / height * 0.07 + sky.drift[0], rays[:, 2] / height * 0.07 + sky.drift[1]
    noise = texture("detail", str(rays.device))
    thick = read(noise, u, v) + 0.35 * read(noise, u * 3.1 + 0.3, v * 3.1) + sky.cover
    amount = smoothstep(thick, 0.35, 1.5) * smoothstep(rays[:, 1], 0.015, 0.14) * 0.92
    if sky.night:
        return amount, (sky.horizon * 1.3 + 0.015).expand(len(rays), 3)
    lit = sky.horizon * 0.45 + sky.sunlight * 0.5 + sky.ambient * 0.35
    return amount, lit * (1 - 0.25 * smoothstep(thick, 1.2, 2.6))[:, None]


def radiance(sky: Sky, rays: Tensor, *, full: bool = True) -> Tensor:
    """Return colour (n, 3) seen along unit rays (n, 3); without clouds, stars and disc unless `full`."""
    up = rays[:, 1].clamp(min=0)
    colour = mix(sky.zenith, sky.horizon, torch.exp(up * -3.2))
    near_sun = (rays[:, 0] * sky.sun[0] + rays[:, 1] * sky.sun[1] + rays[:, 2] * sky.sun[2]).clamp(-1, 1)
    strength = (0.25 if sky.night else 1.0) * (0.1 if sky.underwater else 0.65) * (1.0 if sky.disc else 0.3)
    glow = (torch.exp((near_sun - 1) * 14) * 0.35 + torch.exp((near_sun - 1) * 90) * 0.5) * strength
    colour = colour + glow[:, None] * sky.sunlight
    if not full:
        return colour
    if sky.underwater:
        bearing = torch.atan2(rays[:, 0], rays[:, 2]) * 0.35 + sky.drift[0]
        noise = texture("detail", str(rays.device))
        shafts = (read(noise, bearing, rays[:, 1] * 0.02 + sky.drift[1]) * 0.5).clamp(-0.5, 1)
        ahead = smoothstep(rays[:, 2], 0.0, 0.25)  # bearings meet at the zenith, and break off behind the camera
        return colour * (1 + 0.4 * shafts * smoothstep(rays[:, 1], -0.1, 0.5) * ahead)[:, None]
    if sky.disc:
        face = colour.new_tensor(_MOON) if sky.night else (sky.sunlight * 1.25 + 0.35).clamp(max=1.6)
        colour = mix(colour, face, smoothstep(near_sun, math.cos(0.062), math.cos(0.050)))
    if sky.night and sky.fog < 0.01:
        colour = colour + _stars(sky, rays)[:, None]
    cover, cloud = _clouds(sky, rays)
    return mix(colour, cloud, cover)


_SHADOW_REACH = 90.0  # metres: beyond, shadows of objects are not looked for

_EXPOSURE, _WHITE, _GAMMA = 1.35, 1.5, 1.6


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _unit(v: Tensor) -> Tensor:
    unit: Tensor = v / v.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit


class Shader:
    """Shades hits in one world."""

    def __init__(self, terrain: Terrain, shapes: Primitives, sky: Sky, origin: Tensor) -> None:
        self.terrain, self.shapes, self.sky, self.origin = terrain, shapes, sky, origin
        self.grain = texture("detail", str(origin.device))

    def __call__(self, hits: Hits, rays: Tensor) -> Tensor:
        """Return display colour (n, 3) in [0, 1] of hits along rays (n, 3)."""
        length = rays.norm(dim=1)
        unit = rays / length[:, None]
        colour = torch.zeros_like(rays)
        index = (hits.surface == SurfaceKind.SKY).nonzero()[:, 0]
        colour[index] = radiance(self.sky, unit[index])
        index = (hits.surface != SurfaceKind.SKY).nonzero()[:, 0]
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
        for kind, shade in ((SurfaceKind.TERRAIN, self._ground), (SurfaceKind.WATER, self._water)):
            k = (surface == kind).nonzero()[:, 0]
            if len(k):
                seen[k] = shade(points[k], normal[k], unit[k], distance[k], sunlit[k])
        k = (surface == SurfaceKind.OBJECT).nonzero()[:, 0]
        if len(k):
            seen[k] = self._object(points[k], normal[k], hits.primitive[index[k]], sunlit[k])
        return seen

    def _direct_light(self, points: Tensor, normal: Tensor, distance: Tensor) -> Tensor:
        """Return 1 in the open, less where an object of the world stands in the light."""
        light = torch.ones_like(distance)
        lit = ((distance < _SHADOW_REACH) & (_dot(normal, self.sky.sun) > 0)).nonzero()[:, 0]
        dark = shadowed(self.shapes, points[lit] + normal[lit] * 0.04, self.sky.sun)
        light[lit[dark]] = 0.55 if self.sky.underwater else 0.2
        return light

    def _lit(self, normal: Tensor, share: Tensor) -> Tensor:
        """Return light (n, 3) on a surface whose share of direct light is `share` (n,)."""
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
        """Return fog between the eye and what it sees; open water stays clearer, so that its horizon shows."""
        clear = torch.exp(distance * -self.sky.fog)
        clear = torch.where(surface == SurfaceKind.WATER, clear.sqrt(), clear)
        level = unit.clone()
        level[:, 1] = level[:, 1].clamp(min=0)
        return mix(radiance(self.sky, _unit(level), full=False), colour, clear)


def _tone(radiance_: Tensor) -> Tensor:
    """Convert linear radiance to display values: an exponential shoulder, then gamma."""
    mapped = (1 - torch.exp(radiance_.clamp(min=0) * -_EXPOSURE)) / (1 - math.exp(-_EXPOSURE * _WHITE))
    return mapped.clamp(0, 1) ** (1 / _GAMMA)
