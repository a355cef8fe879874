"""Untrained networks and tokenizers from the tables of a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from jointnet_cli.files.text import to_json
from jointnet_cli.training.recipe import Noise, TextEncoder, Unet, Vae

START, END = "<|startoftext|>", "<|endoftext|>"

WORD_END = "</w>"

MARKS = ("bos", "eos", "pad")


def learn_tokenizer(captions: Iterable[str], vocabulary: int, tokens: int, folder: Path) -> CLIPTokenizer:
    """Learn byte-pair merges from captions and write them as a `CLIPTokenizer` folder.

    Args:
        captions: the training texts.
        vocabulary: number of tokens, the 512 byte tokens of CLIP and the two marks included.
        tokens: length every prompt is padded or cut to.
        folder: where `vocab.json`, `merges.txt` and the configuration go.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    symbols = sorted(ByteLevel.alphabet())
    room = max(0, vocabulary - 2 * len(symbols) - 2)
    # Merges are of use only if they are learned on the pieces that CLIP itself cuts a text into: words as bytes, single digits.
    clip = _write_tokenizer(folder, symbols, [], tokens).backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix=WORD_END))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = BpeTrainer(vocab_size=vocabulary, end_of_word_suffix=WORD_END, show_progress=False)
    learner.train_from_iterator(captions, trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    return _write_tokenizer(folder, symbols, merges[:room], tokens)


def _write_tokenizer(folder: Path, symbols: list[str], merges: list[tuple[str, ...]], tokens: int) -> CLIPTokenizer:
    """Write the files of a CLIP tokenizer and read them."""
    entries = [*symbols, *(symbol + WORD_END for symbol in symbols), *("".join(merge) for merge in merges)]
    entries = [*dict.fromkeys(entries), START, END]
    return _write_files(folder, {entry: number for number, entry in enumerate(entries)}, merges, tokens)


def _write_files(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, ...]], tokens: int) -> CLIPTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(to_json(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokens,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(to_json(settings, indent=2))
    return CLIPTokenizer.from_pretrained(folder)


def add_words(tokenizer: CLIPTokenizer, words: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer that has a token of its own for each of some words of plain letters, and read it.

    Tokens keep their numbers; the new ones come after them. Texts of words that were whole before are cut as before: the
    new merges come last.
    """
    from tokenizers.models import BPE

    kept = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = dict(kept["vocab"])
    merges = [tuple(merge) for merge in kept["merges"]]
    for word in words:
        # Cut as the merges that were added for the words before it leave it.
        first, *others = (token.value for token in BPE(vocabulary, merges, end_of_word_suffix=WORD_END).tokenize(word))
        for piece in others:
            merges.append((first, piece))
            first += piece
            vocabulary.setdefault(first, len(vocabulary))
    return _write_files(folder, vocabulary, merges, tokenizer.model_max_length)


def grow_vocabulary(encoder: CLIPTextModel, size: int) -> CLIPTextModel:
    """Return a copy of a text encoder for `size` tokens; new rows of the table are as at the start of a training."""
    grown = CLIPTextModel(CLIPTextConfig.from_dict({**encoder.config.to_dict(), "vocab_size": size}))
    state = encoder.state_dict()
    for name, value in grown.state_dict().items():
        value[: len(state[name])] = state[name]
    return grown.eval()


def build_text_encoder(settings: TextEncoder, tokenizer: CLIPTokenizer | None = None) -> CLIPTextModel:
    """Build an untrained text encoder for a tokenizer; without one, for the largest vocabulary that the settings allow."""
    marks = {} if tokenizer is None else {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in MARKS}
    config = CLIPTextConfig(
        vocab_size=settings.vocabulary if tokenizer is None else len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        projection_dim=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.tokens if tokenizer is None else tokenizer.model_max_length,
        hidden_act="quick_gelu",
        **marks,
    )
    return CLIPTextModel(config)


def build_vae(settings: Vae) -> AutoencoderKL:
    """Return an untrained `AutoencoderKL` without attention."""
    depth = len(settings.block_out_channels)
    return AutoencoderKL(
        latent_channels=settings.latent_channels,
        block_out_channels=tuple(settings.block_out_channels),
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        layers_per_block=settings.layers_per_block,
        norm_num_groups=settings.norm_num_groups,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_unet(settings: Unet, channels: int, size: int, text_width: int) -> UNet2DConditionModel:
    """Return an untrained UNet for latents of so many channels and such a side."""
    down = tuple("CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in settings.attention)
    up = tuple("CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(settings.attention))
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(settings.block_out_channels),
        layers_per_block=settings.layers_per_block,
        down_block_types=down,
        up_block_types=up,
        attention_head_dim=settings.heads,
        norm_num_groups=settings.norm_num_groups,
        cross_attention_dim=text_width,
        addition_embed_type="text" if settings.pooled_text else None,
        addition_embed_type_num_heads=settings.heads,
    )


def build_schedule(noise: Noise) -> dict[str, Any]:
    """Return the configuration of Stable Diffusion's noise schedule with the recipe's prediction type and terminal SNR."""
    return dict(
        DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=noise.prediction,
            rescale_betas_zero_snr=noise.zero_terminal_snr,
            timestep_spacing="trailing",
            clip_sample=False,
            steps_offset=1,
            set_alpha_to_one=True,
        ).config
    )
