"""One small result of each task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jointnet_cli.progress import Timer
from jointnet_cli.projection import Projection
from jointnet_cli.request import Request
from jointnet_cli.results import Result
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.task_inputs import ImageFile, MapFiles, MaskFiles, RefinedMapFiles
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine

HEIGHT, WIDTH = 16, 64
SETTINGS = {
    "model": "diorama",
    "model_hash": "0123abcd",
    "steps": 12,
    "guidance": 3.5,
    "scheduler": "ddim",
    "dtype": "float32",
}


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """`make_result("generate" | "depth" | "inpaint" | "refine" | "panorama", maps=("depth",), **task fields)`."""

    def make(kind: str, maps: tuple[str, ...] = ("depth",), **fields: Any) -> Result:
        random = np.random.default_rng(7)
        image = random.random((HEIGHT, WIDTH, 3), np.float32)
        normal = random.standard_normal((HEIGHT, WIDTH, 3), np.float32)
        arrays = {
            "depth": random.random((HEIGHT, WIDTH), np.float32),
            "normal": normal / np.linalg.norm(normal, axis=-1, keepdims=True),
        }
        task: Request
        projection = Projection("perspective", 60.0)
        if kind == "generate":
            task = Generate(**{"prompt": "ocean reef", "seed": 5, **fields})
        elif kind == "depth":
            task = Depth(**{"image": image, "source": Path("photos/My Cat.jpg"), "seed": 5, **fields})
        elif kind == "inpaint":
            given = {"maps": {"depth": arrays["depth"]}, "masks": {"rgb": np.ones((HEIGHT, WIDTH), np.float32)}}
            files = {
                "photo": ImageFile(Path("beach.png")),
                "files": MapFiles(Path("beach.exr")),
                "marks": MaskFiles(Path("mask.png")),
            }
            task = Inpaint(**{"image": image, "prompt": "a palm", "seed": 5, **given, **files, **fields})
        elif kind == "refine":
            given = {
                "maps": {"depth": arrays["depth"]},
                "photo": ImageFile(Path("0.image.png")),
                "files": RefinedMapFiles(Path("0.depth.png")),
            }
            task = Refine(**{"image": image, "seed": 5, **given, **fields})
            projection = task.projection or projection
        else:
            task = Panorama(**{"prompt": "ocean reef", "seed": 5, "sampling": Sampling(tile_batch=4), **fields})
            projection = Projection("cylindrical", task.span, task.wraps)
        timings = {"text": 0.25, "denoise": 1.5, "decode": 0.25}
        return Result(
            task, image, {name: arrays[name] for name in maps}, projection, dict(SETTINGS), Timer(seconds=timings)
        )

    return make
