"""What the commands are given: photos, maps, tables, small models. Made by other libraries, never by the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CAPTIONS = [
    "a lake in the mountains",
    "ocean reef",
    "snowy hills at night",
    "a red hut",
    "cacti at noon",
    "the sea at dusk",
]
TEXT, SIDE = 16, 16


def make_inputs(folder: Path) -> None:
    """Write every input into `folder`."""
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:64, :96]
    photo = np.stack([rows * 3, columns * 2, (rows * columns) % 251], axis=-1).astype(np.uint8)
    Image.fromarray(photo).save(folder / "photo.png")
    depth = (65535 * (1 - rows / 80) * (0.6 + 0.4 * np.sin(columns / 9) ** 2)).astype(np.uint16)
    Image.fromarray(depth).save(folder / "map.png")
    np.save(folder / "distance.npy", (1 + rows / 8 + columns / 48).astype(np.float32))
    for name, (top, left) in {"mask": (16, 24), "depth-mask": (8, 40)}.items():
        mask = np.zeros((64, 96), np.uint8)
        mask[top : top + 32, left : left + 40] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    ring = np.zeros((128, 512), np.uint8)
    ring[30:100, :60] = ring[30:100, -60:] = 255
    Image.fromarray(ring).save(folder / "ring-mask.png")
    _photos(folder / "photos", photo)
    items = "prompt,seed,guidance\nocean reef,3,2.5\na lake at dawn,4,1\n"
    (folder / "items.csv").write_text(items)
    (folder / "prompts.txt").write_text("ocean reef\na lake in the mountains at dawn\n")
    (folder / "known.csv").write_text("10,10,4\n80,50,1.5\n40,30,2.5\n")
    _teacher(folder / "teacher.onnx")
    _sdxl(folder / "sdxl")
    _deepfloyd_if(folder / "if")


def _photos(folder: Path, photo: np.ndarray) -> None:
    folder.mkdir()
    for number, caption in enumerate(CAPTIONS):
        picture = np.roll(photo, 7 * number, axis=1)
        Image.fromarray(picture).save(folder / f"{number}.jpg", quality=95)
        (folder / f"{number}.txt").write_text(caption)


def _teacher(path: Path) -> None:
    """Inverse depth = 1 - brightness: one 1x1 convolution."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.full((1, 3, 1, 1), -1 / 3, np.float32)
    shape = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel", "bias"], ["map"])],
        "pixelwise",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 1, *shape[2:]])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.ones(1, np.float32), "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _tokenizer(folder: Path):
    """A CLIP tokenizer whose words are single letters."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=32,
        pad_token="<|endoftext|>",
    )


UNET = {
    "sample_size": SIDE,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": (2, 4),
}
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def _sdxl(folder: Path) -> None:
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(1)
    first, second = _tokenizer(folder / "tokenizer"), _tokenizer(folder / "tokenizer_2")

    def config(activation: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(first),
            hidden_size=TEXT,
            intermediate_size=32,
            projection_dim=TEXT,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=32,
            hidden_act=activation,
            bos_token_id=first.bos_token_id,
            eos_token_id=first.eos_token_id,
            pad_token_id=first.pad_token_id,
        )

    StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            sample_size=2 * SIDE,
            scaling_factor=0.13025,
        ),
        text_encoder=CLIPTextModel(config("quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(config("gelu")),
        tokenizer=first,
        tokenizer_2=second,
        unet=UNet2DConditionModel(
            **UNET,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            cross_attention_dim=2 * TEXT,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + TEXT,
        ),
        scheduler=EulerDiscreteScheduler(**NOISE),
        add_watermarker=False,
    ).save_pretrained(folder)


def _deepfloyd_if(folder: Path) -> None:
    import torch
    from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(2)
    words = sorted({f"▁{word}" for caption in CAPTIONS for word in caption.split()})
    letters = sorted(set("".join(CAPTIONS)) - {" "})
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary = [*marks, *((piece, -1.0) for piece in dict.fromkeys([*letters, *words]))]
    text_encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(vocabulary) + 100,
            d_model=TEXT,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
        )
    )
    IFPipeline(
        tokenizer=T5Tokenizer(vocab=vocabulary),
        text_encoder=text_encoder.eval(),
        unet=UNet2DConditionModel(
            **{**UNET, "sample_size": 32, "attention_head_dim": 4},
            in_channels=3,
            out_channels=6,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            cross_attention_dim=32,
            encoder_hid_dim=TEXT,
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            cross_attention_norm="group_norm",
            resnet_time_scale_shift="scale_shift",
            act_fn="gelu",
        ),
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", thresholding=True, sample_max_value=1.5, variance_type="learned_range"
        ),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
