"""First hits of rays: marching over the height field, closed forms for water and primitives.

Directions are scaled so that their component along the camera's axis is one: the ray parameter is planar depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from jointnet_cli.data.worlds.objects import BALL, BOX, CONE, GABLE, PYRAMID, Primitives
from jointnet_cli.data.worlds.terrain import Terrain

FAR = 1e9
NEAR, HORIZON, WATER_END = 0.8, 430.0, 2500.0  # metres
STEPS, REFINE = 42, 3
_BIT = 0.05  # hits nearer than this are the ray leaving its own surface

# Outward normals and offsets of unit solids; a pyramid's sides rise at 45 degrees, a gable has two sloping sides.
_FACES = {
    BOX: [(1, 0, 0, 1), (-1, 0, 0, 1), (0, 1, 0, 1), (0, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1)],
    PYRAMID: [(1, 1, 0, 1), (-1, 1, 0, 1), (0, 1, 1, 1), (0, 1, -1, 1), (0, -1, 0, 0), (0, -1, 0, 0)],
    GABLE: [(1, 1, 0, 1), (-1, 1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1), (0, -1, 0, 0), (0, -1, 0, 0)],
}
FACES = torch.tensor([_FACES[shape] for shape in sorted(_FACES)], dtype=torch.float32)  # (3, 6, 4)


class SurfaceKind(IntEnum):
    """What a pixel shows."""

    SKY = 0
    TERRAIN = 1
    WATER = 2
    OBJECT = 3


@dataclass
class Hits:
    """First hits of n rays: planar depth (inf for the sky), surface, primitive (-1 for none), world normals (n, 3)."""

    depth: Tensor
    surface: Tensor
    primitive: Tensor
    normal: Tensor


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return (k, 3, 3) times (k, 3); spelled out, for a sum over an axis of three is slow."""
    return matrix[..., 0] * vector[:, :1] + matrix[..., 1] * vector[:, 1:2] + matrix[..., 2] * vector[:, 2:]


def _ball(origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    a, b, c = _dot(ray, ray), _dot(origin, ray), _dot(origin, origin) - 1
    square = b * b - a * c
    t = (-b - square.clamp(min=0).sqrt()) / a
    return torch.where((square > 0) & (t > _BIT), t, FAR), origin + t[:, None] * ray


def _safe(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-9, 1e-9, x)


def _cone(origin: Tensor, ray: Tensor, taper: Tensor) -> tuple[Tensor, Tensor]:
    """Return a frustum about y from radius 1 at y = 0 to `taper` at y = 1, capped at both ends."""
    ox, oy, oz = origin.unbind(1)
    dx, dy, dz = ray.unbind(1)
    slope = taper - 1
    radius, change = 1 + slope * oy, slope * dy
    a = _safe(dx * dx + dz * dz - change * change)
    b = ox * dx + oz * dz - radius * change
    c = ox * ox + oz * oz - radius * radius
    square = b * b - a * c
    root = square.clamp(min=0).sqrt()
    best, normal = torch.full_like(a, FAR), torch.zeros_like(ray)
    for t in ((-b - root) / a, (-b + root) / a):
        y = oy + t * dy
        side = 1 + slope * y
        good = (square > 0) & (t > _BIT) & (y >= 0) & (y <= 1) & (side > 0) & (t < best)
        best = torch.where(good, t, best)
        outward = torch.stack([ox + t * dx, -slope * side, oz + t * dz], 1)
        normal = torch.where(good[:, None], outward, normal)
    for y_cap, up, edge in ((0.0, -1.0, torch.ones_like(taper)), (1.0, 1.0, taper)):
        t = (y_cap - oy) / _safe(dy)
        good = (t > _BIT) & (t < best) & ((ox + t * dx) ** 2 + (oz + t * dz) ** 2 < edge * edge)
        best = torch.where(good, t, best)
        normal = torch.where(good[:, None], normal.new_tensor([0.0, up, 0.0]), normal)
    return best, normal


def _solid(origin: Tensor, ray: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Return convex solids with up to six faces: the ray is inside between its last entry and its first exit."""
    faces = FACES.to(ray.device)[shape - BOX]  # (k, 6, 4)
    along = _dot(faces, ray[:, None])
    gap = faces[..., 3] - _dot(faces, origin[:, None])
    t = gap / _safe(along)
    entry, face = torch.where(along < 0, t, -FAR).max(1)
    exit_ = torch.where(along > 0, t, FAR).min(1).values
    outside = ((along.abs() < 1e-9) & (gap < 0)).any(1)
    good = (entry < exit_) & (entry > _BIT) & ~outside
    return torch.where(good, entry, FAR), faces[torch.arange(len(face), device=face.device), face, :3]


def pairs(shapes: Primitives, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices (ray, primitive) of rays that meet a primitive's bounding sphere.

    Either of origins and unit directions is (n, 3), the other may be (1, 3).
    """
    centre = shapes.centre
    along = directions @ centre.T - _dot(origins, directions)[:, None]  # (n, p)
    distance = origins @ (centre.T * -2) + _dot(origins, origins)[:, None] + _dot(centre, centre)
    reach = shapes.radius * 1.005 + 0.02
    ray, which = ((distance - along * along < reach * reach) & (along > -reach)).nonzero(as_tuple=True)
    return ray, which


def intersect(shapes: Primitives, which: Tensor, origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ray parameter (FAR for a miss) and unnormalised world normal of k pairs of one ray and one primitive."""
    inverse = shapes.inverse.index_select(0, which)
    start, along = _apply(inverse, origin - shapes.centre.index_select(0, which)), _apply(inverse, ray)
    shape = shapes.shape[which]
    depth, normal = torch.full_like(start[:, 0], FAR), torch.zeros_like(start)
    for kind in (BALL, CONE, BOX):
        index = ((shape >= BOX) if kind == BOX else (shape == kind)).nonzero()[:, 0]
        if not len(index):
            continue
        a, b = start[index], along[index]
        if kind == BALL:
            depth[index], normal[index] = _ball(a, b)
        elif kind == CONE:
            depth[index], normal[index] = _cone(a, b, shapes.taper[which[index]])
        else:
            depth[index], normal[index] = _solid(a, b, shape[index])
    return depth, _apply(inverse.transpose(1, 2), normal)  # normals move by the inverse transpose


def shadowed(shapes: Primitives, points: Tensor, sun: Tensor) -> Tensor:
    """Return whether an object stands between each point (n, 3) and the sun (3,)."""
    ray, which = pairs(shapes, points, sun[None])
    depth, _ = intersect(shapes, which, points[ray], sun.expand(len(ray), 3))
    blocked = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    blocked[ray[depth < FAR]] = True
    return blocked


def march(terrain: Terrain, origin: Tensor, rays: Tensor, limit: Tensor) -> Tensor:
    """Return depth (n,) at which rays meet the ground before `limit` (n,), FAR otherwise.

    Steps grow geometrically; the crossing is then narrowed by false position.
    """
    ox, oy, oz = origin.tolist()
    found = torch.full_like(limit, FAR)
    alive = ((rays[:, 1] < 0) | (terrain.top > oy)).nonzero()[:, 0]
    dx, dy, dz = rays[alive].unbind(1)
    stop = limit[alive]
    before = torch.full_like(dx, 1.0)
    crossers: list[Tensor] = []
    brackets: list[Tensor] = []
    last = 0.0
    for i in range(STEPS):
        t = NEAR * (HORIZON / NEAR) ** (i / (STEPS - 1))
        gap = oy + t * dy - terrain.at(ox + t * dx, oz + t * dz)
        crossed = ((gap < 0) & (before > 0)).nonzero()[:, 0]
        if len(crossed):
            above, below = before[crossed], gap[crossed]
            crossers.append(alive[crossed])
            brackets.append(torch.stack([torch.full_like(above, last), torch.full_like(above, t), above, below], 1))
        before = torch.where(before > 0, gap, before)  # a ray that went under stays under
        if i % 3 == 2:
            keep = ((before > 0) & (stop > t) & ~((dy >= 0) & (oy + t * dy > terrain.top))).nonzero()[:, 0]
            alive, dx, dy, dz, stop, before = (v.index_select(0, keep) for v in (alive, dx, dy, dz, stop, before))
        last = t
        if not len(alive):
            break
    if brackets:
        ray = torch.cat(crossers)
        depth = _narrow(terrain, origin, rays[ray], torch.cat(brackets))
        found[ray] = torch.where(depth < limit[ray], depth, FAR)
    return found


def _narrow(terrain: Terrain, origin: Tensor, rays: Tensor, brackets: Tensor) -> Tensor:
    """Depth (n,) of crossings inside `brackets` (n, 4): a depth above ground, one below it, and their gaps to it."""
    dx, dy, dz = rays.unbind(1)
    ox, oy, oz = origin.tolist()
    low, high, above, below = brackets.unbind(1)
    for _ in range(REFINE):
        middle = low + (high - low) * above / (above - below)
        gap = oy + middle * dy - terrain.at(ox + middle * dx, oz + middle * dz)
        under = gap < 0
        low, above = torch.where(under, low, middle), torch.where(under, above, gap)
        high, below = torch.where(under, middle, high), torch.where(under, gap, below)
    return low + (high - low) * above / (above - below)


def trace(terrain: Terrain, shapes: Primitives, origin: Tensor, rays: Tensor) -> Hits:
    """Return first hits of rays (n, 3) from one origin (3,). Normals face the viewer; zero for the sky."""
    n, device = len(rays), rays.device
    depth = torch.full((n,), FAR, device=device)
    surface = torch.zeros(n, dtype=torch.int64, device=device)
    normal = torch.zeros(n, 3, device=device)
    primitive = torch.full((n,), -1, dtype=torch.int64, device=device)
    if terrain.water:
        t = -origin[1] / rays[:, 1]
        wet = (rays[:, 1] < -1e-5) & (t < WATER_END)
        depth = torch.where(wet, t, depth)
        surface[wet] = SurfaceKind.WATER
        normal[wet] = normal.new_tensor([0.0, 1.0, 0.0])
    if len(shapes):
        ray, which = pairs(shapes, origin[None], rays / rays.norm(dim=1, keepdim=True))
        t, out = intersect(shapes, which, origin.expand(len(ray), 3), rays[ray])
        nearest = depth.scatter_reduce(0, ray, t, "amin")
        won = ((t < FAR) & (t == nearest[ray]) & (t < depth[ray])).nonzero()[:, 0]
        index = ray[won]
        facing = out[won] * -_dot(out[won], rays[index]).sign()[:, None]
        depth, primitive[index], surface[index] = nearest, which[won], int(SurfaceKind.OBJECT)
        normal[index] = facing / facing.norm(dim=1, keepdim=True).clamp(min=1e-12)
    ground = march(terrain, origin, rays, depth)
    hit = (ground < depth).nonzero()[:, 0]
    depth[hit], surface[hit], primitive[hit] = ground[hit], int(SurfaceKind.TERRAIN), -1
    x, z = origin[0] + depth[hit] * rays[hit, 0], origin[2] + depth[hit] * rays[hit, 2]
    slope = terrain.surface(x, z)[:, terrain.SLOPES]
    up = torch.stack([-slope[:, 0], torch.ones_like(x), -slope[:, 1]], 1)
    # Interpolated slopes may turn a crest away from the viewer: there the ground is seen edge-on at most.
    up = up / up.norm(dim=1, keepdim=True)
    toward = rays[hit] / rays[hit].norm(dim=1, keepdim=True)
    up = up - _dot(up, toward).clamp(min=0)[:, None] * toward
    normal[hit] = up / up.norm(dim=1, keepdim=True)
    return Hits(torch.where(surface == SurfaceKind.SKY, math.inf, depth), surface, primitive, normal)
