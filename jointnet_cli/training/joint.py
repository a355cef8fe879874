"""Stage `joint`: extend a base model to further modalities (paper 3.4), and fine-tune with masked input (paper 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Generator, Tensor, nn

from jointnet_cli.data.dataset import batch_indices, load_latents
from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model, save_model
from jointnet_cli.model.folder import RGB, weights_hash
from jointnet_cli.model.joint import JointUNet, extend
from jointnet_cli.training.masks import random_masks
from jointnet_cli.training.objective import branch_losses, noised
from jointnet_cli.training.previews import preview_prompts
from jointnet_cli.training.recipe import JointRecipe, Train
from jointnet_cli.training.stage import training_device

Log = Callable[[dict[str, Any]], None]
TEXT_BATCH = 256


class JointStage:
    """Trains on latents and text embeddings that are computed once."""

    def __init__(self, recipe: JointRecipe, log: Log) -> None:
        if recipe.data.maps[0] != RGB or len(recipe.data.maps) < 2:
            raise UserError("a joint model trains on data.maps = ['rgb', …] with at least one dense map")
        self.recipe = recipe
        torch.manual_seed(recipe.train.seed)
        self.model = load_model(recipe.model).to(training_device())
        self.model.joint = _prepared(self.model.joint, recipe)
        self.noise_schedule = DDPMScheduler.from_config(self.model.scheduler)
        self.data = load_latents(
            recipe.data.shards,
            list(recipe.data.maps),
            torch.inference_mode()(lambda maps: self.model.encode(maps).cpu()),
            weights_hash(Path(recipe.model) / "vae"),
            mirrored=recipe.data.flip,
            limit=recipe.data.limit,
            progress=lambda done, count: log({"encoded": done, "shards": count}),
        )
        self.texts, self.text_of = embed_captions(self.model, self.data.captions)
        with torch.inference_mode():
            self.empty = self.model.encode_text([""]).text[0].cpu().clone()

    @property
    def settings(self) -> Train:
        return self.recipe.train

    @property
    def network(self) -> nn.Module:
        return self.model.joint

    def loss(self, network: nn.Module, batch: int, generator: Generator) -> dict[str, Tensor]:
        device = next(network.parameters()).device
        train, objective = self.recipe.train, self.recipe.objective
        indices = batch_indices(len(self.data), train.batch_size, batch, train.seed)
        sides = torch.randint(len(self.data.latents), (len(indices),), generator=generator)
        clean = self.data.latents[sides, indices].float()
        dropped = torch.rand(len(indices), 1, 1, generator=generator) < objective.text_dropout
        text = torch.where(dropped, self.empty, self.texts[self.text_of[indices]].float()).to(device)
        unknown = known = None
        if self.recipe.masked_input:
            unknown = random_masks(clean, self.recipe.masks, generator)
            known = torch.cat([unknown, clean * (1 - unknown)], dim=2).to(device)
            unknown = unknown.to(device)
        noisy = noised(clean.to(device), self.noise_schedule, objective, generator)
        predicted = network(noisy.latents, noisy.timestep, Conditioning(text), known)
        losses = branch_losses(predicted, noisy, unknown)
        return dict(zip(self.model.joint.names, losses, strict=True))

    def preview(self, path: Path) -> None:
        preview_prompts(self.model, self.recipe.preview_prompts, path)

    def export(self, folder: Path, facts: dict[str, object]) -> None:
        stages = [*self.model.provenance.get("joint", []), {"recipe": self.recipe.model_dump(mode="json"), **facts}]
        self.model.provenance = {**self.model.provenance, "joint": stages}
        if self.recipe.inference:
            self.model.defaults = self.recipe.inference.model_dump(exclude_none=True)
        save_model(self.model, folder, torch.float32)


def _prepared(joint: JointUNet, recipe: JointRecipe) -> JointUNet:
    """The network to train: extended where it is a base model, with masked input where wanted, the rest frozen."""
    modalities = recipe.data.maps[1:]
    if joint.names == [RGB]:
        joint = extend(joint.unet(RGB), modalities)
    elif joint.names[1:] != modalities:
        raise UserError(f"{recipe.model} has the branches {joint.names}, the recipe wants {recipe.data.maps}")
    if recipe.masked_input and not joint.has_masked_input:
        joint.add_masked_input()
    joint.unet(RGB).requires_grad_(recipe.train_rgb)
    return joint


@torch.inference_mode()
def embed_captions(model: JointModel, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Text embeddings of the distinct captions (U, tokens, width) in float16, and for every caption its row (N,)."""
    distinct = list(dict.fromkeys(captions))
    batches = [distinct[start : start + TEXT_BATCH] for start in range(0, len(distinct), TEXT_BATCH)]
    texts = torch.cat([model.encode_text(batch).text.half().cpu() for batch in batches])
    rows = {caption: row for row, caption in enumerate(distinct)}
    return texts.clone(), torch.tensor([rows[caption] for caption in captions])
