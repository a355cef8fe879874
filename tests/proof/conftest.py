"""Files that the real programs are shown: of one small scene, written as the commands write them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.proof_scene import HEIGHT, RING, SCALE, SECONDS, WIDTH, missing

from jointnet_cli.files.exr import write_exr
from jointnet_cli.scene.scene import Scene, scene_of

Run = Callable[..., str]


@pytest.fixture(scope="session")
def program() -> Run:
    """`program("exrheader", *arguments)`: its stdout; `missing` where it is not installed, a failure where it fails."""

    def run(name: str, *arguments: str | Path, **environment: str) -> str:
        if shutil.which(name) is None:
            missing(f"{name} is not installed")
        ran = subprocess.run(
            [name, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**os.environ, **environment},
        )
        # The exit status of exrinfo 3.1.5 is a random number; what it finds it says on stderr.
        failed = bool(ran.stderr) if name == "exrinfo" else ran.returncode != 0
        assert not failed, f"{name}: {ran.stdout}\n{ran.stderr}"
        return ran.stdout

    return run


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """(H, W, 3): red grows to the right, green downwards, blue is 0.25."""
    red, green = np.meshgrid(np.linspace(0, 1, WIDTH, dtype=np.float32), np.linspace(0, 1, HEIGHT, dtype=np.float32))
    return np.stack([red, green, np.full_like(red, 0.25)], axis=-1)


@pytest.fixture(scope="session")
def disparity() -> np.ndarray:
    """(H, W): sky above; below it 0.2 at the left to 0.8 in the middle and back, 0.1 more at the bottom."""
    across = 0.8 - 0.6 * np.abs(np.linspace(-1, 1, WIDTH, dtype=np.float32))
    values = across + np.linspace(0, 0.1, HEIGHT, dtype=np.float32)[:, None]
    values[: HEIGHT // 4] = 0
    return values


@pytest.fixture(scope="session")
def normal(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) unit vectors, of which x and y are those of `picture`'s red and green, turned and halved."""
    x, y = (picture[..., 0] - 0.5) / 2, (0.5 - picture[..., 1]) / 2
    return np.stack([x, y, np.sqrt(1 - x * x - y * y)], axis=-1)


@pytest.fixture(scope="session")
def panorama(picture: np.ndarray, disparity: np.ndarray) -> Scene:
    return scene_of(picture, disparity, RING, SCALE)


@pytest.fixture(scope="session")
def exr(
    tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray, disparity: np.ndarray, normal: np.ndarray
) -> Path:
    """An EXR as image commands write it: picture, disparity and normals."""
    path = tmp_path_factory.mktemp("proof") / "reef.rgbdn.exr"
    record = {"prompt": "ocean reef", "projection": {"kind": "cylindrical", "span": 360.0, "wrap": True}}
    attributes = {"software": "jointnet-cli", "jointnet": json.dumps(record)}
    write_exr(path, picture, {"depth": disparity, "normal": normal}, attributes, RING)
    return path


@pytest.fixture(scope="session")
def converted(exr: Path) -> Callable[..., Path]:
    """`converted("s", "--to", "exr", …)`: the first file that `jointnet convert` makes of `exr`, in a folder of its own."""
    from typer.testing import CliRunner

    from jointnet_cli.cli import app

    def run(folder: str, *flags: str) -> Path:
        ran = CliRunner().invoke(app, ["convert", str(exr), *flags, "--out", str(exr.parent / folder), "--overwrite"])
        assert ran.exit_code == 0, ran.stderr
        return Path(ran.stdout.splitlines()[0])

    return run
