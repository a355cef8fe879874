"""Normals by Omnidata, from the published checkpoint, `omnidata_dpt_normal_v2.ckpt`.

It is a DPT-hybrid with the parameter names of MiDaS; transformers has the same network under names of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jointnet_cli.data.labels.networks import MapNetwork, digest, normal_dpt
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.text import open_regular

LAYERS = 12

HYBRID: dict[str, Any] = {
    "is_hybrid": True,
    "hidden_size": 768,
    "num_hidden_layers": LAYERS,
    "reassemble_factors": [1, 1, 1, 0.5],
    "neck_hidden_sizes": [256, 512, 768, 768],
}
"""What DPT-hybrid changes of transformers' `DPTConfig`."""

UNUSED = ("pretrained.model.head.", "scratch.refinenet4.resConfUnit1.", "neck.fusion_stage.layers.0.residual_layer1.")
"""The classifier that the encoder was pretrained with, and the unit by which the first fusion would join an earlier one:
not every version of the network has it."""


def open_omnidata(path: Path, device: torch.device) -> MapNetwork:
    """Return the network of a published checkpoint, in float32.

    Raises:
        UserError: the file is damaged, holds more than tensors, or is not a DPT-hybrid with three channels.
    """
    from transformers import DPTConfig

    model = load_omnidata(path, DPTConfig(**HYBRID)).to(device)
    return MapNetwork(lambda images: model(images).predicted_depth, device, digest([path]))


def load_omnidata(path: Path, config: Any) -> torch.nn.Module:
    """Return the same network in transformers' form; `config` is its `DPTConfig`."""
    model = normal_dpt()(config)
    with reading(path, cause="it is no DPT-hybrid for normals"):
        loading = model.load_state_dict(rename(_read(path)), strict=False)
    unmatched = [name for name in (*loading.missing_keys, *loading.unexpected_keys) if not name.startswith(UNUSED)]
    if unmatched:
        raise UserError(f"{path} is no DPT-hybrid for normals: no counterpart of {unmatched[0]}")
    frozen: torch.nn.Module = model.eval().requires_grad_(False)
    return frozen


def _read(path: Path) -> dict[str, Tensor]:
    hint = "give a file of tensors alone, an .onnx of the network, or a folder with it in transformers' format"
    with reading(path, hint, cause="it is damaged or holds more than tensors"), open_regular(path) as file:
        content = torch.load(file, map_location="cpu", weights_only=True)
    tensors = content.get("state_dict", content) if isinstance(content, dict) else {}
    # The published file is a training module's, of which the network is the part `model`.
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a DPT-hybrid's tensors under transformers' names; what has no counterpart keeps its own."""
    prefixes = dict(_prefixes())
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(UNUSED):
            continue
        module, _, leaf = name.rpartition(".")
        if module in prefixes:
            renamed[f"{prefixes[module]}.{leaf}"] = tensor
        elif name in prefixes:
            renamed[prefixes[name]] = tensor
        elif module.endswith(".attn.qkv"):
            layer = module.split(".")[-3]
            for part, values in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"dpt.encoder.layer.{layer}.attention.attention.{part}.{leaf}"] = values
        else:
            renamed[_backbone(name)] = tensor
    return renamed


def _backbone(name: str) -> str:
    """Return `….backbone.stages.1.blocks.2.conv3.weight`: the inner modules have the same names in both."""
    ours, theirs = "pretrained.model.patch_embed.backbone.stages.", "dpt.embeddings.backbone.bit.encoder.stages."
    return theirs + name.removeprefix(ours).replace(".blocks.", ".layers.", 1) if name.startswith(ours) else name


def _prefixes() -> Iterator[tuple[str, str]]:
    """Yield modules and single parameters by MiDaS' names and by transformers'."""
    vit, stem = "pretrained.model", "pretrained.model.patch_embed.backbone.stem"
    yield f"{vit}.cls_token", "dpt.embeddings.cls_token"
    yield f"{vit}.pos_embed", "dpt.embeddings.position_embeddings"
    yield f"{vit}.patch_embed.proj", "dpt.embeddings.projection"
    yield f"{stem}.conv", "dpt.embeddings.backbone.bit.embedder.convolution"
    yield f"{stem}.norm", "dpt.embeddings.backbone.bit.embedder.norm"
    yield f"{vit}.norm", "dpt.layernorm"
    for layer in range(LAYERS):
        block, encoder = f"{vit}.blocks.{layer}", f"dpt.encoder.layer.{layer}"
        yield f"{block}.norm1", f"{encoder}.layernorm_before"
        yield f"{block}.norm2", f"{encoder}.layernorm_after"
        yield f"{block}.attn.proj", f"{encoder}.attention.output.dense"
        yield f"{block}.mlp.fc1", f"{encoder}.intermediate.dense"
        yield f"{block}.mlp.fc2", f"{encoder}.output.dense"
    for stage in range(4):
        post, reassemble = f"pretrained.act_postprocess{stage + 1}", "neck.reassemble_stage"
        yield f"{post}.0.project.0", f"{reassemble}.readout_projects.{stage}.0"
        yield f"{post}.3", f"{reassemble}.layers.{stage}.projection"
        yield f"{post}.4", f"{reassemble}.layers.{stage}.resize"
        yield f"scratch.layer{stage + 1}_rn", f"neck.convs.{stage}"
        # MiDaS counts fusion from the finest stage, transformers in the order of computation.
        refine, fusion = f"scratch.refinenet{stage + 1}", f"neck.fusion_stage.layers.{3 - stage}"
        yield f"{refine}.out_conv", f"{fusion}.projection"
        for unit in (1, 2):
            for conv in (1, 2):
                yield f"{refine}.resConfUnit{unit}.conv{conv}", f"{fusion}.residual_layer{unit}.convolution{conv}"
    for place in (0, 2, 4):
        yield f"scratch.output_conv.{place}", f"head.head.{place}"
