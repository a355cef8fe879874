"""Encode captions, and drop some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.training.determinism import SampleRNG
from jointnet_cli.training.stages.stage import to_device_if_fits

TEXT_BATCH = 256

SIZES = "time_ids"
"""Of what Stable Diffusion XL is told: height and width of the original, top and left of the crop, height and width wanted."""


class CaptionEncoder:
    """Encodes captions with a model's frozen text encoders, in the encoders' own type even where training is in mixed
    precision: the larger ones overflow in float16.

    Captions are cut to one chunk of the encoder, as in the paper. A warning says once how many were cut: of those encoded now,
    or of those seen up to the first batch that has one.

    Args:
        model: whose encoders are asked, on their device.
        captions: encoded now and kept in float16, with the empty one, on the device if they fit; `None` encodes every batch
            anew.
        side: of the training pictures in pixels; `None` is the model's own.
        warn: receives the warning.
    """

    def __init__(
        self,
        model: JointModel,
        captions: Iterable[str] | None = None,
        *,
        side: int | None = None,
        warn: Callable[[str], None] = lambda words: None,
    ) -> None:
        self._model, self._side, self._warn = model, side, warn
        self._seen, self._warned = 0, False
        self._rows = {} if captions is None else {text: row for row, text in enumerate(dict.fromkeys(["", *captions]))}
        self._count_cut(self._rows)
        self._kept = self._encode_all(list(self._rows)) if self._rows else None

    @torch.no_grad()
    def __call__(
        self, captions: Sequence[str], device: torch.device, crop_conditioning: Tensor | None = None
    ) -> Conditioning:
        """Return the conditions of B captions, float32, on a device.

        Args:
            captions: an empty one stands for no condition, as in sampling.
            device: where to.
            crop_conditioning: (B, 4) origin of the crops (`Batch.crop_conditioning`), for a model that is told; without it the
                model is told that they are whole and of their own size, as in sampling.

        Raises:
            KeyError: a caption that was not among those encoded at first.
        """
        if self._kept is None:
            self._count_cut(captions)
            conditioning = self._encode(list(captions)).to(device, torch.float32)
        else:
            conditioning = self._kept.rows([self._rows[text] for text in captions]).to(device, torch.float32)
        return self._with_sizes(conditioning, crop_conditioning)

    def _with_sizes(self, conditioning: Conditioning, crop_conditioning: Tensor | None) -> Conditioning:
        if conditioning.added is None or SIZES not in conditioning.added:
            return conditioning
        sizes = conditioning.added[SIZES].clone()
        if self._side is not None:
            sizes[:, :2] = sizes[:, 4:] = self._side
        if crop_conditioning is not None:
            sizes[:, :4] = crop_conditioning.to(sizes)
        return Conditioning(conditioning.text, {**conditioning.added, SIZES: sizes})

    def _encode(self, texts: list[str]) -> Conditioning:
        device = next(self._model.text.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return self._model.encode_text(texts, cut=True)

    def _count_cut(self, captions: Iterable[str]) -> None:
        """Warn about captions that are cut, unless that was done. Empty ones, which were dropped, do not count."""
        said = [caption for caption in captions if caption]
        self._seen += len(said)
        if said and not self._warned and (cut := self._model.count_cut(said)):
            self._warned = True
            self._warn(cut_warning(cut, self._seen))

    @torch.no_grad()
    def _encode_all(self, texts: list[str]) -> Conditioning:
        cpu = torch.device("cpu")
        parts = [
            self._encode(texts[start : start + TEXT_BATCH]).to(cpu, torch.float16)
            for start in range(0, len(texts), TEXT_BATCH)
        ]
        added = parts[0].added
        return Conditioning(
            to_device_if_fits(torch.cat([part.text for part in parts])),
            None if added is None else {name: torch.cat([part.added[name] for part in parts]) for name in added},  # type: ignore[index]
        )


def cut_warning(cut: int, captions: int) -> str:
    """Return the warning about captions that are longer than a text encoder reads at once."""
    return f"{cut:,} of {captions:,} captions are longer than the text encoder reads and are cut"


def drop_captions(captions: Sequence[str], share: float, rng: SampleRNG) -> list[str]:
    """Return the captions, every one of them empty with probability `share` (classifier-free guidance)."""
    kept = (rng.uniform(device="cpu") >= share).tolist()  # a list on the CPU never waits for a GPU
    return [caption if keep else "" for caption, keep in zip(captions, kept, strict=True)]
