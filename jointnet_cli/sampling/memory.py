"""Estimates of memory and seconds before a model is loaded, and the memory that this machine has. No torch."""

from __future__ import annotations

import math
import os
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

from rich.filesize import decimal as size_text

from jointnet_cli.devices import STRIP_AREA, STRIP_MARGIN, TILE_AREA
from jointnet_cli.errors import UserError
from jointnet_cli.model.config import read_json
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.model.weights import count_parameters, find_weights
from jointnet_cli.sampling.layout import Layout
from jointnet_cli.sampling.presets import MAX_STEPS, Resolved, is_guided
from jointnet_cli.sampling.schedule import steps_run

_PROCESS = 600 * 10**6
"""Bytes of a process that has imported torch and diffusers, without a model."""

_PIXEL = 40
"""Bytes per pixel and channel of a canvas: float32 arrays, their resized and quantized copies."""

_PHOTO_PIXEL = 16
"""The same of a result that is larger than its canvas: `depth` takes 8, `inpaint` 13 (docs/reliability.md)."""

SCENE_PIXEL = 250
"""Bytes per pixel of a scene with two layers and its mesh."""

CONVERT_PIXEL = 60
"""Bytes per pixel of the largest file that `convert` reads and writes (docs/reliability.md)."""

_COPIES = 6
"""Feature maps of the widest size that a decoder holds at once."""

_FEATURES = 30
"""Feature maps of a UNet's first width that one pass holds at once, per latent pixel: skips and temporary tensors."""

_OPERATIONS = 0.25
"""Multiplications per parameter and latent pixel of a UNet, of which most run at lower resolutions."""

_SPEED = {"cpu": 1e10, "cuda": 2e13, "mps": 2e12}
"""Multiplications per second of one CPU core, a GPU, and Apple's GPU: orders of magnitude."""


@dataclass(frozen=True)
class ResourceEstimate:
    """What one result needs."""

    bytes: int
    """Memory of the process; with a GPU without what lies there."""
    device_bytes: int
    """Memory of the GPU, at the smallest batch of tiles."""
    seconds: float | None
    """`None` where the model's weights are not on this machine."""


def estimate(
    folder: ModelFolder,
    layout: Layout,
    size: tuple[int, int],
    *,
    device: str,
    dtype: str,
    sampling: Resolved,
    strength: float = 1.0,
    members: int = 1,
    scene: bool = False,
) -> ResourceEstimate:
    """Estimate one result.

    Args:
        folder: of the model.
        layout: its canvas, in latent pixels.
        size: height and width of the result in pixels.
        device: `cpu`, `cuda` or `mps`.
        dtype: of the network.
        sampling: how it is denoised.
        strength: fraction of the steps that are run.
        members: predictions that are merged.
        scene: whether a mesh or another export is made.
    """
    branches, number = len(folder.branches), 4 if dtype == "float32" else 2
    vae_number = 2 if dtype == "float16" else 4
    weights = sum(_weight_bytes(place, vae_number if place.name == "vae" else number) for place in folder.networks)
    area = layout.height * layout.width
    whole = layout.single or layout.whole_image_until > 0
    tile = area if layout.single else min(area, layout.window[0] * layout.window[1])
    # A batch that does not fit into a GPU is halved, down to one tile.
    at_once = tile * (1 if device == "cuda" else sampling.tile_batch or max(1, TILE_AREA["cpu"] // tile))
    tiles = 1 if layout.single else math.ceil(layout.height / layout.stride) * math.ceil(layout.width / layout.stride)
    passed = max(min(at_once, tiles * tile), area if whole else 0) * branches * (2 if sampling.guidance != 1 else 1)
    network = passed * _first_width(folder.path / "unet") * number * _FEATURES
    decoder = 0
    if folder.family.has_vae:
        strip = area * branches if area <= STRIP_AREA else max(STRIP_AREA, 3 * STRIP_MARGIN * layout.height)
        decoder = strip * folder.factor**2 * _first_width(folder.base / "vae") * vae_number * _COPIES
    pixels, drawn = size[0] * size[1], area * folder.factor**2
    arrays = (3 + 2 * (branches - 1)) * (min(pixels, drawn) * _PIXEL + max(0, pixels - drawn) * _PHOTO_PIXEL)
    arrays += members * drawn * 4 * branches
    arrays += pixels * SCENE_PIXEL if scene else 0
    computing = weights + max(network, decoder) + area * branches * 64
    on_gpu = device == "cuda"
    seen = tile * members * sum(_evaluations(layout, sampling, strength))
    return ResourceEstimate(
        _PROCESS + arrays + (weights if on_gpu else computing),
        computing if on_gpu else 0,
        _seconds(folder, seen, area, device),
    )


def _evaluations(layout: Layout, sampling: Resolved, strength: float) -> Iterator[float]:
    """Yield about how many tiles each step passes through the network, with guidance twice."""
    for step in range(sampling.steps - steps_run(sampling.steps, strength), sampling.steps):
        timestep = MAX_STEPS * (1 - step / sampling.steps)
        tiles = layout.expected_evaluations(step, sampling.steps)
        yield tiles * (1 + is_guided(sampling.guidance, sampling.guidance_interval, timestep))


def _seconds(folder: ModelFolder, seen: float, area: int, device: str) -> float | None:
    """Return the seconds of passing latent pixels through the network, and of decoding the canvas."""
    networks: list[tuple[Path, float]] = [(folder.path / place, seen) for place in folder.backbones.values()]
    if folder.family.has_vae:
        # Half of an autoencoder decodes. Strips overlap, and are decoded twice.
        pixels = area * folder.factor**2 * len(folder.branches) * (6 if area > STRIP_AREA else 1)
        networks.append((folder.base / "vae", pixels // 2))
    operations = 0.0
    for place, positions in networks:
        if (parameters := _parameters(place)) is None:
            return None
        operations += parameters * positions * _OPERATIONS
    cores = len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1
    return operations / (_SPEED[device] * cores)


# A batch asks the same of one model and one machine for every item.


@cache
def _weight_bytes(place: Path, number: int) -> int:
    """Return the bytes of a network's weights of `number` bytes each; 0 where they are not on this machine."""
    if (parameters := _parameters(place)) is not None:
        return parameters * number
    found = find_weights(place)
    return sum(path.stat().st_size for path in found.files) if found else 0


@cache
def _parameters(place: Path) -> int | None:
    """Return the parameters of a network; `None` where only reading its weights whole would tell."""
    found = find_weights(place)
    if found is None or found.files[0].suffix != ".safetensors":
        return None
    return sum(map(count_parameters, found.files))


@cache
def _first_width(place: Path) -> int:
    """Return the channels of a network's first level."""
    return int(read_json(place / "config.json", "block_out_channels")["block_out_channels"][0])


def require_memory(needed: ResourceEstimate, what: str, hint: str) -> None:
    """Refuse what this machine cannot hold.

    Raises:
        UserError: the estimate exceeds the memory of the machine, of its control group, or of its GPU.
    """
    limit, on_gpu = memory_limit(), gpu_memory() if needed.device_bytes else None
    if limit is not None and needed.bytes > limit:
        raise UserError(
            f"{what} needs about {size_text(needed.bytes)} of memory; the limit here is {size_text(limit)}", hint
        )
    if on_gpu is not None and needed.device_bytes > on_gpu:
        raise UserError(
            f"{what} needs about {size_text(needed.device_bytes)} on the GPU, which has {size_text(on_gpu)}", hint
        )


@cache
def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that this process can have: of the machine, its control groups and its resource limits.

    `root` holds `proc` and `sys`; `None` where nothing is known.
    """
    limits = [_cgroup_limit(root)]
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:")]
    except OSError:
        if root == Path("/") and "SC_PHYS_PAGES" in os.sysconf_names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if (own := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        limits.append(own)
    return min((limit for limit in limits if limit is not None), default=None)


def _cgroup_limit(root: Path) -> int | None:
    """Return the least limit of the control groups of this process, versions 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, name = (
            ("sys/fs/cgroup", "memory.max") if not controllers else ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        )
        # In a container the group may be the root of what is mounted.
        parts = Path(group.strip("/")).parts
        for depth in range(len(parts) + 1):
            try:
                text = (root / mount).joinpath(*parts[:depth], name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                limits.append(int(text))
    return min(limits, default=None)


@cache
def gpu_memory() -> int | None:
    """Return the bytes of the largest NVIDIA GPU; `None` if `nvidia-smi` does not tell."""
    if (program := which("nvidia-smi")) is None:
        return None
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        return max(int(line) for line in told.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
