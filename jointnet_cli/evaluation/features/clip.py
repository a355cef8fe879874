"""CLIP (Radford et al., 2021): how well a picture and a text fit, from a folder in transformers' format or from the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from jointnet_cli.errors import UserError


class Clip:
    """A CLIP model.

    Args:
        source: a folder or a hub id, such as `openai/clip-vit-large-patch14`.
        device: where it computes.

    Raises:
        UserError: not there, or no CLIP model.
    """

    name: str
    """As tables state it: the hub id, or the folder's name."""

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self._model = CLIPModel.from_pretrained(source).eval().requires_grad_(False).to(device)
            self._words = AutoTokenizer.from_pretrained(source)
            self._resize = CLIPImageProcessor.from_pretrained(source)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"no CLIP model in {source}: {reason}", hint="a folder in transformers' format, or a hub id"
            ) from error
        self.name = Path(source).resolve().name if Path(source).is_dir() else source
        self._device = device

    @torch.inference_mode()
    def similarity(self, picture: Tensor, text: str) -> float:
        """100 times the cosine between a picture (1, 3, H, W) in [0, 1] and a text, which is cut to CLIP's length."""
        length = self._model.config.text_config.max_position_embeddings
        words = self._words([text], truncation=True, max_length=length, return_tensors="pt").to(self._device)
        pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        sized = self._resize(images=[pixels], return_tensors="pt")["pixel_values"].to(self._device)
        seen = self._model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=sized)
        return 100 * float((seen.image_embeds[0] * seen.text_embeds[0]).sum())
