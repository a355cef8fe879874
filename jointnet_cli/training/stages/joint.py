"""Stage `joint`: extend a base model to further modalities (paper 3.4), and fine-tune with masked input (paper 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from jointnet_cli.data.shards.latents import load_latents
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import JointModel, extend, load_model, save_model
from jointnet_cli.model.folder import RGB, ModelFolder
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.joint import JointDenoiser
from jointnet_cli.model.weights import weights_hash
from jointnet_cli.training.batches import (
    Batch,
    BatchSource,
    CachedSource,
    StreamedSource,
    to_device_if_fits,
    training_device,
)
from jointnet_cli.training.captions import CaptionEncoder, drop_captions
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.objective import branch_losses, noised, training_schedule
from jointnet_cli.training.previews import preview_prompts
from jointnet_cli.training.recipe import JointRecipe, Train
from jointnet_cli.training.runs import Log
from jointnet_cli.training.stages.masks import dense_prediction, random_masks


class JointStage:
    """Trains on a set that is encoded once, or on a stream that is encoded as it comes."""

    def __init__(self, recipe: JointRecipe, log: Log) -> None:
        if recipe.data.maps[0] != RGB or len(recipe.data.maps) < 2:
            raise UserError("a joint model trains on data.maps = ['rgb', …] with at least one dense map")
        self.recipe = recipe
        torch.manual_seed(recipe.train.seed)
        facts = find_model(recipe.model, recipe.base)
        self.model = load_model(facts).to(training_device())
        self.model.joint = _prepared(self.model.joint, recipe)
        self.noise_schedule = training_schedule(self.model.scheduler)
        opened = _cached if recipe.data.cache else _streamed
        self.source, self.texts = opened(recipe, facts, self.model, log)

    @property
    def settings(self) -> Train:
        return self.recipe.train

    @property
    def network(self) -> nn.Module:
        return self.model.joint

    def batches(self, share: RankSampler, step: int) -> Iterator[Batch]:
        return self.source.batches(share, step)

    def loss(self, network: nn.Module, batch: Batch, draws: SampleRNG) -> dict[str, Tensor]:
        device = next(network.parameters()).device
        objective, clean = self.recipe.objective, batch.clean.to(device)
        given = self.texts(drop_captions(batch.captions, objective.text_dropout, draws), device, batch.framing)
        unknown = known = last = None
        if self.model.joint.has_masked_input:  # which in sampling is always told what is known, be it nothing
            unknown = random_masks(clean, self.recipe.masks, draws)
            known = torch.cat([unknown, clean * (1 - unknown)], dim=2)
            if self.recipe.masks.one_step:
                last = dense_prediction(unknown) & (draws.uniform() < self.recipe.masks.one_step)
        noisy = noised(clean, self.noise_schedule, objective, draws, last)
        predicted = network(noisy.latents, noisy.timestep, given, known)
        losses = branch_losses(predicted, noisy, unknown)
        return dict(zip(self.model.joint.names, losses, strict=True))

    def preview(self, path: Path) -> None:
        preview_prompts(self.model, self.recipe.preview_prompts, path)

    def export(self, folder: Path, facts: dict[str, object]) -> None:
        earlier, made = self.model.provenance, {"recipe": self.recipe.model_dump(mode="json"), **facts}
        provenance = {**earlier, "joint": [*earlier.get("joint", []), made]}
        inference = self.recipe.inference
        defaults = inference.model_dump(exclude_none=True) if inference else self.model.defaults
        save_model(replace(self.model, provenance=provenance, defaults=defaults), folder, torch.float32)


def _prepared(network: JointDenoiser, recipe: JointRecipe) -> JointDenoiser:
    """The network to train: extended where it is a base model, with masked input where wanted, the rest frozen.

    Raises:
        UserError: the model was extended otherwise than the recipe says.
    """
    modalities, wanted = recipe.data.maps[1:], recipe.network
    if network.names == [RGB]:
        network = extend(wanted.architecture, network.unet(RGB), modalities, rank=wanted.rank)
    elif network.names[1:] != modalities:
        raise UserError(f"{recipe.model} has the branches {network.names}, the recipe wants {recipe.data.maps}")
    elif network.architecture != wanted.architecture:
        raise UserError(
            f"{recipe.model} is a {network.architecture} network, the recipe wants {wanted.architecture}",
            hint=f"--set network.architecture={network.architecture}",
        )
    if recipe.masked_input and not network.has_masked_input:
        network.add_masked_input()
    network.set_trainable(recipe.train_rgb)
    return network


def _cached(recipe: JointRecipe, facts: ModelFolder, model: JointModel, log: Log) -> tuple[BatchSource, CaptionEncoder]:
    """The set in memory, encoded once and kept beside the shards."""
    data = load_latents(
        ShardSet.open(recipe.data.shards, recipe.data.limit),
        list(recipe.data.maps),
        torch.inference_mode()(lambda maps: model.encode(maps).cpu()),
        weights_hash(facts.base / "vae") if facts.family.has_vae else "pixels",
        mirrored=recipe.data.flip,
        progress=lambda done, count: log({"encoded": done, "shards": count}),
    )
    near = replace(data, latents=to_device_if_fits(data.latents))
    return CachedSource(near, recipe.train.seed), CaptionEncoder(
        model, data.captions, warn=lambda words: log({"warning": words})
    )


def _streamed(
    recipe: JointRecipe, facts: ModelFolder, model: JointModel, log: Log
) -> tuple[BatchSource, CaptionEncoder]:
    source = StreamedSource(
        recipe.data,
        recipe.train.seed,
        facts.size,
        model.encode,
        training_device(),
        warn=lambda words: log({"warning": words}),
        progress=lambda done, count: log({"counted": done, "shards": count}),
    )
    return source, CaptionEncoder(model, side=source.size, warn=lambda words: log({"warning": words}))
