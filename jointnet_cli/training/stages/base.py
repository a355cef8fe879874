"""Stage `base`: a text-to-image diffusion model from scratch, in Stable Diffusion's format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from jointnet_cli.data.shards.latents import load_latents
from jointnet_cli.modality import RGB
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model, load_network, save_model
from jointnet_cli.model.folder import pixels_per_latent
from jointnet_cli.model.joint import JointNet
from jointnet_cli.model.text import ClipEncoder, tokenize
from jointnet_cli.model.vae import encode_maps, encoder_hash
from jointnet_cli.model.vocabulary import Vocabulary
from jointnet_cli.training.batches import Batch, CachedSource, warn_of_replaced
from jointnet_cli.training.captions import cut_warning, drop_captions
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.inputs import Inputs
from jointnet_cli.training.objective import add_noise, branch_losses
from jointnet_cli.training.previews import Pictures, sample_prompts
from jointnet_cli.training.recipe import BaseRecipe, TextEncoder
from jointnet_cli.training.runs import Log
from jointnet_cli.training.stages.from_scratch import build_schedule, build_text_encoder, build_unet, learn_tokenizer
from jointnet_cli.training.stages.stage import copy_weights, default_device, to_device_if_fits, training_device
from jointnet_cli.training.stages.vae import read_facts


class TextToImage(nn.Module):
    """The parts that train together: the text encoder and the one-branch joint network."""

    def __init__(self, text_encoder: nn.Module, joint: JointNet) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.joint = joint

    def forward(self, latents: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Return predictions (B, 1, C, h, w) for noisy latents under tokenised prompts (B, L)."""
        text = self.text_encoder(tokens).last_hidden_state
        prediction: Tensor = self.joint(latents, timestep, Conditioning(text))
        return prediction


class BaseStage:
    """Trains on latents that are encoded once."""

    def __init__(self, recipe: BaseRecipe, inputs: Inputs, log: Log, run: Path, *, weights: bool = True) -> None:
        self.recipe, self.settings = recipe, recipe.train
        self.vae = inputs.require_vae()
        torch.manual_seed(recipe.train.seed)
        vae = load_network(AutoencoderKL, self.vae, weights=weights)
        self.factor, self.channels = pixels_per_latent(vae.config), vae.config.latent_channels
        self.noise_schedule = DDPMScheduler.from_config(build_schedule(recipe.noise))
        if weights:
            self._load(vae.to(training_device()), inputs, log, run)
        else:
            earlier = load_model(inputs.require_model(), weights=False) if recipe.start else None
            with default_device(weights):
                tokenizer = earlier.text.tokenizers["tokenizer"] if earlier else None
                self._build(tokenizer, inputs.side // self.factor, earlier)
            self.rows, self.tokens = {"": 0}, torch.zeros(1, recipe.text_encoder.tokens, dtype=torch.int64)
        self.networks = [self.network, vae]

    def _load(self, vae: AutoencoderKL, inputs: Inputs, log: Log, run: Path) -> None:
        """Encode the samples, learn the tokenizer, and build the networks or continue an earlier model's."""
        recipe, text = self.recipe, self.recipe.text_encoder
        data = load_latents(
            inputs.shards,
            [RGB],
            torch.inference_mode()(lambda maps: encode_maps(vae, maps).cpu()),
            encoder_hash(vae),
            mirrored=recipe.data.flip,
            progress=lambda done, count: log({"encoded": done, "shards": count}),
        )
        warn_of_replaced(data.replaced, log)
        earlier = load_model(inputs.require_model()) if recipe.start else None
        tokenizer = earlier.text.tokenizers["tokenizer"] if earlier else run_tokenizer(run, data.captions, text)
        self._build(tokenizer, data.latents.shape[-1], earlier)
        self.earlier = earlier.provenance.get("base", {}) if earlier else {}
        text_encoder = ClipEncoder(tokenizer, self.network.text_encoder)
        words = known_words(data.captions, earlier)
        schedule = build_schedule(recipe.noise)
        self.model = JointModel(self.network.joint, vae, text_encoder, schedule, words=words).to(training_device())
        self.source = CachedSource(replace(data, latents=to_device_if_fits(data.latents)), recipe.train.seed)
        self.rows = {caption: row for row, caption in enumerate(dict.fromkeys(["", *data.captions]))}
        self.tokens = to_device_if_fits(tokenize(tokenizer, list(self.rows)))
        if cut := sum(map(bool, self.model.text.beyond(list(self.rows)))):
            log({"warning": cut_warning(cut, len(self.rows) - 1)})

    def _build(self, tokenizer: CLIPTokenizer | None, side: int, earlier: JointModel | None) -> None:
        """Build the networks for latents of a side, with an earlier model's weights where there is one.

        Raises:
            UserError: the earlier model's networks are not those that the recipe describes.
        """
        encoder = build_text_encoder(self.recipe.text_encoder, tokenizer)
        unet = build_unet(self.recipe.unet, self.channels, side, self.recipe.text_encoder.width)
        if earlier:
            copy_weights(earlier.text.encoders["text_encoder"], encoder, "text_encoder")
            copy_weights(earlier.joint.backbone(RGB), unet, "unet")
        self.network = TextToImage(encoder, JointNet({RGB: unet}))

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        return self.source.batches(sampler, step)

    def example(self, side: int) -> Batch:
        count, side = self.settings.batch_size, side // self.factor
        return Batch(range(count), torch.zeros(count, 1, self.channels, side, side), [""] * count)

    def conditioning(self, batch: Batch, rng: SampleRNG | None) -> Tensor:
        """Return the captions' tokens (B, L)."""
        captions = batch.captions
        if rng is not None:
            captions = drop_captions(captions, self.recipe.objective.text_dropout, rng)
        return self.tokens[[self.rows[caption] for caption in captions]]

    def loss(self, network: nn.Module, batch: Batch, conditioning: Tensor, rng: SampleRNG) -> dict[str, Tensor]:
        device = next(network.parameters()).device
        noisy = add_noise(batch.clean.to(device), self.noise_schedule, self.recipe.objective, rng)
        predicted = network(noisy.latents, noisy.timestep, conditioning.to(device))
        return {RGB: branch_losses(predicted, noisy)[0]}

    def preview(self) -> Pictures | None:
        return sample_prompts(self.model, self.recipe.preview_prompts)

    def export(self, folder: Path, details: dict[str, object]) -> None:
        made = {"recipe": self.recipe.model_dump(mode="json"), **details}
        if self.recipe.start:
            made["earlier"] = self.earlier
        self.model.provenance = {"vae": read_facts(self.vae), "base": made}
        save_model(self.model, folder, torch.float32)


def run_tokenizer(run: Path, captions: list[str], settings: TextEncoder) -> CLIPTokenizer:
    """Return the tokenizer that a run began with; a new run learns it.

    Learning breaks ties differently from process to process, and the shards may grow between the pieces of a run.
    """
    folder = run / "tokenizer"
    if (run / "recipe.json").is_file() and folder.is_dir():
        return CLIPTokenizer.from_pretrained(folder)
    return learn_tokenizer(captions, settings.vocabulary, settings.tokens, folder)


def known_words(captions: list[str], earlier: JointModel | None) -> Vocabulary | None:
    """Return the words that the text encoder is trained on, those of the model that it goes on from among them."""
    if earlier is None:
        return Vocabulary.of(captions)
    return Vocabulary.of([*captions, *earlier.words.known]) if earlier.words else None
