"""Prompts to what the branches are told of them: one class a family of base models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5EncoderModel,
    T5Tokenizer,
)

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.family import DEEPFLOYD_IF, STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family

IF_TOKENS = 77
"""DeepFloyd-IF was trained on prompts of this length, though T5 reads longer ones."""


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int | None = None) -> Tensor:
    """Token numbers (B, L) of texts, padded or cut to a length, by default the tokenizer's."""
    return _tokens(tokenizer, texts, length or tokenizer.model_max_length)["input_ids"]


class TextSide(nn.Module, ABC):
    """The text encoders of a base model and their tokenizers.

    The encoders are submodules and the tokenizers attributes, each under the name of its folder.
    """

    family: ClassVar[Family]

    @abstractmethod
    def forward(self, prompts: list[str]) -> Conditioning:
        """What the branches are told of B prompts. An empty prompt stands for no condition."""

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        """Folder to text encoder."""
        return {name: getattr(self, name) for name in self.family.encoders}

    @property
    def tokenizers(self) -> dict[str, PreTrainedTokenizerBase]:
        """Folder to tokenizer."""
        return {name: getattr(self, name) for name in self.family.tokenizers}

    @classmethod
    def options(cls, index: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Further arguments, from a `model_index.json` and the side of the model's own images in pixels."""
        return {}

    @property
    def settings(self) -> dict[str, Any]:
        """What `model_index.json` states beside the parts."""
        return dict(self.family.settings)


class ClipText(TextSide):
    """Stable Diffusion 1 and 2: the last hidden states of one CLIP."""

    family = STABLE_DIFFUSION

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    def forward(self, prompts: list[str]) -> Conditioning:
        tokens = tokenize(self.tokenizer, prompts).to(self.text_encoder.device)
        return Conditioning(self.text_encoder(tokens).last_hidden_state)


class TwoClipText(TextSide):
    """Stable Diffusion XL: the last hidden states but one of two CLIPs, the second's projection, and the image's size."""

    family = STABLE_DIFFUSION_XL

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        tokenizer_2: CLIPTokenizer,
        text_encoder_2: CLIPTextModelWithProjection,
        *,
        side: int,
        zero_empty: bool = True,
    ) -> None:
        """`side` is that of the model's own images in pixels; with `zero_empty` an empty prompt is all zeros."""
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self.tokenizer_2, self.text_encoder_2 = tokenizer_2, text_encoder_2
        self.side, self.zero_empty = side, zero_empty

    @classmethod
    def options(cls, index: Mapping[str, Any], size: int) -> dict[str, Any]:
        return {"side": size, "zero_empty": index.get("force_zeros_for_empty_prompt", True)}

    @property
    def settings(self) -> dict[str, Any]:
        return {"force_zeros_for_empty_prompt": self.zero_empty}

    def forward(self, prompts: list[str]) -> Conditioning:
        device = self.text_encoder.device
        outputs = [
            encoder(tokenize(tokenizer, prompts).to(device), output_hidden_states=True)
            for tokenizer, encoder in zip(self.tokenizers.values(), self.encoders.values(), strict=True)
        ]
        text, pooled = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds
        if self.zero_empty:
            empty = torch.tensor([not prompt for prompt in prompts], device=device)
            text = text.masked_fill(empty[:, None, None], 0)
            pooled = pooled.masked_fill(empty[:, None], 0)
        # Height and width of the original, top and left of the crop, height and width wanted.
        sizes = torch.tensor([self.side, self.side, 0, 0, self.side, self.side], dtype=text.dtype, device=device)
        return Conditioning(text, {"text_embeds": pooled, "time_ids": sizes.expand(len(prompts), -1)})


class T5Text(TextSide):
    """DeepFloyd-IF: the hidden states of T5, which is told where the prompt ends."""

    family = DEEPFLOYD_IF

    def __init__(self, tokenizer: T5Tokenizer, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    def forward(self, prompts: list[str]) -> Conditioning:
        tokens = _tokens(self.tokenizer, [prompt.lower().strip() for prompt in prompts], IF_TOKENS)
        device = self.text_encoder.device
        mask = tokens["attention_mask"].to(device)
        states = self.text_encoder(tokens["input_ids"].to(device), attention_mask=mask).last_hidden_state
        return Conditioning(states.to(self.text_encoder.dtype))


TEXT_SIDES: dict[str, type[TextSide]] = {kind.family.name: kind for kind in (ClipText, TwoClipText, T5Text)}
"""By the name of the family."""


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's folder."""
    tokenizer.save_pretrained(folder)
    if isinstance(tokenizer, CLIPTokenizer):
        tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt, for older readers


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> dict[str, Tensor]:
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
