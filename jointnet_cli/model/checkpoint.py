"""A joint model in its folder: a Stable Diffusion folder whose UNet is the RGB branch, and the joint parts beside it.

    model_index.json  vae/  text_encoder/  tokenizer/  scheduler/     as diffusers writes them
    unet/                     the RGB branch
    branches/<modality>/      one UNet for every further modality
    exchange.safetensors      the exchange convolutions, and the masked input's where the model has it
    jointnet.json             branches, masked input, sampling defaults, provenance

A folder without `jointnet.json` is a base model: one branch, RGB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import FORMAT, REMEDY, RGB, ModelFolder, read_folder
from jointnet_cli.model.joint import JointUNet
from jointnet_cli.model.text import tokenize


@dataclass
class JointModel:
    """Everything that turns a prompt into latents and latents into maps."""

    joint: JointUNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: dict[str, Any]
    """The base model's scheduler configuration."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Sampling defaults: `scheduler`, `steps`, `guidance`, `depth_steps`."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the model was made."""

    @property
    def factor(self) -> int:
        """Pixels a latent pixel stands for."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def window(self) -> int:
        """Side of the square images the model was trained on, in latent pixels."""
        size = self.joint.unet(RGB).config.sample_size
        return int(size if isinstance(size, int) else size[0])

    def to(self, device: torch.device) -> JointModel:
        """Move all networks."""
        for network in (self.joint, self.vae, self.text_encoder):
            network.to(device)
        return self

    def encode_text(self, prompts: list[str]) -> Tensor:
        """Text embeddings (B, tokens, width)."""
        tokens = tokenize(self.tokenizer, prompts)
        return self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state

    def encode(self, maps: Tensor) -> Tensor:
        """Maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w)."""
        return encode_maps(self.vae, maps)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to maps (B, 3, H, W), about [-1, 1]."""
        config = self.vae.config
        latents = latents.to(self.vae.device, self.vae.dtype) / config.scaling_factor + (config.shift_factor or 0.0)
        return self.vae.decode(latents).sample.float()

    def grey(self, height: int, width: int) -> Tensor:
        """Latents (1, C, h, w) of a grey picture of the given latent size: what stands in for the unknown."""
        return self.encode(torch.zeros(1, 3, height * self.factor, width * self.factor))


def encode_maps(vae: AutoencoderKL, maps: Tensor) -> Tensor:
    """Maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w) as the denoiser sees them: scaled, the posterior's mean."""
    latents = vae.encode(maps.to(vae.device, vae.dtype)).latent_dist.mean
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def load_model(folder: str | Path | ModelFolder, dtype: torch.dtype = torch.float32) -> JointModel:
    """Read a joint model, or a base model as a joint model of one branch, onto the CPU.

    Raises:
        UserError: no model there, one of another format, or weights that are missing, damaged or do not fit.
    """
    facts = folder if isinstance(folder, ModelFolder) else read_folder(Path(folder))
    try:
        return _load(facts, dtype)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {facts.path} cannot be loaded: {cause}", hint=REMEDY) from error


def _load(facts: ModelFolder, dtype: torch.dtype) -> JointModel:
    path = facts.path
    read = {"use_safetensors": True, "torch_dtype": dtype}
    places = {name: path / ("unet" if name == RGB else f"branches/{name}") for name in facts.branches}
    unets = {name: UNet2DConditionModel.from_pretrained(place, **read) for name, place in places.items()}
    joint = JointUNet(unets, masked_input=facts.masked_input).to(dtype)
    if len(unets) > 1:
        _load_exchange(joint, load_file(path / "exchange.safetensors"))
    return JointModel(
        joint=joint.eval(),
        vae=AutoencoderKL.from_pretrained(path / "vae", **read).eval(),
        text_encoder=CLIPTextModel.from_pretrained(path / "text_encoder", use_safetensors=True, dtype=dtype).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(path / "tokenizer"),
        scheduler=dict(DDIMScheduler.load_config(path / "scheduler")),
        defaults=facts.defaults,
        provenance=facts.provenance,
    )


def save_model(model: JointModel, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a joint model, weights in the given type."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _save_network(model.vae, folder / "vae", dtype)
    _save_network(model.text_encoder, folder / "text_encoder", dtype)
    for name in model.joint.names:
        _save_network(model.joint.unet(name), folder / ("unet" if name == RGB else f"branches/{name}"), dtype)
    if len(model.joint.names) > 1:
        tensors = {key: value.to(dtype).contiguous() for key, value in _exchange_state(model.joint).items()}
        save_file(tensors, folder / "exchange.safetensors")
    model.tokenizer.save_pretrained(folder / "tokenizer")
    model.tokenizer.backend_tokenizer.model.save(
        str(folder / "tokenizer")
    )  # vocab.json and merges.txt, for older readers
    DDIMScheduler.from_config(model.scheduler).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2))
    record = {
        "format": FORMAT,
        "branches": model.joint.names,
        "masked_input": model.joint.has_masked_input,
        "defaults": model.defaults,
        "provenance": model.provenance,
    }
    (folder / "jointnet.json").write_text(json.dumps(record, indent=2))


_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _exchange_state(joint: JointUNet) -> dict[str, Tensor]:
    return {key: value for key, value in joint.state_dict().items() if key.startswith(("exchange.", "masked."))}


def _load_exchange(joint: JointUNet, tensors: dict[str, Tensor]) -> None:
    wanted = {key: value.shape for key, value in _exchange_state(joint).items()}
    found = {key: value.shape for key, value in tensors.items()}
    if wanted != found:
        wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise ValueError(f"exchange.safetensors does not fit the branches: {', '.join(wrong[:3])} …")
    joint.load_state_dict(tensors, strict=False)


def _save_network(network: Any, folder: Path, dtype: torch.dtype) -> None:
    """Save a copy in another type without touching the network.

    The configuration keeps stating the network's own type, so that diffusers loads all parts of a pipeline in one type.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    if isinstance(network, ModelMixin):  # its `save_pretrained` takes no tensors but its own
        network.save_config(folder)
        save_file(tensors, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    else:
        network.save_pretrained(folder, state_dict=tensors)
