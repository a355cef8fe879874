from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.scene import orbit
from jointnet_cli.scene.orbit import frame_camera, orbit_cameras, write_orbit
from jointnet_cli.scene.render import Renderer
from jointnet_cli.scene.scene import DepthScale, Layer, Scene

FLAT = Projection("perspective", 60.0)
ARC = Projection("cylindrical", 180.0)
RING = Projection("cylindrical", 360.0, wrap=True)


def boxes(projection: Projection, height: int = 48, width: int = 96) -> Scene:
    """Smooth colours, a box before a wall."""
    y, x = np.mgrid[:height, :width] / width
    image = np.stack([0.5 + 0.4 * np.sin(2 * np.pi * x), y, 0.5 + 0.4 * np.cos(4 * np.pi * x)], -1).astype(np.float32)
    distance = np.full((height, width), 12, np.float32)
    box = slice(height // 3, 2 * height // 3), slice(width // 3, width // 2)
    image[box], distance[box] = [1, 0.9, 0.1], 1.5
    return Scene(Layer(image, distance), None, projection, DepthScale.from_range())


def frames(path: Path) -> NDArray[np.float32]:
    import imageio.v3

    return imageio.v3.imread(path, plugin="FFMPEG").astype(np.float32) / 255


def test_a_clip_can_be_read_back_and_loops(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "clip.mp4"
    scene = boxes(FLAT)
    made = write_orbit(path, scene, seconds=1, fps=12, width=97, record={"seed": 7})
    clip = frames(path)
    assert clip.shape == (12, made["height"], made["width"], 3)
    assert made["width"] % 2 == made["height"] % 2 == 0
    assert (made["frames"], made["fps"], made["seconds"]) == (12, 12, 1)
    step = np.abs(clip - np.roll(clip, -1, axis=0)).mean((1, 2, 3))
    assert step[-1] < 2 * step[:-1].max()  # from the last to the first is a step as any other
    assert np.abs(clip[0] - clip[3]).mean() > 0.004
    assert 0 <= made["filled"] < 0.05
    expected = Renderer(scene).see(frame_camera(scene, 97)).image
    assert np.abs(clip[0] - expected).mean() < 0.02  # it starts where the picture was taken, in its colours
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded
    assert b'{"seed": 7}' in data
    assert [item.name for item in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("projection", [FLAT, ARC, RING])
def test_no_frame_looks_past_the_picture(projection: Projection) -> None:
    scene = boxes(projection)
    reprojector = Renderer(scene)
    cameras = list(orbit_cameras(scene, 8, 64))
    seen = [reprojector.see(camera) for camera in cameras]
    assert not any(view.outside.any() for view in seen)
    assert max(view.filled for view in seen) < 0.06
    turned = np.ptp([camera.yaw for camera in cameras])
    assert turned > (300 if projection.wrap else 40 if projection is ARC else 0.3)
    assert all(np.hypot(*camera.position[::2]) < 0.15 for camera in cameras)


def test_the_path_closes_evenly() -> None:
    for projection in (FLAT, ARC, RING):
        path = list(orbit_cameras(boxes(projection), 24))
        places = np.array([camera.position for camera in [*path, path[0]]])
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert steps[-1] <= steps.max() * 1.01
        assert steps.max() > 0


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    seen = []

    def interrupted(self: Renderer, viewpoint: object) -> object:
        seen.append(viewpoint)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return real(self, viewpoint)  # type: ignore[arg-type]

    real = Renderer.see
    monkeypatch.setattr(orbit.Renderer, "see", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_orbit(tmp_path / "clip.mp4", boxes(FLAT), seconds=1, fps=8, width=64)
    assert list(tmp_path.iterdir()) == []


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="imageio-ffmpeg") as fault:
        write_orbit(tmp_path / "clip.mp4", boxes(FLAT))
    assert "pip install" in str(fault.value.hint)
    assert list(tmp_path.iterdir()) == []
