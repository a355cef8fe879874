"""Settings of a training run: the tables of a TOML recipe, validated before anything loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from jointnet_cli.files.paths import shipped_files
from jointnet_cli.modality import MODALITIES, RGB
from jointnet_cli.model.folder import RANK
from jointnet_cli.recipe_file import RecipeTable, find_recipe, read_values, refusal, require_command
from jointnet_cli.sampling.presets import MAX_GUIDANCE, MAX_STEPS, PresetName
from jointnet_cli.sampling.schedule import SchedulerName

Beta = Annotated[float, Field(ge=0, lt=1)]
"""Decay of one of Adam's averages."""


def _known(name: str) -> str:
    if name not in MODALITIES:
        raise ValueError(f"{name} is none of {', '.join(MODALITIES)}")
    return name


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a map is named twice")
    return names


ModalityName = Annotated[str, AfterValidator(_known)]


class Data(RecipeTable):
    """Where the samples come from."""

    shards: str
    """A folder of shards made by `jointnet prepare`; for a streamed set also one shard, a pattern such as
    `https://host/coyo/{00000..00127}.tar`, or a folder at `s3://`."""
    maps: Annotated[list[ModalityName], AfterValidator(_distinct)] = Field(["rgb"], min_length=1)
    """What is read of every sample, in branch order."""
    flip: bool = True
    """Whether every sample is also used mirrored."""
    limit: int | None = Field(None, ge=1)
    """Use only the first samples."""
    crop: int | None = Field(None, ge=8)
    """Train on random square crops with this side in pixels (VAE only)."""
    cache: bool = False
    """Encode the whole set once and keep latents and texts in memory, rather than stream the shards (joint stage)."""
    size: int | None = Field(None, ge=8)
    """Side of the square images of a streamed set, in pixels; `None` is the model's own."""
    workers: int = Field(2, ge=0)
    """Processes that read and decode a streamed set, for every process that trains."""
    shuffle: int = Field(64, ge=1)
    """Neighbours of a shard that are shuffled among each other in a streamed set."""
    label: dict[Literal["depth", "normal"], str] = Field({})
    """Maps that are made while training, and by which teacher (paper 3.3), such as `depth = "midas"`."""


class Train(RecipeTable):
    """The optimisation. It ends at `max_steps` or after `max_minutes` of work, whichever comes first; the learning rate's
    schedule follows the one that is nearer its end, so a shorter budget is a whole, shorter run."""

    batch_size: int = Field(ge=1)
    """Samples of a micro-batch, on every device."""
    accumulation: int = Field(1, ge=1)
    """Micro-batches of a step, one after the other."""
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """AdamW; bitsandbytes' with its state in 8 bits (needs a GPU); or Muon, with AdamW for what is not a matrix."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass rather than keep them: less memory, about a third more time."""
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    max_steps: int = Field(ge=1)
    max_minutes: float | None = Field(None, gt=0)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    final_learning_rate: float = Field(0.02, ge=0, le=1)
    """What is left of the learning rate at the end of the cosine, as a fraction."""
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    gradient_clip: float = Field(1.0, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of the exponential moving average of the weights; the average is what is saved."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    """Compile the network (`torch.compile`): a minute or two at the start, then fewer and larger kernels on a GPU."""
    seed: int = Field(0, ge=0, lt=2**32)
    log_every: int = Field(50, ge=1)
    """Steps between two lines of `log.jsonl`."""
    checkpoint_minutes: float = Field(5.0, gt=0)
    keep_checkpoints: int = Field(2, ge=1)
    preview_minutes: float | None = Field(15.0, gt=0)
    preview_steps: int | None = Field(None, ge=1)
    """Steps between two rows of the preview grid, which then also has one of step 0; replaces `preview_minutes`."""
    export_steps: list[Annotated[int, Field(ge=0)]] = Field([])
    """Steps after which the model is also exported as it is then, to `models/0000200/` and so on; 0 is its start."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field([])
    """Where the log goes beside `log.jsonl`."""


class Vae(RecipeTable):
    """The autoencoder (diffusers `AutoencoderKL`) and its reconstruction loss."""

    latent_channels: int = Field(4, ge=1)
    block_out_channels: list[int] = Field([16, 32, 64, 96], min_length=1)
    layers_per_block: int = Field(1, ge=1)
    norm_num_groups: int = Field(8, ge=1)
    kl_weight: float = Field(1e-4, ge=0)
    squared_weight: float = Field(0.5, ge=0)
    gradient_weight: float = Field(0.35, ge=0)
    """Weight of the L1 difference of the picture's horizontal and vertical steps."""
    coarse_weight: float = Field(0.7, ge=0)
    """Weight of the L1 difference of 8x8 block means."""
    chroma_weight: float = Field(0.5, ge=0)
    """Weight of the L1 difference of red minus green and of blue minus yellow."""
    perceptual_weight: float = Field(0.0, ge=0)
    """Weight of a perceptual distance; above 0 it needs the extra `eval`."""
    perceptual: str = "st-lpips-alex"
    """Which one, as `NAME` or `NAME:FILE`, of those that `evaluate panorama` knows."""
    feature_weight: float = Field(0.0, ge=0)
    """Weight of the distance of EfficientNet-Lite0's features of RGB."""
    adversarial_weight: float = Field(0.0, ge=0)
    """Weight of what a discriminator on these features says against reconstructions of RGB; it is trained beside the
    autoencoder."""

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        _check_groups(self.block_out_channels, self.norm_num_groups)
        return self


class TextEncoder(RecipeTable):
    """The text encoder (transformers `CLIPTextModel`) and its byte-pair vocabulary, learned from the captions."""

    vocabulary: int = Field(1024, ge=300)
    tokens: int = Field(32, ge=8)
    """Length every prompt is padded or cut to."""
    width: int = Field(192, ge=16)
    layers: int = Field(3, ge=1)
    heads: int = Field(6, ge=1)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class Unet(RecipeTable):
    """The denoiser (diffusers `UNet2DConditionModel`)."""

    block_out_channels: list[int] = Field(min_length=1)
    layers_per_block: int = Field(1, ge=1)
    attention: list[bool]
    """Per level, whether its blocks have attention."""
    heads: int = Field(4, ge=1)
    norm_num_groups: int = Field(16, ge=1)
    pooled_text: bool = False
    """Add the pooled text to the timestep's embedding, which reaches every block (diffusers' `addition_embed_type = "text"`,
    which DeepFloyd IF has)."""

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if len(self.attention) != len(self.block_out_channels):
            raise ValueError("attention and block_out_channels need one entry per level each")
        _check_groups(self.block_out_channels, self.norm_num_groups)
        return self


class Objective(RecipeTable):
    """The denoising loss (paper eq. 1) and its options."""

    text_dropout: float = Field(0.1, ge=0, le=1)
    """Share of samples trained without their caption."""
    noise_offset: float = Field(0.0, ge=0)
    min_snr_gamma: float | None = Field(None, gt=0)
    """Clip of the signal-to-noise ratio in the loss weight (Hang et al., 2023); `None` weighs all timesteps alike."""
    variance_weight: float = Field(0.001, ge=0)
    """Of a base that predicts its variance: weight of the summed bound, in bits (Nichol & Dhariwal, 2021, eq. 16)."""


class Noise(RecipeTable):
    """The noise schedule of a base model that is trained from scratch."""

    prediction: Literal["epsilon", "v_prediction"] = "v_prediction"
    zero_terminal_snr: bool = True
    """Rescale the betas so that the last timestep is pure noise (Lin et al., 2023)."""

    @model_validator(mode="after")
    def _check_last_step(self) -> Self:
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError("the noise in pure noise says nothing of the picture: zero_terminal_snr = false")
        return self


class Masks(RecipeTable):
    """Shares of a masked-input training (paper 4.1); what is left of 1 trains joint generation, everything unknown."""

    image_known: float = Field(0.0, ge=0, le=1)
    """RGB given whole, the rest unknown: dense prediction."""
    one_step: float = Field(0.0, ge=0, le=1)
    """Of these, the share that is noised wholly, as a prediction in one step meets its maps (Garcia et al., 2025)."""
    decoded_weight: float = Field(0.0, ge=0)
    """Weight of the errors of these samples' decoded maps, which are added to the loss of the latents (same source)."""
    maps_known: float = Field(0.0, ge=0, le=1)
    """Dense maps given whole, some of them or all, RGB unknown."""
    equal: float = Field(0.0, ge=0, le=1)
    """One random mask for all modalities: editing."""
    unequal: float = Field(0.0, ge=0, le=1)
    """A random mask of its own for every modality."""

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        total = self.image_known + self.maps_known + self.equal + self.unequal
        if total > 1 + 1e-6:
            raise ValueError(f"the shares add up to {total:g}, more than 1")
        return self


class Inference(RecipeTable):
    """What the trained model's folder states as the default way to sample from it."""

    preset: PresetName | None = None
    scheduler: SchedulerName | None = None
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    """`None` means the preset's, as for `scheduler`."""
    guidance: float = Field(7.5, ge=1, le=MAX_GUIDANCE)
    depth_steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    """Steps of `depth`; `None` means `steps`."""


def _check_groups(widths: Sequence[int], groups: int) -> None:
    if any(width < 1 or width % groups for width in widths):
        raise ValueError(f"block_out_channels {list(widths)} must be multiples of norm_num_groups {groups}")


class _Recipe(RecipeTable):
    description: str
    data: Data
    train: Train
    preview_prompts: list[str] = Field([])

    @property
    def streamed(self) -> bool:
        """Whether samples are read while it trains, rather than the whole set before."""
        return False

    @model_validator(mode="after")
    def _check_label(self) -> Self:
        if self.data.label and not self.streamed:
            raise ValueError("only a streamed set is labelled while training, others by `jointnet prepare --label`")
        return self


class VaeRecipe(_Recipe):
    """Train an autoencoder from scratch on every modality."""

    stage: Literal["vae"]
    start: str | None = None
    """Folder of a VAE whose weights to start from, or `diorama`; `vae` then has to describe the same network."""
    decoder_only: bool = False
    """Leave the encoder as it is (paper 3.2): the latents, and every model trained on them, stay valid."""
    vae: Vae = Vae()

    @model_validator(mode="after")
    def _check_maps(self) -> Self:
        if RGB not in self.data.maps:
            raise ValueError("an autoencoder trains on data.maps with 'rgb', whose statistics scale the latents")
        return self


class BaseRecipe(_Recipe):
    """Train a text-to-image base model from scratch on a trained autoencoder."""

    stage: Literal["base"]
    vae: str
    """Folder of the trained VAE, or `diorama` for that of the embedded model."""
    start: str | None = None
    """A base model whose UNet, text encoder and tokenizer to start from; `unet` and `text_encoder` then have to describe the
    same networks."""
    text_encoder: TextEncoder = TextEncoder()
    unet: Unet
    noise: Noise = Noise()
    objective: Objective = Objective()

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        if self.data.maps != [RGB]:
            raise ValueError("a base model trains on data.maps = ['rgb']")
        if self.unet.pooled_text and self.text_encoder.width % self.unet.heads:
            raise ValueError("unet.pooled_text needs a text_encoder.width that unet.heads divides")
        return self


class NetworkTable(RecipeTable):
    """How a base model is extended; an earlier stage's model keeps what it is."""

    architecture: Annotated[
        Literal["jointnet", "lora", "direct-extend", "controlnet-direct-extend"],
        BeforeValidator(lambda name: "lora" if name == "light" else name),  # its name in earlier versions
    ] = "jointnet"
    """The paper's network, a frozen copy with low-rank adapters, or one of the paper's baselines (Fig. 2a, appendix A.1)."""
    rank: int = Field(RANK, ge=1)
    """Rank of the adapters of a LoRA branch."""


class JointRecipe(_Recipe):
    """Extend a base model to further modalities (paper 3.4), or train a joint model on."""

    stage: Literal["joint"]
    model: str
    """What to start from: a base model, or a joint model of an earlier stage; a folder, a hub id, `diorama` or
    `diorama/base`."""
    base: str | None = None
    """The base of a model in the published layout, which holds none."""
    network: NetworkTable = NetworkTable()
    train_rgb: bool = False
    """Whether the RGB branch's own weights train too (the paper's second stage and masked input)."""
    masked_input: bool = False
    masks: Masks = Masks()
    objective: Objective = Objective(text_dropout=0.15, noise_offset=0.05)
    inference: Inference | None = None

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        if self.data.maps[0] != RGB or len(self.data.maps) < 2:
            raise ValueError("a joint model trains on data.maps = ['rgb', …] with at least one dense map")
        if self.masks != Masks() and not self.masked_input:
            raise ValueError("masks need masked_input = true")
        if self.masked_input and self.network.architecture.endswith("direct-extend"):
            raise ValueError(f"{self.network.architecture} has no masked input")
        if self.data.label.keys() - self.data.maps:
            raise ValueError("data.label names a map that data.maps does not")
        return self

    @property
    def streamed(self) -> bool:
        return not self.data.cache


Recipe = Annotated[VaeRecipe | BaseRecipe | JointRecipe, Field(discriminator="stage")]
STAGES: dict[str, type[_Recipe]] = {"vae": VaeRecipe, "base": BaseRecipe, "joint": JointRecipe}
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def load_recipe(name: str, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: a TOML file, or the name of a shipped recipe.
        overrides, flags: as for `read_values`.

    Raises:
        UserError: no such recipe, invalid TOML, an unknown key (with the nearest valid one) or a value out of range.
    """
    path = find_recipe(name, shipped_files())
    values = read_values(path, overrides, flags)
    require_command("train", name, values)
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise refusal(path, error, STAGES, tag="stage") from None


def to_toml_record(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe as JSON-able data."""
    return recipe.model_dump(mode="json")


def read_record(record: dict[str, Any]) -> Recipe:
    """Return what `to_toml_record` made, as a recipe again."""
    return _ADAPTER.validate_python(record)
