"""Light and air of a world: sun or moon, sky colour, clouds, stars, fog, and the blue of deep water."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jointnet_cli.data.worlds.noise import mix, read, smoothstep, texture
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
    """The light of a world."""
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
    """Brightness (n,) of stars: a hash of small cells of direction."""
    # Near the zenith, where the height hardly changes, cells are cut along z.
    second = torch.where(rays[:, 1] > 0.75, rays[:, 2], rays[:, 1])
    cells = torch.floor(rays[:, 0] * 105) * 12.9898 + torch.floor(second * 105) * 78.233 + sky.drift[0] * 9
    chance = (torch.sin(cells) * 43758.5453).frac().abs()
    return ((chance > 0.982) * smoothstep(rays[:, 1], 0.03, 0.2) * (chance - 0.97) * 32).clamp(max=0.95)


def _clouds(sky: Sky, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Cover (n,) and colour (n, 3) of the cloud layer."""
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
    """Colour (n, 3) seen along unit rays (n, 3); without clouds, stars and disc unless `full`."""
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
