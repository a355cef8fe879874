"""The families of base models: what diffusers calls their pipeline, and the parts it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jointnet_cli.errors import UserError


@dataclass(frozen=True)
class Family:
    """One kind of base model. Folder names and class names are those of its `model_index.json`."""

    name: str
    pipeline: str
    encoders: Mapping[str, str]
    """Text encoders: folder to class."""
    tokenizers: Mapping[str, str]
    """Folder to class."""
    has_vae: bool = True
    """Whether the UNet works on latents; without a VAE it works on pixels."""
    upcasts_vae: bool = False
    """Whether diffusers heeds the VAE's `force_upcast`, in float16."""
    absent: tuple[str, ...] = ("feature_extractor", "safety_checker")
    """Parts that the pipeline may have and a joint model has not."""
    settings: Mapping[str, Any] = field(default_factory=lambda: {"requires_safety_checker": False})
    """What else `model_index.json` states."""

    @property
    def networks(self) -> list[str]:
        """Folders of the networks beside the UNet."""
        return [*(["vae"] if self.has_vae else []), *self.encoders]

    @property
    def parts(self) -> dict[str, tuple[str, str]]:
        """Folder to library and class of every part but the scheduler, whose class is free."""
        vae = {"vae": ("diffusers", "AutoencoderKL")} if self.has_vae else {}
        texts = {name: ("transformers", kind) for name, kind in {**self.encoders, **self.tokenizers}.items()}
        return {"unet": ("diffusers", "UNet2DConditionModel"), **vae, **texts}


STABLE_DIFFUSION = Family(
    name="Stable Diffusion",
    pipeline="StableDiffusionPipeline",
    encoders={"text_encoder": "CLIPTextModel"},
    tokenizers={"tokenizer": "CLIPTokenizer"},
    absent=("feature_extractor", "image_encoder", "safety_checker"),
)
STABLE_DIFFUSION_XL = Family(
    name="Stable Diffusion XL",
    pipeline="StableDiffusionXLPipeline",
    encoders={"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"},
    tokenizers={"tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer"},
    upcasts_vae=True,
    absent=("feature_extractor", "image_encoder"),
    settings={"force_zeros_for_empty_prompt": True},
)
DEEPFLOYD_IF = Family(
    name="DeepFloyd-IF",
    pipeline="IFPipeline",
    encoders={"text_encoder": "T5EncoderModel"},
    tokenizers={"tokenizer": "T5Tokenizer"},
    has_vae=False,
    absent=("feature_extractor", "safety_checker", "watermarker"),
)
FAMILIES = {family.pipeline: family for family in (STABLE_DIFFUSION, STABLE_DIFFUSION_XL, DEEPFLOYD_IF)}


def find_family(index: Mapping[str, Any], place: str) -> Family:
    """Return the family that a `model_index.json` names.

    Raises:
        UserError: a pipeline of another kind, or with a part of another class; `place` is the model's folder.
    """
    kinds = ", ".join(family.name for family in FAMILIES.values())
    family = FAMILIES.get(index["_class_name"])
    if family is None:
        raise UserError(f"{place} holds a {index['_class_name']}", hint=f"bases are text-to-image models of {kinds}")
    for name, (_, wanted) in family.parts.items():
        found = (index.get(name) or [None, None])[1]
        if found not in (wanted, f"{wanted}Fast"):
            raise UserError(f"{place}: {name} is {found}, not {wanted}", hint=f"bases are unchanged models of {kinds}")
    return family
