"""A joint model in its folder: a diffusers pipeline whose UNet is the RGB branch, and the joint parts beside it.

    model_index.json  vae/  text_encoder/  tokenizer/  scheduler/     as diffusers writes them
    tokenizer/words.txt       the only words it was trained on, where they are few
    unet/                     the RGB branch
    branches/<modality>/      one UNet for every further modality, or the adapters of a LoRA branch
    exchange.safetensors      the exchange convolutions, and the masked input's where the model has it
    jointnet.json             architecture, branches, masked input, sampling defaults, provenance

A folder without `jointnet.json` is a base model: one branch, RGB. The paper's baselines have no branches: `unet/` denoises
all modalities, and `control.safetensors` holds what a ControlNet adds to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import Tensor

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.atomic import follow_umask
from jointnet_cli.modality import RGB
from jointnet_cli.model.adapters import LoraJointNet
from jointnet_cli.model.baselines import ControlNetDirectExtend, DirectExtend
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.config import REMEDY, known_files, read_json, write_json
from jointnet_cli.model.family import Family
from jointnet_cli.model.folder import EXCHANGE, RANK, ModelFolder, branch_folder, pixels_per_latent
from jointnet_cli.model.hub import find_model, require_weights
from jointnet_cli.model.joint import JointDenoiser, JointNet
from jointnet_cli.model.jointnet_json import write_record
from jointnet_cli.model.published import read_branches
from jointnet_cli.model.text import TEXT_ENCODERS, TextEncoders, save_tokenizer
from jointnet_cli.model.vae import decode_latents, encode_maps
from jointnet_cli.model.vocabulary import Vocabulary
from jointnet_cli.model.weights import find_weights, read_tensors, without_progress_bars

SHARD_NAME = SAFETENSORS_WEIGHTS_NAME.replace(".", "{suffix}.")


@dataclass
class JointModel:
    """Everything that turns a prompt into latents and latents into maps."""

    joint: JointDenoiser
    vae: AutoencoderKL | None
    """`None` for a model that works on pixels: a map is then its own latents."""
    text: TextEncoders
    scheduler: dict[str, Any]
    """The base model's scheduler configuration."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Sampling defaults: `preset`, `scheduler`, `steps`, `guidance`, `depth_steps`."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the model was made."""
    words: Vocabulary | None = None
    """The only words that its text encoder was trained on, where they are few."""

    @property
    def factor(self) -> int:
        """Pixels a latent pixel stands for."""
        return 1 if self.vae is None else pixels_per_latent(self.vae.config)

    @property
    def window(self) -> int:
        """Side of the square images the model was trained on, in latent pixels."""
        size = self.joint.backbone(RGB).config.sample_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """Every network, the joint one first."""
        vae = {} if self.vae is None else {"vae": self.vae}
        return {"joint": self.joint, **vae, **self.text.encoders}

    def to(self, device: torch.device) -> JointModel:
        """Move all networks."""
        for network in self.networks.values():
            network.to(device)
        return self

    def encode_text(self, prompts: list[str], *, cut: bool = False) -> Conditioning:
        """Encode B prompts as conditions of the branches, without unknown words; `cut` as in `TextEncoders.forward`."""
        conditioning: Conditioning = self.text(self._known(prompts), cut=cut)
        return conditioning

    def unknown_words(self, *prompts: str) -> list[str]:
        """Return the words of prompts that `encode_text` leaves out."""
        return self.words.unknown(*prompts) if self.words else []

    def cut_words(self, *prompts: str) -> list[str]:
        """Return the words at the ends of prompts that `encode_text` cuts off, where it cannot encode them in chunks."""
        return [] if self.text.chunked else [word for words in self.text.beyond(self._known(prompts)) for word in words]

    def count_cut(self, captions: Sequence[str]) -> int:
        """Return the number of captions that `encode_text` with `cut` does not read to their end."""
        return sum(map(bool, self.text.beyond(self._known(captions))))

    def _known(self, prompts: Iterable[str]) -> list[str]:
        return [self.words.keep(prompt) for prompt in prompts] if self.words else list(prompts)

    def encode(self, maps: Tensor) -> Tensor:
        """Convert maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w), float32 on the branches' device."""
        return encode_maps(self.vae, maps).to(self.joint.backbone(RGB).device, torch.float32)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to maps (B, 3, H, W), about [-1, 1]."""
        return decode_latents(self.vae, latents)


NETWORKS: dict[str, type[JointDenoiser]] = {
    network.architecture: network for network in (JointNet, LoraJointNet, DirectExtend, ControlNetDirectExtend)
}
"""The class of each architecture."""


def extend(
    architecture: str, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK
) -> JointDenoiser:
    """Extend a base UNet to further modalities, at the start of their training; see `JointDenoiser.extend`.

    Raises:
        KeyError: no such architecture.
        UserError: `lora` without peft.
    """
    return NETWORKS[architecture].extend(unet, modalities, rank=rank).to(device=unet.device, dtype=unet.dtype)


def load_model(
    model: str | Path | ModelFolder,
    dtype: torch.dtype = torch.float32,
    *,
    weights: bool = True,
) -> JointModel:
    """Load a joint model, or a base model as a joint model of one branch, onto the CPU.

    Args:
        model: `diorama`, a folder, a zip file, an imported name or a hub id, as `--model` takes it.
        dtype: of the weights.
        weights: read the weights. Without them the networks are on the meta device: shapes without values.

    Raises:
        UserError: no such model, one of another format, or weights that are missing, damaged or do not fit.
    """
    folder = model if isinstance(model, ModelFolder) else find_model(str(model), weights=False)
    if weights:
        require_weights(folder)
    with (
        reading(f"the model in {folder.path}", REMEDY),
        nullcontext() if weights else torch.device("meta"),
    ):
        return JointModel(
            joint=_load_joint(folder, dtype, weights).eval(),
            vae=_load_vae(folder, dtype, weights) if folder.family.has_vae else None,
            text=_load_text(folder, dtype, weights),
            scheduler=read_json(folder.base / "scheduler" / "scheduler_config.json"),
            defaults=folder.defaults,
            provenance=folder.provenance,
            words=Vocabulary.read(folder.tokenizer),
        )


def _load_joint(folder: ModelFolder, dtype: torch.dtype, weights: bool) -> JointDenoiser:
    if folder.published and weights:
        unets, exchange = read_branches(folder)
        found = {EXCHANGE: exchange}
    else:
        unets = {
            name: load_network(UNet2DConditionModel, folder.path / place, dtype, weights=weights)
            for name, place in folder.backbones.items()
        }
        found = {file: read_tensors(folder.path / file) for file in folder.extra_files if weights}
    joint = NETWORKS[folder.architecture].assemble(folder, unets).to(dtype)
    for file, tensors in joint.extra_weights().items() if weights else ():
        _fill(tensors, found[file], file)
    return joint


@torch.no_grad()
def _fill(wanted: dict[str, Tensor], found: dict[str, Tensor], file: str) -> None:
    """Copy the tensors of a file into the network's."""
    shapes = [{key: value.shape for key, value in tensors.items()} for tensors in (wanted, found)]
    if shapes[0] != shapes[1]:
        wrong = sorted(key for key in wanted.keys() | found.keys() if shapes[0].get(key) != shapes[1].get(key))
        raise ValueError(f"{file} does not fit the network: {', '.join(wrong[:3])} …")
    for key, value in wanted.items():
        value.copy_(found[key])


def _load_vae(folder: ModelFolder, dtype: torch.dtype, weights: bool) -> AutoencoderKL:
    path = folder.base / "vae"
    upcast = folder.family.upcasts_vae and read_json(path / "config.json").get("force_upcast", True)
    if upcast or dtype == torch.bfloat16:  # eight significant bits are less than those of an image
        dtype = torch.float32
    return load_network(AutoencoderKL, path, dtype, weights=weights)


def _load_text(folder: ModelFolder, dtype: torch.dtype, weights: bool) -> TextEncoders:
    encoders = {
        name: load_network(getattr(transformers, kind), folder.base / name, dtype, weights=weights)
        for name, kind in folder.family.encoders.items()
    }
    tokenizers = {name: _load_tokenizer(kind, folder.base / name) for name, kind in folder.family.tokenizers.items()}
    for (name, tokenizer), encoder in zip(tokenizers.items(), encoders.values(), strict=True):
        _check_tokenizer(tokenizer, encoder, folder.base / name)
    kind = TEXT_ENCODERS[folder.family.name]
    return kind(**tokenizers, **encoders, **kind.options(read_json(folder.base / "model_index.json"), folder.size))


def _load_tokenizer(kind: str, folder: Path) -> Any:
    if (
        not (folder / "tokenizer.json").is_file()
        and (folder / "spiece.model").is_file()
        and not find_spec("sentencepiece")
    ):
        raise UserError(f"the tokenizer in {folder} needs sentencepiece", hint="pip install sentencepiece protobuf")
    with known_files(folder) as known:
        return getattr(transformers, kind).from_pretrained(known)


def _check_tokenizer(tokenizer: Any, encoder: Any, folder: Path) -> None:
    """Cut a tokenizer's length to what its encoder reads.

    Raises:
        ValueError: it has tokens that the encoder does not know.
    """
    if max(tokenizer.get_vocab().values()) >= encoder.config.vocab_size:
        raise ValueError(f"{folder} has tokens beyond the text encoder's {encoder.config.vocab_size}")
    longest = getattr(encoder.config, "max_position_embeddings", None)
    if longest is not None and tokenizer.model_max_length > longest:
        tokenizer.model_max_length = longest


def load_network(kind: Any, folder: Path, dtype: torch.dtype = torch.float32, *, weights: bool = True) -> Any:
    """Load a network of a diffusers or transformers class, its weights read as data.

    Without `weights` it has the shapes that the configuration states, on the meta device.

    Raises:
        OSError, ValueError: no weights, or incomplete ones.
    """
    if not weights:
        with known_files(folder, kind) as known, torch.device("meta"):
            if issubclass(kind, ModelMixin):
                return kind.from_config(kind.load_config(known)).to(dtype).eval()
            return kind(kind.config_class.from_pretrained(known)).to(dtype).eval()
    found = find_weights(folder)
    if found is None:
        raise OSError(f"{folder} holds no weights")
    options: dict[str, Any] = {"torch_dtype" if issubclass(kind, ModelMixin) else "dtype": dtype}
    if not found.kind.safetensors and not issubclass(kind, ModelMixin):
        options["weights_only"] = True  # diffusers never reads a pickle in another way
    with known_files(folder, kind) as known, without_progress_bars():
        network, report = kind.from_pretrained(
            known,
            use_safetensors=found.kind.safetensors,
            variant=found.kind.variant,
            output_loading_info=True,
            **options,
        )
    if report["missing_keys"]:
        raise ValueError(f"{folder} lacks {', '.join(sorted(report['missing_keys'])[:3])} …")
    return network.eval()


def save_model(
    model: JointModel, folder: str | Path, dtype: torch.dtype = torch.float16, *, shard_size: str = "10GB"
) -> None:
    """Write a joint model, weights in the given type; what is larger than a shard (`15MB`) becomes several, with an index."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = {name: network for name, network in model.networks.items() if name != "joint"}
    backbones = {branch_folder(name): unet for name, unet in model.joint.backbones.items()}
    for place, network in {**others, **backbones}.items():
        _save_network(network, folder / place, dtype, shard_size)
    if isinstance(model.joint, LoraJointNet):
        model.joint.save_adapter_configs(folder)
    for file, tensors in model.joint.extra_weights().items():
        save_file({key: value.to("cpu", dtype).contiguous() for key, value in tensors.items()}, folder / file)
    for place, tokenizer in model.text.tokenizers.items():
        save_tokenizer(tokenizer, folder / place)
    if model.words:
        model.words.write(folder / next(iter(model.text.tokenizers)))
    scheduler = {"_class_name": "DDIMScheduler", **model.scheduler}
    scheduler.pop("_use_default_values", None)
    (folder / "scheduler").mkdir(exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", _index(model.text, scheduler["_class_name"]))
    write_record(
        folder,
        branches=model.joint.names,
        masked_input=model.joint.has_masked_input,
        defaults=model.defaults,
        provenance=model.provenance,
        architecture=model.joint.architecture,
        rank=model.joint.rank if isinstance(model.joint, LoraJointNet) else None,
    )
    follow_umask(folder)


def _index(text: TextEncoders, scheduler: str) -> dict[str, Any]:
    """Return `model_index.json`, by which diffusers opens the base model with its own pipeline."""
    family: Family = text.family
    return {
        "_class_name": family.pipeline,
        **{name: [None, None] for name in family.absent},
        **text.settings,
        **{name: list(part) for name, part in family.parts.items()},
        "scheduler": ["diffusers", scheduler],
    }


def _save_network(network: Any, folder: Path, dtype: torch.dtype, shard_size: str) -> None:
    """Save a copy in another type without touching the network.

    The configuration keeps stating the network's own type, so that diffusers loads all parts of a pipeline in one type.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    if isinstance(network, ModelMixin):  # its `save_pretrained` takes no tensors but its own
        network.save_config(folder)
        config = read_json(folder / "config.json")
        config.pop("_name_or_path", None)  # where this machine keeps what it was loaded from
        write_json(folder / "config.json", config)
        save_torch_state_dict(tensors, folder, filename_pattern=SHARD_NAME, max_shard_size=shard_size)
    else:
        with without_progress_bars():
            network.save_pretrained(folder, state_dict=tensors, max_shard_size=shard_size)
