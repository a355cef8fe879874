"""Omnidata's published checkpoint: a DPT-hybrid under MiDaS' names becomes the same network in transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from jointnet_cli.data.labels.networks import normal_dpt
from jointnet_cli.data.labels.omnidata import HYBRID, UNUSED, load_omnidata, rename
from jointnet_cli.errors import UserError

TO_MIDAS = [
    (r"^dpt\.embeddings\.(cls_token)$", r"pretrained.model.\1"),
    (r"^dpt\.embeddings\.position_embeddings$", "pretrained.model.pos_embed"),
    (r"^dpt\.embeddings\.projection", "pretrained.model.patch_embed.proj"),
    (r"^dpt\.embeddings\.backbone\.bit\.embedder\.convolution", "pretrained.model.patch_embed.backbone.stem.conv"),
    (r"^dpt\.embeddings\.backbone\.bit\.embedder\.norm", "pretrained.model.patch_embed.backbone.stem.norm"),
    (
        r"^dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(\d)\.layers\.(\d)",
        r"pretrained.model.patch_embed.backbone.stages.\1.blocks.\2",
    ),
    (r"^dpt\.encoder\.layer", "pretrained.model.blocks"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(blocks\.\d+)\.output\.dense", r"\1.mlp.fc2"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^dpt\.layernorm", "pretrained.model.norm"),
    (r"^neck\.reassemble_stage\.readout_projects\.2\.0", "pretrained.act_postprocess3.0.project.0"),
    (r"^neck\.reassemble_stage\.readout_projects\.3\.0", "pretrained.act_postprocess4.0.project.0"),
    (r"^neck\.reassemble_stage\.layers\.2\.projection", "pretrained.act_postprocess3.3"),
    (r"^neck\.reassemble_stage\.layers\.3\.projection", "pretrained.act_postprocess4.3"),
    (r"^neck\.reassemble_stage\.layers\.3\.resize", "pretrained.act_postprocess4.4"),
    *((rf"^neck\.convs\.{n}", f"scratch.layer{n + 1}_rn") for n in range(4)),
    *((rf"^neck\.fusion_stage\.layers\.{n}", f"scratch.refinenet{4 - n}") for n in range(4)),
    (r"(refinenet\d)\.projection", r"\1.out_conv"),
    (r"residual_layer(\d)\.convolution(\d)", r"resConfUnit\1.conv\2"),
    (r"^head\.head", "scratch.output_conv"),
]
"""transformers' names to MiDaS', written down apart from the code under test."""
KNOWN = [
    "pretrained.model.patch_embed.backbone.stages.2.blocks.8.conv3.weight",
    "pretrained.model.blocks.11.attn.qkv.bias",
    "pretrained.act_postprocess4.4.weight",
    "scratch.layer1_rn.weight",
    "scratch.refinenet4.resConfUnit2.conv1.bias",
    "scratch.output_conv.4.weight",
]


def tiny_hybrid() -> Any:
    from transformers import DPTConfig

    return DPTConfig(**{
        **HYBRID, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
        "neck_hidden_sizes": [16, 32, 16, 16], "fusion_hidden_size": 8, "backbone_featmap_shape": [1, 64, 2, 2],
        "backbone_config": {
            "model_type": "bit", "global_padding": "same", "layer_type": "bottleneck", "depths": [3, 4, 9],
            "out_features": ["stage1", "stage2", "stage3"], "embedding_dynamic_padding": True, "embedding_size": 8,
            "hidden_sizes": [16, 32, 64], "num_groups": 4,
        },
    })  # fmt: skip


def midas_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model of transformers as MiDaS names and joins them."""
    tensors: dict[str, torch.Tensor] = {}
    joined: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if part := re.match(r"dpt\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(\w+)", name):
            joined.setdefault(f"pretrained.model.blocks.{part[1]}.attn.qkv.{part[3]}", {})[part[2]] = tensor
            continue
        for pattern, replacement in TO_MIDAS:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    for name, parts in joined.items():
        tensors[name] = torch.cat([parts[part] for part in ("query", "key", "value")])
    return tensors


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return normal_dpt()(tiny_hybrid()).eval()


@pytest.mark.parametrize("training_module", [True, False])
def test_the_network_is_the_same(tmp_path: Path, model: Any, training_module: bool) -> None:
    tensors = midas_tensors(model)
    assert set(KNOWN) <= set(tensors)
    tensors |= {"pretrained.model.head.weight": torch.zeros(1000, 16), "pretrained.model.head.bias": torch.zeros(1000)}
    content: Any = tensors
    if training_module:
        content = {"epoch": 3, "state_dict": {f"model.{name}": tensor for name, tensor in tensors.items()}}
    torch.save(content, tmp_path / "omnidata.ckpt")
    loaded = load_omnidata(tmp_path / "omnidata.ckpt", tiny_hybrid())
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(images).predicted_depth
        assert expected.shape == (1, 3, 32, 32)
        torch.testing.assert_close(loaded(images).predicted_depth, expected, rtol=0, atol=0)


def test_every_name_of_the_full_network_is_known() -> None:
    from transformers import DPTConfig

    with torch.device("meta"):
        full = normal_dpt()(DPTConfig(**HYBRID))
    renamed = rename(midas_tensors(full))
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in full.state_dict().items() if not name.startswith(UNUSED)
    }


def test_another_network_is_refused(tmp_path: Path, model: Any) -> None:
    tensors = midas_tensors(model)
    tensors["scratch.output_conv.4.weight"] = tensors["scratch.output_conv.4.weight"][:1]
    torch.save(tensors, tmp_path / "depth.ckpt")
    with pytest.raises(UserError, match="no DPT-hybrid for normals"):
        load_omnidata(tmp_path / "depth.ckpt", tiny_hybrid())


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path, model: Any) -> None:
    tensors = midas_tensors(model)
    del tensors["scratch.refinenet1.out_conv.weight"]
    torch.save(tensors, tmp_path / "lacking.ckpt")
    with pytest.raises(UserError, match=r"fusion_stage\.layers\.3\.projection\.weight"):
        load_omnidata(tmp_path / "lacking.ckpt", tiny_hybrid())


def test_a_file_that_holds_more_than_tensors_is_not_executed(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"state_dict": {}, "callbacks": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="more than tensors"):
        load_omnidata(tmp_path / "evil.ckpt", tiny_hybrid())
    assert not (tmp_path / "owned").exists()
