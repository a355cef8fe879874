"""What the commands are given: photos, maps, tables, small models. Made by other libraries, never by the package."""

from __future__ import annotations

import json
import sys
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
    _pipelines(folder)


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


def _pipelines(folder: Path) -> None:
    import torch

    sys.path.append(str(Path(__file__).parents[1]))
    from helpers import tiny

    torch.manual_seed(1)
    tiny.sdxl(_tokenizer(folder / "sdxl/tokenizer"), _tokenizer(folder / "sdxl/tokenizer_2")).save_pretrained(
        folder / "sdxl"
    )
    torch.manual_seed(2)
    words = sorted({f"▁{word}" for caption in CAPTIONS for word in caption.split()})
    tiny.deepfloyd_if([*sorted(set("".join(CAPTIONS)) - {" "}), *words]).save_pretrained(folder / "if")


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
