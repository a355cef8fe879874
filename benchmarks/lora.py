"""A LoRA branch against a full copy: numbers, memory, time, side by side on this machine.

    python benchmarks/lora.py runs/joint-depth/model runs/lora-depth/model --images 20

Every model is measured in processes of its own, in turn. Memory of sampling is the process's highest resident size less what it
was after the imports, or what a GPU allocated. Memory of training is what `jointnet train --dry-run` counts at batch size 32.
Depth errors are those of `jointnet evaluate depth`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def measure(folder: str, images: int) -> dict[str, object]:
    """One model in this process."""
    import torch

    import jointnet_cli.sampling.loop  # noqa: F401 - before the memory is read
    from jointnet_cli.engine import Engine
    from jointnet_cli.sampling.presets import Sampling
    from jointnet_cli.tasks import Generate

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    engine = Engine.open(folder)
    sampling = Sampling(steps=10, guidance=3.0, scheduler="unipc")
    task = Generate(prompt="a red hut on a green hill", seed=0, sampling=sampling)
    engine.generate(task)
    started = time.perf_counter()
    for _ in range(images):
        engine.generate(task)
    seconds = (time.perf_counter() - started) / images
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = engine.model.joint
    weights = {parameter.data_ptr(): parameter.numel() for parameter in network.parameters()}
    network.set_trainable(train_rgb=False)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    beside = [path for part in ("branches", "exchange.safetensors") for path in _files(Path(folder, part))]
    return {
        "architecture": network.architecture,
        "parameters": sum(weights.values()),
        "trained": trained,
        "bytes_of_the_modality": sum(path.stat().st_size for path in beside),
        "seconds_an_image": round(seconds, 3),
        "memory_mib": round(
            torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else (after - before) / 1024
        ),
        "training_mib": _training_memory(folder, network.architecture),
    }


def _files(place: Path) -> list[Path]:
    return list(place.rglob("*.safetensors")) if place.is_dir() else [place]


def _training_memory(folder: str, architecture: str) -> int:
    from jointnet_cli.training.inputs import find_inputs
    from jointnet_cli.training.preflight import estimate_memory
    from jointnet_cli.training.recipe import load_recipe
    from jointnet_cli.training.run import open_stage

    settings = [f"model={folder}", f"network.architecture={architecture}", "train.batch_size=32"]
    recipe = load_recipe("diorama/joint-depth", settings)
    stage = open_stage(recipe, find_inputs(recipe), Path(folder), weights=False)
    return round(estimate_memory(stage, 128).total / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders of models that `jointnet train` wrote")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.models[0], options.images)))
        return
    for run in range(options.runs):
        for model in options.models[:: 1 if run % 2 == 0 else -1]:
            command = [sys.executable, __file__, model, "--images", str(options.images), "--measure"]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            print(json.dumps({"run": run + 1, "model": model, **found}), flush=True)


if __name__ == "__main__":
    main()
