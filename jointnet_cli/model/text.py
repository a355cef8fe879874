"""Prompts to conditioning: the text encoders of every family."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
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


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    """Return token numbers (B, L) of texts, padded or cut to the tokenizer's length L."""
    return _tokens(tokenizer, texts, tokenizer.model_max_length)["input_ids"]


def tokenize_in_chunks(tokenizers: Iterable[PreTrainedTokenizerBase], texts: list[str]) -> list[Tensor]:
    """Return token numbers of whole texts in chunks of the tokenizer's length, (B, chunks, L) for each tokenizer.

    Every chunk has a start mark, up to L - 2 tokens, an end mark and padding. Shorter texts have empty chunks at the end, so
    that all texts and tokenizers have equally many. A chunk ends between words; a word is split only if it fits in no chunk.
    """
    split = [(tokenizer, _split(tokenizer, texts)) for tokenizer in tokenizers]
    count = max(len(chunks) for _, all_chunks in split for chunks in all_chunks)
    return [
        torch.tensor(
            [[_marked(tokenizer, chunk) for chunk in [*chunks, *[[]] * count][:count]] for chunks in all_chunks]
        )
        for tokenizer, all_chunks in split
    ]


class TextEncoders(nn.Module, ABC):
    """The text encoders of a base model and their tokenizers.

    The encoders are submodules and the tokenizers attributes, each under the name of its folder.
    """

    family: ClassVar[Family]
    chunked: ClassVar[bool] = True
    """Whether prompts longer than the encoder reads at once are encoded in chunks; otherwise they are cut."""

    @abstractmethod
    def forward(self, prompts: list[str], *, cut: bool = False) -> Conditioning:
        """Encode B prompts as conditions of the branches. An empty prompt stands for no condition.

        Args:
            prompts: of any length.
            cut: keep only what fits in one chunk, as in training. Otherwise the states of all chunks are concatenated along
                the sequence, and the pooled output is that of the first chunk.
        """

    def beyond(self, texts: list[str]) -> list[list[str]]:
        """Return for each text the words that do not fit in one chunk, a word that is split there included."""
        found = [_beyond(tokenizer, texts, tokenizer.model_max_length) for tokenizer in self.tokenizers.values()]
        return [max(words, key=len) for words in zip(*found, strict=True)]

    def tokens(self, texts: list[str], *, cut: bool) -> list[Tensor]:
        """Return for each CLIP the token numbers (B, chunks, L) of texts, on the encoders' device."""
        tokenizers = self.tokenizers.values()
        if cut:
            chunks = [tokenize(tokenizer, texts)[:, None] for tokenizer in tokenizers]
        else:
            chunks = tokenize_in_chunks(tokenizers, texts)
        device = next(self.parameters()).device
        return [tokens.to(device) for tokens in chunks]

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
        """Return further arguments, from a `model_index.json` and the side of the model's own images in pixels."""
        return {}

    @property
    def settings(self) -> dict[str, Any]:
        """What `model_index.json` states beside the parts."""
        return dict(self.family.settings)


class ClipEncoder(TextEncoders):
    """Stable Diffusion 1 and 2: the last hidden states of one CLIP."""

    family = STABLE_DIFFUSION

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    def forward(self, prompts: list[str], *, cut: bool = False) -> Conditioning:
        (tokens,) = self.tokens(prompts, cut=cut)
        states = self.text_encoder(tokens.flatten(0, 1)).last_hidden_state
        return Conditioning(states.reshape(len(prompts), -1, states.shape[-1]))


class DualClipEncoder(TextEncoders):
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

    def forward(self, prompts: list[str], *, cut: bool = False) -> Conditioning:
        count, device = len(prompts), self.text_encoder.device
        outputs = [
            encoder(tokens.flatten(0, 1), output_hidden_states=True)
            for tokens, encoder in zip(self.tokens(prompts, cut=cut), self.encoders.values(), strict=True)
        ]
        text = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        text = text.reshape(count, -1, text.shape[-1])
        pooled = outputs[-1].text_embeds.unflatten(0, (count, -1))[:, 0]
        if self.zero_empty:
            empty = torch.tensor([not prompt for prompt in prompts], device=device)
            text = text.masked_fill(empty[:, None, None], 0)
            pooled = pooled.masked_fill(empty[:, None], 0)
        # Height and width of the original, top and left of the crop, height and width wanted.
        sizes = torch.tensor([self.side, self.side, 0, 0, self.side, self.side], dtype=text.dtype, device=device)
        return Conditioning(text, {"text_embeds": pooled, "time_ids": sizes.expand(count, -1)})


class T5Encoder(TextEncoders):
    """DeepFloyd-IF: the hidden states of T5, which is told where the prompt ends. Longer prompts are cut."""

    family = DEEPFLOYD_IF
    chunked = False

    def __init__(self, tokenizer: T5Tokenizer, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    def forward(self, prompts: list[str], *, cut: bool = False) -> Conditioning:
        tokens = _tokens(self.tokenizer, _plain(prompts), IF_TOKENS)
        device = self.text_encoder.device
        mask = tokens["attention_mask"].to(device)
        states = self.text_encoder(tokens["input_ids"].to(device), attention_mask=mask).last_hidden_state
        return Conditioning(states.to(self.text_encoder.dtype))

    def beyond(self, texts: list[str]) -> list[list[str]]:
        return _beyond(self.tokenizer, _plain(texts), IF_TOKENS)


TEXT_ENCODERS: dict[str, type[TextEncoders]] = {
    kind.family.name: kind for kind in (ClipEncoder, DualClipEncoder, T5Encoder)
}
"""By the name of the family."""


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's folder."""
    tokenizer.save_pretrained(folder)
    if isinstance(tokenizer, CLIPTokenizer):
        tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt, for older readers


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> dict[str, Tensor]:
    tokens: dict[str, Tensor] = tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return tokens


def _plain(texts: list[str]) -> list[str]:
    """Return texts as DeepFloyd-IF's T5 was trained on them."""
    return [text.lower().strip() for text in texts]


def _split(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[list[int]]]:
    """Return for each text its token numbers without marks, in chunks that leave room for two marks."""
    found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    room = tokenizer.model_max_length - 2
    return [
        _chunks(numbers, offsets, found.word_ids(row), room)
        for row, (numbers, offsets) in enumerate(zip(found["input_ids"], found["offset_mapping"], strict=True))
    ]


def _chunks(numbers: list[int], offsets: list[tuple[int, int]], words: list[int | None], room: int) -> list[list[int]]:
    """Return token numbers in chunks of at most `room`, at least one.

    A chunk ends as late as it can, at best before white space, else between the tokenizer's own words, else between
    characters.
    """

    def preference(cut: int) -> tuple[bool, bool, bool, int]:
        start, end = offsets[cut][0], offsets[cut - 1][1]
        return start > end, words[cut] != words[cut - 1], start == end, cut

    chunks, begin = [], 0
    while len(numbers) - begin > room:
        cut = max(range(begin + 1, begin + room + 1), key=preference)
        chunks.append(numbers[begin:cut])
        begin = cut
    return [*chunks, numbers[begin:]]


def _marked(tokenizer: PreTrainedTokenizerBase, chunk: list[int]) -> list[int]:
    """Return a chunk with start mark, end mark and padding."""
    padding = [tokenizer.pad_token_id] * (tokenizer.model_max_length - 2 - len(chunk))
    return [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id, *padding]


def _beyond(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> list[list[str]]:
    """Return for each text the words that are not whole within `length` tokens, marks counted."""
    found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    room = length - tokenizer.num_special_tokens_to_add()
    return [
        [word.group() for word in re.finditer(r"\S+", text) if len(offsets) > room and word.end() > offsets[room][0]]
        for text, offsets in zip(texts, found["offset_mapping"], strict=True)
    ]
