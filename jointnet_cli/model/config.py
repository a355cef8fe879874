"""What a foreign model folder may bring: regular files, known keys, and numbers in the ranges that stand here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import MOST_BYTES, load_json, to_json

REMEDY = "the folder is incomplete or damaged: copy or export the whole model again"

SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".bin"}
"""Of the files that models are made of; other files are not read."""

_TEXTS = SUFFIXES - {".safetensors", ".bin"}

_LAYERS, _HEADS, _WIDTH, _SIDE = (1, 128), (1, 4096), (1, 2**17), (1, 2**14)

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers"), _LAYERS),
    **dict.fromkeys(
        ("layers_per_block", "transformer_layers_per_block", "reverse_transformer_layers_per_block"), (0, 32)
    ),
    **dict.fromkeys(("num_attention_heads", "attention_head_dim", "num_heads", "d_kv"), _HEADS),
    **dict.fromkeys(("addition_embed_type_num_heads", "relative_attention_num_buckets"), _HEADS),
    **dict.fromkeys(("block_out_channels", "hidden_size", "intermediate_size", "d_model", "d_ff"), _WIDTH),
    **dict.fromkeys(("cross_attention_dim", "projection_dim", "norm_num_groups", "addition_time_embed_dim"), _WIDTH),
    **dict.fromkeys(("neck_hidden_sizes", "fusion_hidden_size", "time_embedding_dim", "encoder_hid_dim"), _WIDTH),
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "num_channels"), (1, 4096)),
    **dict.fromkeys(("sample_size", "image_size", "patch_size", "size", "crop_size"), _SIDE),
    **dict.fromkeys(("height", "width", "shortest_edge", "longest_edge"), _SIDE),
    "vocab_size": (1, 2**22),
    "max_position_embeddings": (1, 2**16),
    "relative_attention_max_distance": (1, 2**16),
    "num_train_timesteps": (1, 2**16),
    "model_max_length": (3, math.inf),  # the marks and a token; transformers writes 1e30 where it knows none
    "extra_ids": (0, 4096),
    "r": (1, 4096),
    "lora_alpha": (0, 2**16),
    "rank": (1, 4096),
    "steps": (1, 2**16),
    "depth_steps": (1, 2**16),
    "guidance": (0, 1000),
}
"""Least and largest number by key, in every JSON file of a model. Lists have at most 64 of them."""

FREE = frozenset({"provenance", "id2label", "label2id", "added_tokens_decoder", "vocab"})
"""Keys of objects whose own keys are not settings."""

DTYPES = ("float32", "float16", "bfloat16", "auto", None)

_NETWORK = {"_class_name", "_diffusers_version", "model_type", "torch_dtype", "tie_word_embeddings", "is_decoder"}
_TOKENS = {f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")}
_TOKENIZER = {
    *_TOKENS,
    *{f"add_{name}" for name in ("prefix_space", "bos_token", "eos_token", "prefix_space_token")},
    *("tokenizer_class", "backend", "model_max_length", "max_length", "stride", "padding_side", "truncation_side"),
    *("truncation_strategy", "pad_to_multiple_of", "pad_token_type_id", "do_lower_case", "errors", "is_local"),
    *("local_files_only", "clean_up_tokenization_spaces", "extra_ids", "legacy", "extra_special_tokens"),
    *("additional_special_tokens", "added_tokens_decoder", "split_special_tokens", "model_input_names"),
}
_IMAGES = {
    *{f"do_{step}" for step in ("resize", "center_crop", "rescale", "normalize", "convert_rgb", "pad")},
    *("size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "image_processor_type"),
    *("feature_extractor_type", "keep_aspect_ratio", "ensure_multiple_of", "size_divisor"),
}
_LIBRARIES = {"diffusers", "transformers", "stable_diffusion", None}


def check_files(folder: Path) -> None:
    """Check that the files of a model, to a depth of three, are regular ones and that its texts can be read whole.

    Raises:
        UserError: a pipe, socket or device, or a text that is too large.
    """
    for path in (path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth) if path.suffix in SUFFIXES):
        if path.exists() and not path.is_dir() and not path.is_file():
            raise UserError(f"{path} is not a regular file", hint=REMEDY)
        if path.suffix in _TEXTS and path.is_file() and path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES // 2**20} MiB", hint=REMEDY)


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Return a JSON file of a model that has these keys, and numbers in `RANGES`.

    Raises:
        UserError: it cannot be read, lacks one, or states a number that no model has.
    """
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", hint=REMEDY) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object", hint=REMEDY)
    for key in keys:
        if content.get(key) is None:
            raise UserError(f"{path} does not say {key}", hint=REMEDY)
    _check_ranges(path, content)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs."""
    path.write_text(to_json(content, indent=2), encoding="utf-8")


def _check_ranges(path: Path, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and key not in FREE:
            _check_ranges(path, value)
        elif key in RANGES:
            least, most = RANGES[key]
            values = list(_flat(value))
            if len(values) > 64 or not all(_is_number(each) and least <= each <= most for each in values):
                span = f"at least {least}" if math.isinf(most) else f"from {least} to {most}"
                raise UserError(f"{path}: {key} must be {span}, got {_short(value)}", hint=REMEDY)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    elif value is not None and not isinstance(value, dict | bool):
        yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) < 80 else type(value).__name__


@contextmanager
def known_files(folder: Path, kind: Any = None) -> Iterator[Path]:
    """Yield a copy of a model's folder, or of one of its parts, for diffusers and transformers.

    It has links to weights and vocabularies, and of every configuration the known keys: nothing that names code, an
    implementation of attention, a quantization or another place.

    Args:
        folder: the model or its part.
        kind: class of the network in `config.json`; without one the class that the file names.

    Raises:
        UserError: as `check_files` and `read_json`; weights in another folder, or parts of unknown libraries.
    """
    check_files(folder)
    with TemporaryDirectory(prefix="jointnet-") as scratch:
        _copy(folder, Path(scratch), getattr(kind, "config_class", None) or kind, depth=2)
        yield Path(scratch)


def _copy(folder: Path, copy: Path, kind: Any, depth: int) -> None:
    for path in sorted(folder.iterdir()):
        new = copy / path.name
        if path.is_dir():
            if depth > 1 and not path.name.startswith("."):
                new.mkdir()
                _copy(path, new, None, depth - 1)
        elif path.name.endswith(".index.json"):
            _check_index(path)
            new.symlink_to(path.absolute())
        elif path.name in _KNOWN or path.name in ("config.json", "model_index.json"):
            content = read_json(path)
            if path.name == "model_index.json":
                _check_parts(path, content)
            known = _arguments(path, content, kind) if path.name == "config.json" else _KNOWN.get(path.name, content)
            new.write_text(to_json(_only(content, known), indent=2), encoding="utf-8")
        elif path.suffix in SUFFIXES and path.is_file() and path.name not in _OTHERS:
            new.symlink_to(path.absolute())


def _check_index(path: Path) -> None:
    files = read_json(path, "weight_map")["weight_map"]
    if not isinstance(files, dict) or any(not isinstance(name, str) or "/" in name for name in files.values()):
        raise UserError(f"{path} names weights outside of its folder", hint=REMEDY)


def _check_parts(path: Path, index: Mapping[str, Any]) -> None:
    for name, part in index.items():
        if isinstance(part, list) and (len(part) != 2 or part[0] not in _LIBRARIES):
            raise UserError(f"{path}: {name} comes from {_short(part)}, which is not read", hint=REMEDY)


def _arguments(path: Path, content: Mapping[str, Any], kind: Any) -> set[str]:
    """Return the settings that the class of a network takes."""
    name = content.get("model_type") or content.get("_class_name")
    if kind is None and "model_type" in content:
        from transformers import CONFIG_MAPPING

        kind = CONFIG_MAPPING[name] if name in CONFIG_MAPPING.keys() else None  # noqa: SIM118 - it is no plain dict
    elif kind is None:
        import diffusers

        kind = getattr(diffusers, str(name), None)
    if not isinstance(kind, type):
        raise UserError(f"{path} states a network that is not known: {_short(name)}", hint=REMEDY)
    return _NETWORK | set(inspect.signature(kind).parameters)


def _only(content: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the known keys, and of the objects below them all that do not choose code or types."""
    kept = {key: value for key, value in content.items() if key in known and key not in _CHOICES}
    for key in ("dtype", "torch_dtype"):
        if key in kept and kept[key] not in DTYPES:
            del kept[key]
    for key, value in kept.items():
        if key.endswith("_config") and isinstance(value, dict):
            kept[key] = _only(value, value)
    return kept


_CHOICES = frozenset(
    {
        *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
        *("auto_map", "quantization_config", "_name_or_path", "name_or_path", "trust_remote_code", "adapters"),
        *("use_pretrained_backbone", "use_timm_backbone", "backbone", "backbone_kwargs", "custom_object_save"),
    }
)
"""Keys by which a configuration would choose code, an implementation, or another model."""

_KNOWN = {"tokenizer_config.json": _TOKENIZER, "preprocessor_config.json": _IMAGES}
_OTHERS = frozenset({"adapter_config.json", "generation_config.json", "processor_config.json", "chat_template.json"})
"""Files by which transformers would load further models, or change what a model is."""
