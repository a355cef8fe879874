"""Networks that predict a dense map of an image, read from transformers' folders and ONNX files with their settings.

Nothing in a checkpoint is executed: transformers runs its own classes only, pickles are read as tensors only.
"""

from __future__ import annotations

import glob
import hashlib
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.text import from_json, open_regular
from jointnet_cli.model.config import known_files, read_json
from jointnet_cli.model.hub import fetch_network
from jointnet_cli.model.weights import Kind, find_weights

KINDS = {
    "dpt": "disparity",
    "depth_pro": "disparity",
    "glpn": "distance",
    "zoedepth": "distance",
    "tipsv2_dpt": "distance",
}
"""What the depth models of transformers predict, by `model_type`; Depth Anything says it in its configuration."""


@dataclass(frozen=True)
class MapNetwork:
    """A network on its device. `None` stands for what its files do not state."""

    run: Callable[[Tensor], Tensor]
    """Normalised images (B, 3, h, w) on `device` to maps (B, C, h', w'), as the network means them."""
    device: torch.device
    hash: str
    """SHA-256 over the files that decide its output."""
    size: tuple[int, int] | None = None
    """Height and width of its input."""
    fixed: bool = False
    """Whether it takes no other size."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    kind: str | None = None
    """Depth: `disparity` or `distance`."""
    missing: tuple[str, ...] = ()
    """Weights that the files lack; they are NaN, so that a map shows whether the network needs them."""


def open_transformers(source: str, modality: str, device: torch.device) -> MapNetwork:
    """Return a depth model of transformers, or a DPT whose last layer has three channels for normals.

    Args:
        source: a folder in transformers' format, or a hub id; of the hub safetensors are preferred.
        modality: `depth` or `normal`.
        device: where it computes, in float32.

    Raises:
        UserError: not there, incomplete, damaged, or of a kind that is not known.
    """
    folder = Path(source) if Path(source).is_dir() else _fetch(source)
    config = read_json(folder / "config.json", "model_type")
    weights = find_weights(folder)
    if weights is None:
        raise UserError(f"no weights in {folder}", hint="it needs model.safetensors or pytorch_model.bin")
    with known_files(folder) as known:
        model, missing = _load(folder, known, config["model_type"], modality, weights.kind)
    model.to(device)
    mean, std, size = _preprocessing(folder, config)

    def run(images: Tensor) -> Tensor:
        predicted: Tensor = model(images).predicted_depth  # a single channel is squeezed: (B, h, w)
        return predicted[:, None] if predicted.ndim == 3 else predicted

    kind = KINDS.get(config["model_type"])
    if config["model_type"] == "depth_anything":
        kind = "distance" if config.get("depth_estimation_type") == "metric" else "disparity"
    identity = digest([folder / "config.json", *weights.files])
    return MapNetwork(run, device, identity, size, mean=mean, std=std, kind=kind, missing=missing)


def _fetch(repository: str) -> Path:
    try:
        return fetch_network(repository)
    except UserError as error:
        hint = f"check the network; or copy {repository} to a folder and name that"
        raise UserError(str(error), hint=hint) from error


def normal_dpt() -> Any:
    """Return transformers' class DPT with three output channels, the only difference of Omnidata's network for normals."""
    from transformers import DPTForDepthEstimation

    class NormalDPT(DPTForDepthEstimation):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            last = self.head.head[4]
            self.head.head[4] = nn.Conv2d(last.in_channels, 3, kernel_size=1)
            self.post_init()

    return NormalDPT


def _load(
    folder: Path, known: Path, model_type: str, modality: str, weights: Kind
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the model of a folder, whose `known_files` are read, and the names of the weights that its files lack."""
    from transformers import MODEL_FOR_DEPTH_ESTIMATION_MAPPING, AutoConfig

    with reading(folder):
        config = AutoConfig.from_pretrained(known, local_files_only=True, trust_remote_code=False)
        if modality == "normal" and model_type != "dpt":
            raise UserError(f"{folder} is a {model_type}: for normals only DPT is known", hint="or give onnx:FILE")
        if type(config) not in MODEL_FOR_DEPTH_ESTIMATION_MAPPING:
            raise UserError(f"{folder} is a {model_type}, which predicts no depth", hint="or give onnx:FILE")
        kind = normal_dpt() if modality == "normal" else MODEL_FOR_DEPTH_ESTIMATION_MAPPING[type(config)]
        try:
            model, loading = kind.from_pretrained(
                known,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=weights.safetensors,
                variant=weights.variant,
                weights_only=True,
                output_loading_info=True,
            )
        except pickle.UnpicklingError as error:
            hint = "use a safetensors file"
            raise UserError(f"the weights in {folder} hold more than tensors", hint) from error
    # MiDaS' published files lack a unit that its first fusion stage never uses, and may.
    model.eval().requires_grad_(False)
    missing = tuple(sorted(loading["missing_keys"]))
    for name, parameter in model.named_parameters():
        if name in missing:
            parameter.fill_(torch.nan)
    return model, missing


def _preprocessing(folder: Path, config: dict[str, Any]) -> tuple[Any, Any, tuple[int, int] | None]:
    """Return mean, deviation and size from `preprocessor_config.json`; without it the configuration's size."""
    path = folder / "preprocessor_config.json"
    stated = read_json(path) if path.is_file() else {}
    mean, std = stated.get("image_mean"), stated.get("image_std")
    if stated.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    size = stated.get("size") or config.get("image_size") or (config.get("backbone_config") or {}).get("image_size")
    if isinstance(size, dict):
        side = size.get("shortest_edge")
        size = (size.get("height", side), size.get("width", side))
    elif isinstance(size, int):
        size = (size, size)
    return mean and tuple(mean), std and tuple(std), tuple(size) if size and all(size) else None


def open_onnx(path: Path, device: torch.device) -> MapNetwork:
    """Return an ONNX file with one image as input (batch, 3, height, width).

    Its size is read from the input, `mean`, `std` and `kind` from the metadata (`metadata_props`) where it has them.

    Raises:
        UserError: onnxruntime is not installed, or the file is damaged or has another input.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path} needs onnxruntime", hint="pip install 'jointnet-cli[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    cuda = ("CUDAExecutionProvider", {"device_id": device.index or 0})
    on_gpu = device.type == "cuda" and cuda[0] in onnxruntime.get_available_providers()
    with reading(path, cause="it is no ONNX model that runs"):
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[cuda, "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
        )
    inputs = session.get_inputs()
    sides = [side if isinstance(side, int) else None for side in inputs[0].shape]  # the open ones have names
    if len(inputs) != 1 or len(sides) != 4 or sides[1] not in (3, None):
        found = ", ".join(f"{entry.name} {entry.shape}" for entry in inputs)
        raise UserError(f"{path} takes {found}", hint="an input (batch, 3, height, width) is needed")
    dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
    count, _, height, width = sides
    facts = session.get_modelmeta().custom_metadata_map

    def run(images: Tensor) -> Tensor:
        outputs = []
        for part in images.split(count or len(images)):
            array = part.cpu().numpy().astype(dtype)
            missing = (count or len(part)) - len(part)
            padded = np.pad(array, [(0, missing), (0, 0), (0, 0), (0, 0)])
            output = session.run(None, {inputs[0].name: padded})[0][: len(part)]
            outputs.append(torch.from_numpy(output.astype(np.float32)))
        merged = torch.cat(outputs)
        return (merged[:, None] if merged.ndim == 3 else merged).to(device)

    return MapNetwork(
        run,
        device,
        # Weights of large models lie beside the file: model.onnx.data, model.onnx_data.
        digest(sorted(path.parent.glob(f"{glob.escape(path.name)}*"))),
        (height, width) if height and width else None,
        fixed=bool(height and width),
        mean=_numbers(facts, "mean"),
        std=_numbers(facts, "std"),
        kind=facts.get("kind"),
    )


def _numbers(facts: dict[str, str], name: str) -> tuple[float, ...] | None:
    """Return three numbers of a file's metadata, as JSON or separated by commas."""
    if name not in facts:
        return None
    try:
        values = from_json(f"[{facts[name].strip().strip('[]()')}]")
        numbers = tuple(float(value) for value in values)
    except (ValueError, TypeError, OverflowError):
        return None
    return numbers * 3 if len(numbers) == 1 else numbers if len(numbers) == 3 else None


def digest(paths: Iterable[Path]) -> str:
    """Return SHA-256 over files."""
    total = hashlib.sha256()
    for path in paths:
        with open_regular(path) as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
