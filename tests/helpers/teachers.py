"""Teachers small enough to be made in a test: a DPT from its configuration, and ONNX files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 32


def save_dpt(folder: Path, *, channels: int = 1, **preprocessing: Any) -> Path:
    """A DPT with random weights in transformers' format, for images of 32 pixels."""
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=SIDE,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    model = DPTForDepthEstimation(config)
    if channels != 1:
        model.head.head[4] = torch.nn.Conv2d(32, channels, 1)
    torch.nn.init.uniform_(model.head.head[4].bias, 0.3, 0.9)
    model.save_pretrained(folder)
    facts = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": SIDE, "width": SIDE}, **preprocessing}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def save_onnx(
    path: Path,
    weights: Sequence[Sequence[float]],
    bias: Sequence[float],
    *,
    shape: Sequence[int | str] = ("batch", 3, "height", "width"),
    facts: Mapping[str, str] | None = None,
) -> Path:
    """A network of one 1x1 convolution: every pixel of the map is `weights @ rgb + bias`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.asarray(weights, np.float32)[:, :, None, None]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel", "bias"], ["map"])],
        "pixelwise",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [shape[0], len(bias), *shape[2:]])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.asarray(bias, np.float32), "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dict(facts or {}))
    onnx.save(model, path)
    return path


INVERTED = ([[-1 / 3] * 3], [1.0])
"""Weights and bias of a network that takes the dark for near: inverse depth = 1 - brightness."""
