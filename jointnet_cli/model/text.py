"""A CLIP-format tokenizer learned from captions, and an untrained CLIP text encoder for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from jointnet_cli.strict_json import to_json

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


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
    vocabulary = {entry: number for number, entry in enumerate(entries)}
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


def build_text_encoder(tokenizer: CLIPTokenizer, *, width: int, layers: int, heads: int) -> CLIPTextModel:
    """An untrained text encoder for a tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)
