"""A short clip of a scene, seen from a camera that moves a little and comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import numpy as np

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.text import to_json
from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import Camera, focal_length
from jointnet_cli.scene.render import Renderer
from jointnet_cli.scene.scene import Scene

LOOP, ROUND = 4.0, 12.0
"""Seconds of a clip by default: of a path that comes back, and of one that turns full circle."""

SWAY = 0.03
"""How far the nearest things move at most, of the width of a frame."""

RISE, ADVANCE = 0.3, 0.7
"""How far the camera rises and how far it goes ahead, of how far it goes to the side."""

WINDOW, ASPECT = 75.0, 16 / 9
"""Degrees across that a frame of a panorama shows at most, and its width over its height."""

NARROWEST = 512
"""Columns of a frame at least, unless others are asked for."""

QUALITY = 18
"""x264's constant rate factor: what eyes hardly tell from the frames themselves."""


def write_orbit(
    path: Path,
    scene: Scene,
    *,
    seconds: float | None = None,
    fps: int = 24,
    width: int | None = None,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a clip that loops, H.264 in MP4; frames are made and encoded one at a time.

    An image is seen from a figure of eight around where it was taken, a panorama from a small circle while it turns: full
    circle if it wraps, to and fro otherwise. Frames have the image's own resolution and 512 columns at least, unless
    `width` says otherwise; both sides are even. `record` becomes the comment of the file.

    Returns:
        `frames`, `fps`, `seconds`, `width`, `height`, and `filled`: the mean share of pixels that no layer shows.

    Raises:
        UserError: imageio-ffmpeg is not installed, or it cannot encode.
        OSError: the disk is full.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise UserError("a clip needs imageio-ffmpeg", hint="pip install imageio-ffmpeg") from error
    if seconds is None:
        seconds = ROUND if scene.projection.wrap else LOOP
    cameras = list(orbit_cameras(scene, max(2, round(seconds * fps)), width))
    reprojector = Renderer(scene)
    filled = []
    # Players take untagged small images for another standard than large ones: say which, and encode by it.
    options = ["-crf", str(QUALITY), "-movflags", "+faststart", "-vf", "scale=out_color_matrix=bt709:out_range=tv"]
    options += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    if record is not None:
        options += ["-metadata", f"comment={to_json(dict(record))}"]
    size = f"{cameras[0].width}x{cameras[0].height}"
    command = [get_ffmpeg_exe(), "-y", "-f", "rawvideo", "-vcodec", "rawvideo", "-s", size, "-pix_fmt", "rgb24"]
    command += ["-r", str(fps), "-i", "-", "-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-v", "error", *options]

    def frames() -> Iterator[bytes]:
        for camera in cameras:
            frame = reprojector.see(camera)
            filled.append(frame.filled)
            yield np.rint(np.clip(frame.image, 0, 1) * 255).astype(np.uint8).tobytes()

    with atomic_file(path) as temporary:
        _encode([*command, str(temporary)], frames())
    return {
        "frames": len(cameras),
        "fps": fps,
        "seconds": len(cameras) / fps,
        "width": cameras[0].width,
        "height": cameras[0].height,
        "filled": float(np.mean(filled)),
    }


def _encode(command: list[str], frames: Iterator[bytes]) -> None:
    """Give frames to ffmpeg.

    Its own group of processes keeps Ctrl-C from it, and signals that Python ignores do not end it without a word.
    """
    streams: dict[str, Any] = {"stdin": PIPE, "stdout": DEVNULL, "stderr": PIPE}
    with subprocess.Popen(command, **streams, process_group=0, restore_signals=False) as process:
        assert process.stdin is not None and process.stderr is not None
        try:
            for frame in frames:
                try:
                    process.stdin.write(frame)
                except BrokenPipeError:  # ffmpeg has ended, and says why
                    break
            with suppress(BrokenPipeError):
                process.stdin.close()
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        raise UserError(f"the clip cannot be encoded: {' '.join(said) or 'ffmpeg failed'}")


def orbit_cameras(scene: Scene, frames: int, width: int | None = None) -> Iterator[Camera]:
    """Yield the camera of each frame; the one after the last would be the first again."""
    view = frame_camera(scene, width)
    nearest, middle = _distances(scene)
    # The image of a thing at `nearest` moves by `reach` / `nearest` focal lengths.
    reach = SWAY * nearest * view.width / focal_length(view.projection, view.width)
    swing = max(0.0, scene.projection.span - view.projection.span) / 2
    for frame in range(frames):
        angle = 2 * np.pi * frame / frames
        side, up = np.sin(angle), RISE * np.sin(2 * angle)
        if scene.projection.kind == "cylindrical":
            yaw = float(np.degrees(angle)) if scene.projection.wrap else swing * side
            ahead = np.radians(yaw)
            x, y, z = reach * np.array([np.sin(ahead), up, -np.cos(ahead)])
            yield replace(view, position=(float(x), float(y), float(z)), yaw=yaw)
        else:
            x, y, z = reach * np.array([side, up, -ADVANCE * (1 - np.cos(angle)) / 2])
            yaw, pitch = np.degrees(np.arctan2(-x, middle + z)), np.degrees(np.arctan2(-y, middle + z))
            yield replace(view, position=(float(x), float(y), float(z)), yaw=float(yaw), pitch=float(pitch))


def frame_camera(scene: Scene, width: int | None = None) -> Camera:
    """Return a pinhole camera at the origin that sees a little less than the image shows; its sides are even."""
    height, columns = scene.front.distance.shape
    focal = focal_length(scene.projection, columns)
    if scene.projection.kind == "cylindrical":
        up = height / 2 / focal
        across = min(
            np.tan(np.radians(WINDOW) / 2), up * ASPECT, np.tan(np.radians(min(scene.projection.span, 170) / 2))
        )
        up = across / ASPECT
    else:
        across, up = columns / 2 / focal, height / 2 / focal
    across, up = (1 - 2 * SWAY) * across, (1 - 2 * SWAY) * up
    columns = max(NARROWEST, round(2 * across * focal)) if width is None else width
    size = _even(columns * up / across), _even(columns)
    return Camera(Projection("perspective", float(np.degrees(2 * np.arctan(across)))), *size)


def _distances(scene: Scene) -> tuple[float, float]:
    """Return metres to the nearest things but for a fiftieth, and to what lies in the middle; far where all is sky."""
    distance = scene.front.distance[np.isfinite(scene.front.distance)]
    if not distance.size:
        return scene.scale.far, scene.scale.far
    nearest, middle = np.percentile(distance, [2, 50])
    return float(nearest), float(middle)


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)
