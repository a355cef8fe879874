"""Stage `joint`: extend a base model to further modalities (paper 3.4), and fine-tune with masked input (paper 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from jointnet_cli.data.shards.latents import load_latents
from jointnet_cli.modality import RGB
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, extend, load_model, save_model
from jointnet_cli.model.joint import JointDenoiser
from jointnet_cli.model.vae import encoder_hash
from jointnet_cli.sampling.schedule import clean_estimate
from jointnet_cli.training.batches import Batch, BatchSource, CachedSource, StreamedSource, warn_of_replaced
from jointnet_cli.training.captions import CaptionEncoder, drop_captions
from jointnet_cli.training.decoded import decoded_errors
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.inputs import Inputs
from jointnet_cli.training.objective import NoisyBatch, add_noise, branch_losses, training_schedule
from jointnet_cli.training.previews import Pictures, sample_prompts
from jointnet_cli.training.recipe import JointRecipe
from jointnet_cli.training.runs import Log
from jointnet_cli.training.stages.masks import dense_prediction, random_masks
from jointnet_cli.training.stages.stage import default_device, to_device_if_fits, training_device


class JointStage:
    """Trains on a set that is encoded once, or on a stream that is encoded as it comes."""

    def __init__(self, recipe: JointRecipe, inputs: Inputs, log: Log, *, weights: bool = True) -> None:
        self.recipe, self.settings = recipe, recipe.train
        torch.manual_seed(recipe.train.seed)
        self.model = load_model(inputs.require_model(), weights=weights)
        if weights:
            self.model.to(training_device())
        with default_device(weights):
            self.network = self.model.joint = _prepared(self.model.joint, recipe)
        self.networks = list(self.model.networks.values())
        if self.model.vae is not None:
            self.model.vae.requires_grad_(False)
        self.noise_schedule = training_schedule(self.model.scheduler)
        self.source: BatchSource | None = None
        if not weights:
            self.texts = CaptionEncoder(self.model)
        elif recipe.data.cache:
            self.source, self.texts = _cached(recipe, inputs, self.model, log)
        else:
            self.source, self.texts = _streamed(recipe, inputs, self.model, log)

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        if self.source is None:
            raise ValueError("a stage without weights has no samples")
        return self.source.batches(sampler, step)

    def example(self, side: int) -> Batch:
        count, side, joint = self.settings.batch_size, side // self.model.factor, self.model.joint
        return Batch(range(count), torch.zeros(count, len(joint.names), joint.channels, side, side), [""] * count)

    def conditioning(self, batch: Batch, rng: SampleRNG | None) -> Conditioning:
        captions = batch.captions
        if rng is not None:
            captions = drop_captions(captions, self.recipe.objective.text_dropout, rng)
        return self.texts(captions, next(self.network.parameters()).device, batch.crop_conditioning)

    def loss(self, network: nn.Module, batch: Batch, conditioning: Conditioning, rng: SampleRNG) -> dict[str, Tensor]:
        clean = batch.clean.to(next(network.parameters()).device)
        masks, unknown, known, last = self.recipe.masks, None, None, None
        if self.model.joint.has_masked_input:  # such a model always reads what is known, here and in sampling
            unknown = random_masks(clean, masks, rng)
            known = torch.cat([unknown, clean * (1 - unknown)], dim=2)
            if masks.one_step:
                last = dense_prediction(unknown) & (rng.uniform() < masks.one_step)
        noisy = add_noise(clean, self.noise_schedule, self.recipe.objective, rng, last)
        predicted = network(noisy.latents, noisy.timestep, conditioning, known)
        losses = dict(zip(self.model.joint.names, branch_losses(predicted, noisy, unknown), strict=True))
        if last is not None and masks.image_known and masks.decoded_weight:
            losses |= self._decoded_losses(predicted, noisy, clean, last)
        return losses

    def _decoded_losses(self, predicted: Tensor, noisy: NoisyBatch, clean: Tensor, last: Tensor) -> dict[str, Tensor]:
        """Return the weighted errors of the decoded maps that are predicted from pure noise, means over the batch.

        Every step decodes as many items as are such on average: memory is the same, and no GPU waits for a count.
        """
        masks, joint, schedule = self.recipe.masks, self.model.joint, self.noise_schedule
        count = math.ceil(masks.image_known * masks.one_step * len(clean))
        rows = last.int().argsort(descending=True, stable=True)[:count]
        answer, kind = predicted[rows, :, : joint.channels].float(), schedule.config.prediction_type
        estimate = clean_estimate(noisy.latents[rows], answer, schedule.alphas_cumprod[-1], kind)
        losses = {}
        for branch, name in enumerate(joint.names[1:], start=1):
            errors = decoded_errors(self.model.vae, estimate[:, branch], clean[rows, branch], name)
            losses[f"decoded_{name}"] = masks.decoded_weight * (errors * last[rows]).sum() / len(clean)
        return losses

    def preview(self) -> Pictures | None:
        return sample_prompts(self.model, self.recipe.preview_prompts)

    def export(self, folder: Path, details: dict[str, object]) -> None:
        earlier, made = self.model.provenance, {"recipe": self.recipe.model_dump(mode="json"), **details}
        provenance = {**earlier, "joint": [*earlier.get("joint", []), made]}
        inference = self.recipe.inference
        defaults = inference.model_dump(exclude_none=True) if inference else self.model.defaults
        save_model(replace(self.model, provenance=provenance, defaults=defaults), folder, torch.float32)


def _prepared(network: JointDenoiser, recipe: JointRecipe) -> JointDenoiser:
    """Return the network to train: a base model extended, masked input added where the recipe asks for it, the rest frozen.

    `check_network` has compared a joint model with the recipe.
    """
    if network.names == [RGB]:
        settings = recipe.network
        network = extend(settings.architecture, network.backbone(RGB), recipe.data.maps[1:], rank=settings.rank)
    if recipe.masked_input and not network.has_masked_input:
        network.add_masked_input()
    network.set_trainable(recipe.train_rgb)
    return network


def _cached(recipe: JointRecipe, inputs: Inputs, model: JointModel, log: Log) -> tuple[BatchSource, CaptionEncoder]:
    """Return the set in memory, encoded once and kept beside the shards."""
    data = load_latents(
        inputs.shards,
        list(recipe.data.maps),
        torch.inference_mode()(lambda maps: model.encode(maps).cpu()),
        encoder_hash(model.vae),
        mirrored=recipe.data.flip,
        progress=lambda done, count: log({"encoded": done, "shards": count}),
    )
    warn_of_replaced(data.replaced, log)
    data = replace(data, latents=to_device_if_fits(data.latents))
    texts = CaptionEncoder(model, data.captions, warn=lambda words: log({"warning": words}))
    return CachedSource(data, recipe.train.seed), texts


def _streamed(recipe: JointRecipe, inputs: Inputs, model: JointModel, log: Log) -> tuple[BatchSource, CaptionEncoder]:
    """Return the set as it comes, encoded batch by batch."""
    source = StreamedSource(
        recipe.data,
        inputs.shards,
        recipe.train.seed,
        inputs.require_model().size,
        model.encode,
        training_device(),
        warn=lambda words: log({"warning": words}),
    )
    return source, CaptionEncoder(model, side=source.size, warn=lambda words: log({"warning": words}))
