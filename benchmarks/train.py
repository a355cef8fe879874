"""Samples a second and peak memory of stage 1, against a plain training loop on the same machine.

    python benchmarks/train.py --model diorama --shards shards/worlds --steps 100

The plain loop is what one would write first: both branches fully trainable, AdamW with PyTorch's defaults, no mixed precision,
contiguous tensors, every batch read, encoded by the autoencoder and by the text encoder when it is needed. Ours is `jointnet
train` with the recipe `diorama/joint-depth` at the same batch size: once with latents cached, once streamed. Each runs in a
process of its own, on one thread or on the GPU; the first steps are left out.

    python benchmarks/train.py --random /tmp/sd2 --shards shards/photos --batch 4 --steps 20 --precision bf16 --peak 989

on a GPU: networks of Stable Diffusion 2.1's size with random weights, which train at the speed of trained ones. `--peak` is the
GPU's in TFLOP/s at that precision; `share_of_peak` is what the network's own arithmetic, forward and backward, takes of it.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor

    from jointnet_cli.model.checkpoint import JointModel

WARM_UP = 5


def random_unet() -> UNet2DConditionModel:
    """A UNet of Stable Diffusion 2.1's shape with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=[5, 10, 20, 20],
        cross_attention_dim=1024,
        use_linear_projection=True,
    )


def make_random(folder: Path) -> None:
    """Write a base model of Stable Diffusion 2.1's shapes with random weights, unless it is there."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler

    from jointnet_cli.model.checkpoint import JointModel, save_model
    from jointnet_cli.model.joint import JointNet
    from jointnet_cli.model.text import ClipEncoder
    from jointnet_cli.training.recipe import TextEncoder
    from jointnet_cli.training.stages.from_scratch import build_text_encoder, learn_tokenizer

    if (folder / "model_index.json").exists():
        return
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    tokenizer = learn_tokenizer(["a photo of a landscape"], 600, 77, folder / "tokenizer")
    text = ClipEncoder(tokenizer, build_text_encoder(TextEncoder(width=1024, layers=23, heads=16), tokenizer))
    scheduler = dict(DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False).config)
    save_model(JointModel(JointNet({"rgb": random_unet()}), vae, text, scheduler), folder, torch.float32)


def flops_a_sample(model: str) -> int:
    """Floating-point operations of one sample through the joint network, forward and backward with RGB locked."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from jointnet_cli.model.branch import Conditioning
    from jointnet_cli.model.checkpoint import load_model
    from jointnet_cli.model.hub import find_model
    from jointnet_cli.model.joint import JointNet

    loaded = load_model(find_model(model))
    joint = JointNet.extend(loaded.joint.backbone("rgb"), ["depth"]).to("meta")
    joint.set_trainable(train_rgb=False)
    config = joint.backbone("rgb").config
    latents = torch.empty(1, 2, config.in_channels, config.sample_size, config.sample_size, device="meta")
    given = Conditioning(torch.empty(1, 77, config.cross_attention_dim, device="meta"))
    with FlopCounterMode(display=False) as counter:
        joint(latents, torch.zeros(1, device="meta"), given).sum().backward()
    return int(counter.get_total_flops())


def seconds_a_step(step: Callable[[int], object], steps: int, warm_up: int = WARM_UP) -> float:
    """Mean wall time of a step after the first `warm_up`."""
    started = 0.0
    for number in range(warm_up + steps):
        if number == warm_up:
            _wait()
            started = time.perf_counter()
        step(number)
    _wait()
    return (time.perf_counter() - started) / steps


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def plain(model: str, shards: str, batch: int, steps: int) -> float:
    """The loop that one would write first."""
    import torch
    from diffusers import DDPMScheduler

    from jointnet_cli.model.checkpoint import load_model
    from jointnet_cli.model.hub import find_model
    from jointnet_cli.model.joint import JointNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_model(find_model(model)).to(torch.device(device))
    joint = JointNet.extend(loaded.joint.backbone("rgb"), ["depth"]).requires_grad_(True).train()
    optimizer = torch.optim.AdamW(joint.parameters(), lr=1e-4)
    scheduler = DDPMScheduler.from_config(loaded.scheduler)
    samples = _samples(loaded, shards, batch)

    def step(number: int) -> None:
        clean, captions = next(samples)
        given = loaded.encode_text(captions)
        noise = torch.randn_like(clean)
        timestep = torch.randint(1000, (batch,), device=clean.device)
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(clean, noise, timestep) if velocity else noise
        predicted = joint(scheduler.add_noise(clean, noise, timestep), timestep, given)
        (predicted - target).square().mean(dim=(0, 2, 3, 4)).sum().backward()
        torch.nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return seconds_a_step(step, steps)


def _samples(model: JointModel, shards: str, batch: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Latents (B, 2, C, h, w) and captions, read and encoded as they are needed."""
    import torch

    from jointnet_cli.data.shards.samples import sample_map
    from jointnet_cli.data.shards.shard_set import ShardSet

    device = next(model.joint.parameters()).device
    while True:
        kept = []
        for sample in ShardSet.open(shards).samples(("depth",)):
            kept.append(sample)
            if len(kept) == batch:
                with torch.no_grad():
                    maps = [
                        torch.stack([sample_map(one, name) for one in kept]).to(device) for name in ("rgb", "depth")
                    ]
                    latents = torch.stack([model.encode(each) for each in maps], dim=1)
                yield latents, [one.caption for one in kept]
                kept = []


def ours(model: str, shards: str, batch: int, steps: int, precision: str, cache: bool) -> float:
    """`jointnet train`, as it trains."""
    from jointnet_cli.training.recipe import load_recipe
    from jointnet_cli.training.run import train

    with tempfile.TemporaryDirectory() as folder:
        settings = [f"model={model}", f"data.shards={shards}", f"data.cache={str(cache).lower()}"]
        settings += [f"train.batch_size={batch}", f"train.max_steps={WARM_UP + steps}", "train.max_minutes=10000"]
        settings += [
            f"train.mixed_precision={precision}",
            "train.log_every=1",
            "train.preview_minutes=10000",
            "preview_prompts=[]",
        ]
        times: list[float] = []

        def log(line: dict[str, Any]) -> None:
            if "step" in line:
                times.append(time.perf_counter())

        train(load_recipe("diorama/joint-depth", settings), out=Path(folder), log=log)
    return (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="diorama")
    parser.add_argument("--shards", default="shards/worlds")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--precision", choices=["no", "bf16", "fp16"], default="no", help="of ours")
    parser.add_argument("--random", type=Path, help="folder for a base of Stable Diffusion 2.1's size")
    parser.add_argument("--peak", type=float, help="of the GPU, TFLOP/s at that precision")
    parser.add_argument("--measure", choices=["plain", "cached", "streamed"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    if options.random:
        make_random(options.random)
    for run in range(options.runs):
        for way in ("plain", "cached", "streamed")[:: 1 if run % 2 == 0 else -1]:
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", way]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            print(json.dumps({"run": run + 1, "way": way, **found}), flush=True)


def measure(options: argparse.Namespace) -> dict[str, object]:
    import torch

    model = str(options.random or options.model)
    common = (model, options.shards, options.batch, options.steps)
    is_cached = options.measure == "cached"
    seconds = plain(*common) if options.measure == "plain" else ours(*common, options.precision, is_cached)
    rate = options.batch / seconds
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "samples_per_second": round(rate, 2),
        **({"share_of_peak": round(rate * flops_a_sample(model) / options.peak / 1e12, 3)} if options.peak else {}),
        "peak_mib": round((peak or resident) / 2**20),
        "batch": options.batch,
        "steps": options.steps,
        "machine": torch.cuda.get_device_name() if peak else f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


if __name__ == "__main__":
    main()
