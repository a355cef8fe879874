"""The Khronos glTF validator (npm `gltf-validator`, run by node) finds nothing wrong with our GLB."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.proof_scene import CACHE, SCALE, missing
from helpers.scenes import mesh_of

from jointnet_cli.projection import Projection
from jointnet_cli.scene.mesh_files import write_glb
from jointnet_cli.scene.scene import Layer, Scene, scene_of

SCRIPT = """
const fs = require('fs');
require('gltf-validator').validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])), {maxIssues: 0})
  .then(report => console.log(JSON.stringify(report)));
"""


@pytest.fixture
def validate(program):
    folder = Path(os.environ.get("JOINTNET_GLTF_VALIDATOR", CACHE / "node_modules"))
    if not (folder / "gltf-validator").is_dir():
        folder = Path(program("npm", "root", "-g").strip())
    if not (folder / "gltf-validator").is_dir():
        missing("gltf-validator is not installed")
    return lambda path: json.loads(program("node", "-e", SCRIPT, path, NODE_PATH=str(folder)))


def scenes(panorama: Scene, picture: np.ndarray, disparity: np.ndarray) -> dict[str, Scene]:
    hidden = np.zeros(disparity.shape, bool)
    hidden[20:30, 20:40] = True
    behind = Layer(picture[:, ::-1].copy(), panorama.front.distance * np.float32(1.5), hidden)
    return {
        "panorama": panorama,
        "layers": replace(panorama, behind=behind),
        "photo": scene_of(picture, disparity, Projection("perspective", 60.0), SCALE),
        "no sky": scene_of(picture, np.maximum(disparity, 0.1), Projection("cylindrical", 180.0), SCALE),
        "sky alone": scene_of(picture, disparity * 0, Projection("perspective", 60.0), SCALE),
    }


@pytest.mark.parametrize("name", ["panorama", "layers", "photo", "no sky", "sky alone"])
@pytest.mark.parametrize("skirt", [False, True])
def test_no_errors_and_no_warnings(validate, panorama, picture, disparity, tmp_path, name, skirt):
    scene = scenes(panorama, picture, disparity)[name]
    write_glb(tmp_path / "scene.glb", mesh_of(scene, watertight=skirt), {"prompt": "ocean reef", "seed": 3})
    report = validate(tmp_path / "scene.glb")
    found = report["issues"]
    assert (found["numErrors"], found["numWarnings"]) == (0, 0), found["messages"]
    assert report["info"]["totalTriangleCount"] > 0
    assert report["info"]["extensionsUsed"] == ["KHR_materials_unlit"]
