"""Recompute reference tensors through this implementation: `python tests/golden.py FOLDER`.

FOLDER holds `golden.safetensors`, `base/` (a Stable Diffusion folder) and the published layout's `finetune/` and `inpaint/`.
The entries were computed by the published implementation on those weights: DDIM, 8 steps, guidance 7.5, prompt "the
ocean", float32 on a CPU. Prints the largest difference of every entry, relative to the entry's standard deviation, and exits
with 0 only if those of one forward pass are at most 1e-5 and all others at most 1e-3.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model
from jointnet_cli.model.hub import find_model
from jointnet_cli.sampling.known import Known
from jointnet_cli.sampling.layout import Layout, single_tile
from jointnet_cli.sampling.loop import GuidedDenoiser, denoise, place_tiles
from jointnet_cli.sampling.schedule import make_schedule

STEPS, GUIDANCE, PROMPT, SEED = 8, 7.5, "the ocean", 7
LIMITS = {"forward": 1e-5, "forward_masked": 1e-5}
LOOP_LIMIT = 1e-3
BRANCHES = ("image", "joint")
MASKS = {"both": ("part", "part"), "image": ("all", "none"), "depth": ("none", "all"), "asym": ("part", "all")}
"""Cases of `inpaint.*`: what of the image and of the depth is unknown."""
STRENGTH = {"both": 0.8}
INPUTS = {
    *(f"forward.{name}" for name in ("latents", "text", "timestep")),
    *(f"forward_masked.{name}" for each in BRANCHES for name in (f"{each}_mask", f"masked_{each}_latents")),
    *(f"inpaint.{name}" for name in (*BRANCHES, "mask")),
    "generate.latents",
    "pano.latents",
}


class Golden:
    """The entries of one folder and what this implementation makes of the same inputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = load_file(folder / "golden.safetensors")
        self.model = cache(lambda name: load_model(find_model(str(folder / name), str(folder / "base"))))

    def recompute(self) -> Iterator[tuple[str, Tensor]]:
        """Every entry that can be computed, with our value of it."""
        yield "forward.noise", self.forward("finetune")
        yield "forward_masked.noise", self.forward("inpaint")
        window, width = self.entries["pano.latents"].shape[-2:]
        tiles = partial(Layout, window, width, (window, window), offsets="none")
        paper = partial(tiles, stride=window // 2, whole_image_until=0.4, taper=window // 8)
        final = self.denoised("generate.latents", single_tile(*self.entries["generate.latents"].shape[-2:]))
        yield "generate.final", final
        pictures = self.model("finetune").decode(final[0].unflatten(0, (2, -1)))
        for name, picture in zip(BRANCHES, pictures, strict=True):
            yield f"generate.{name}", ((picture + 1) / 2).clamp(0, 1).permute(1, 2, 0)[None]
        yield "pano.full.final", self.denoised("pano.latents", paper(wrap=True))
        yield "pano.flat.final", self.denoised("pano.latents", paper(wrap=False))
        yield "pano.multidiffusion.final", self.denoised("pano.latents", tiles(stride=window // 4, wrap=True))
        for name in ("finetune", "inpaint"):
            for case in MASKS:
                yield f"inpaint.{name}.{case}.final", self.inpainted(name, case)

    def forward(self, name: str) -> Tensor:
        """One pass through the joint network, (B, 2 C, h, w)."""
        model = self.model(name)
        latents = self.entries["forward.latents"].unflatten(1, (2, -1))
        known = None
        if model.joint.has_masked_input:
            entry = {key.removeprefix("forward_masked."): value for key, value in self.entries.items()}
            parts = [torch.cat([entry[f"{each}_mask"], entry[f"masked_{each}_latents"]], dim=1) for each in BRANCHES]
            known = torch.stack(parts, dim=1)
        text = Conditioning(self.entries["forward.text"])
        return model.joint(latents, self.entries["forward.timestep"], text, known).flatten(1, 2)

    def denoised(self, noise: str, layout: Layout) -> Tensor:
        """A canvas of the joint model, (1, 2 C, h, w)."""
        return self.loop("finetune", self.entries[noise].unflatten(1, (2, -1))[0], layout)

    def inpainted(self, name: str, case: str) -> Tensor:
        """A masked picture and its depth. One generator draws both latents from the VAE's posterior, then the noise."""
        model = self.model(name)
        generator = torch.Generator().manual_seed(SEED)
        clean = torch.cat([self.sampled(model, self.entries[f"inpaint.{each}"], generator) for each in BRANCHES])
        noise = torch.randn(clean.shape, generator=generator)
        part = F.interpolate(self.entries["inpaint.mask"], clean.shape[-2:])
        kinds = {"part": part, "all": torch.ones_like(part), "none": torch.zeros_like(part)}
        mask = torch.cat([kinds[kind] for kind in MASKS[case]])
        layout = single_tile(*clean.shape[-2:])
        return self.loop(name, noise, layout, Known(clean, mask, noise), STRENGTH.get(case, 1.0))

    def loop(
        self, name: str, noise: Tensor, layout: Layout, known: Known | None = None, strength: float = 1.0
    ) -> Tensor:
        """The product's loop over eight steps."""
        model = self.model(name)
        # 0.8 of 8 steps are 6 in the published code, which rounds down.
        schedule = make_schedule("ddim", model.scheduler, STEPS, int(STEPS * strength) / STEPS)
        masked_input = known.masked_input if known and model.joint.has_masked_input else None
        texts = model.encode_text([PROMPT, ""])
        denoiser = GuidedDenoiser(model.joint, texts, GUIDANCE, schedule, masked_input)
        start = schedule.start(noise, known.latents if known else None)
        tiles = place_tiles(layout, schedule, torch.Generator())  # random numbers for offsets, of which there are none
        return denoise(denoiser, start, layout, tiles, known).flatten(0, 1)[None]

    @staticmethod
    def sampled(model: JointModel, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Latents drawn from the posterior, where the product takes its mean."""
        return model.vae.encode(picture).latent_dist.sample(generator) * model.vae.config.scaling_factor


def compare(entries: Mapping[str, Tensor], recomputed: Iterable[tuple[str, Tensor]]) -> int:
    """Print a line an entry, and return the exit code."""
    passed, left = True, entries.keys() - INPUTS
    for name, ours in recomputed:
        entry = entries[name]
        error = float((ours - entry).abs().max() / entry.std())
        limit = LIMITS.get(name.partition(".")[0], LOOP_LIMIT)
        passed &= error <= limit
        left.discard(name)
        print(f"{name:<32} {error:.1e}  {'ok' if error <= limit else f'above {limit:.0e}'}")
    for name in sorted(left):
        print(f"{name:<32} not known, not compared")
    return 0 if passed and not left else 1


@torch.inference_mode()
def main(folder: Path) -> int:
    """Recompute the references of a folder and compare; return the exit code."""
    golden = Golden(folder)
    return compare(golden.entries, golden.recompute())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    sys.exit(main(Path(sys.argv[1])))
