"""Evaluations a second of the joint network, and the share that it takes of what the device can compute.

    python benchmarks/denoise.py                                   # Stable Diffusion 2.1's size, random weights, on the GPU
    python benchmarks/denoise.py --dtype bfloat16 --channels-last --compile --tiles 1 4 16 64
    OMP_NUM_THREADS=1 python benchmarks/denoise.py --model diorama --device cpu --dtype float32 --tiles 1 16

An evaluation is one tile through all branches; with guidance a tile takes two. Operations are counted on the network; the peak
is that of products of large matrices in the same precision, measured on the same device. One line of JSON for each number of
tiles.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from train import random_unet, seconds_a_step

from jointnet_cli.devices import choose_device, choose_dtype
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import load_model
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.joint import JointDenoiser, JointNet


def main() -> None:
    options = read_options()
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    with torch.inference_mode():
        network = open_network(options.model, options.modalities).to(device, dtype).eval()
        if options.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run = torch.compile(network) if options.compile else network
        peak = peak_of(device, dtype, options.matrix)
        for tiles in options.tiles:
            print(json.dumps(measure(network, run, tiles, peak, options)), flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="in place of Stable Diffusion 2.1's size with random weights")
    parser.add_argument("--modalities", nargs="*", default=["depth"], help="beside RGB, of the random network")
    parser.add_argument("--device", help="the fastest by default")
    parser.add_argument("--dtype", help="float16 on CUDA, float32 elsewhere by default")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="that go through it at once")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices whose product gives the peak")
    return parser.parse_args()


def open_network(model: str | None, modalities: list[str]) -> JointDenoiser:
    if model is not None:
        return load_model(find_model(model)).joint
    return JointNet.extend(random_unet(), modalities)


def measure(
    network: JointDenoiser, run: Callable[..., Tensor], tiles: int, peak: float, options: argparse.Namespace
) -> dict[str, object]:
    """What a number of tiles at once takes."""
    unet = network.backbone("rgb")
    config, device, dtype = unet.config, unet.device, unet.dtype
    side, branches = config.sample_size, len(network.names)
    latents = torch.randn(tiles, branches, network.channels, side, side, device=device, dtype=dtype)
    text = Conditioning(
        torch.randn(tiles, 77, config.cross_attention_dim, device=device, dtype=dtype), added_of(network, tiles)
    )
    known = latents.new_zeros(tiles, branches, 1 + network.channels, side, side) if network.has_masked_input else None
    timestep = torch.tensor(500, device=device)
    with FlopCounterMode(display=False) as counter:
        network(latents, timestep, text, known)
    seconds = seconds_a_step(lambda _: run(latents, timestep, text, known), options.repeats, 2)
    computed = counter.get_total_flops() / seconds
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "dtype": str(dtype).removeprefix("torch."),
        "channels_last": options.channels_last,
        "compile": options.compile,
        "branches": branches,
        "tiles": tiles,
        "evaluations_per_second": round(tiles / seconds, 3),
        "teraflops": round(computed / 1e12, 3),
        "peak_teraflops": round(peak / 1e12, 3),
        "share_of_peak": round(computed / peak, 3),
        "gigabytes": round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None,
    }


def added_of(network: JointDenoiser, tiles: int) -> dict[str, Tensor] | None:
    """The further conditions that a network reads, as SDXL's does."""
    unet = network.backbone("rgb")
    if unet.config.addition_embed_type != "text_time":
        return None
    width = unet.add_embedding.linear_1.in_features - 6 * unet.config.addition_time_embed_dim
    where = {"device": unet.device, "dtype": unet.dtype}
    return {"text_embeds": torch.zeros(tiles, width, **where), "time_ids": torch.zeros(tiles, 6, **where)}


def peak_of(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of products of square matrices."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return float(2 * side**3 / seconds_a_step(lambda _: left @ right, 5, 2))


if __name__ == "__main__":
    main()
