"""`jointnet evaluate autoencoder`: what a model's autoencoder keeps of maps, the upper limit of all that the model makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.evaluation import Quiet
from jointnet_cli.evaluation.methods import MethodSettings
from jointnet_cli.files.text import to_json
from jointnet_cli.params import INPUT_PANEL, Param

if TYPE_CHECKING:
    from torch import Tensor

    from jointnet_cli.evaluation.runner import Watch
    from jointnet_cli.model.checkpoint import JointModel

MAPS = ("rgb", "depth", "normal")

_STEP, _FLAT, _REACH = 0.1, 0.01, 4
"""Disparity that is a step, what is flat beside it, and pixels on either side."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderCommand:
    """Measure PSNR and sharpness of RGB, depth and normals after the autoencoder, and the width of depth edges.

    Nothing that the model makes can exceed the PSNR. Sharpness is the energy of differences between neighbouring columns
    over that of the truth. Depth is relative disparity, decoded as the mean of the three channels, as the model reads it.
    Prints one JSON object.
    """

    name = "autoencoder"
    example = "jointnet evaluate autoencoder --shards shards/evaluation"

    shards: Annotated[str, Param("Worlds of `jointnet prepare worlds --evaluation`.", "DIR", panel=INPUT_PANEL)]
    limit: Annotated[int | None, Param("Use only the first samples.", "N", ge=1)] = None
    settings: MethodSettings = field(default_factory=MethodSettings)
    quiet: Quiet = False

    def run(self, watch: Watch) -> int:
        """Print the means over every kind of map that the samples have, and the median width of depth edges.

        Raises:
            UserError: the model works on pixels.
        """
        import torch

        from jointnet_cli.data.shards.samples import sample_map
        from jointnet_cli.data.shards.shard_set import ShardSet
        from jointnet_cli.engine import Engine

        how = self.settings
        engine = Engine.open(how.model, base=how.base, device=how.device, dtype=how.dtype)
        if engine.model.vae is None:
            raise UserError(f"{engine.name} works on pixels: it has no autoencoder to measure")
        samples = ShardSet.open(self.shards, self.limit, evaluation=True)
        found: dict[str, list[float]] = {name: [] for name in MAPS}
        energies: dict[str, list[float]] = {name: [0.0, 0.0] for name in MAPS}
        widths: list[float] = []
        with watch("autoencoder") as progress, torch.inference_mode():
            for number, sample in enumerate(samples.samples(MAPS[1:])):
                for name in MAPS:
                    if {"depth": sample.inverse_depth, "normal": sample.normal}.get(name, sample.image) is None:
                        continue
                    true, decoded = _round_trip(engine.model, sample_map(sample, name))
                    if name == "depth":
                        true, decoded = true[:1], decoded.mean(dim=0, keepdim=True)
                        widths += edge_widths(true[0] / 2, decoded[0] / 2).tolist()
                    found[name].append(psnr(true, decoded))
                    for place, values in enumerate((decoded, true)):
                        energies[name][place] += float(values.diff(dim=-1).square().mean())
                progress(number + 1, len(samples))
        means = {name: round(fmean(values), 2) for name, values in found.items() if values}
        sharpness = {name: round(made / true, 3) for name, (made, true) in energies.items() if true}
        edges = {"depth_edge_width": round(median(widths), 2)} if widths else {}
        facts = {"images": len(samples), "model": engine.name, "psnr": means, "sharpness": sharpness, **edges}
        print(to_json(facts, indent=2))
        return 0


def psnr(first: Tensor, second: Tensor) -> float:
    """Return the peak signal-to-noise ratio of maps in [-1, 1], in dB; infinite for equal ones."""
    return float(10 * (4 / (first - second).square().mean()).log10())


def edge_widths(true: Tensor, decoded: Tensor) -> Tensor:
    """Return the widths in pixels of decoded edges, (P,), where disparity (H, W) in a range of 1 truly steps along its rows.

    A width is the height of the true step over the greatest decoded one near it: 1 is a step. Only steps count that have
    nothing else beside them.
    """
    near, made = (values.diff(dim=-1).abs().unfold(-1, 2 * _REACH + 1, 1) for values in (true, decoded))
    height = near[..., _REACH]
    alone = (height > _STEP) & ((near > _FLAT).sum(dim=-1) == 1)
    return height[alone] / made.amax(dim=-1)[alone].clamp(min=1e-6)


def _round_trip(model: JointModel, values: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a map (3, H, W) to what the factor divides; return it and what the autoencoder makes of it."""
    height, width = (side // model.factor * model.factor for side in values.shape[-2:])
    true = values[:, :height, :width]
    decoded = model.decode(model.encode(true[None]))
    return true, decoded[0].clamp(-1, 1).float().cpu()
