"""Make the embedded model `diorama`: render its worlds, train all its stages, write the folder that is shipped, measure it.

    python tools/diorama/make.py --minutes 25 --scenes 60000 --out runs/diorama      # one H100, 16 cores
    python tools/diorama/make.py --minutes 600 --scenes 20000 --out runs/diorama     # a night on two cores

Every stage is a `jointnet` command of its own with a recipe of this folder; the same call again goes on where it was cut off.
On a GPU the scenes are rendered while the first stages train, behind them in the queue for the cores: compiling a network
beside renderers of the same rank took five minutes. Progress goes to stderr, the model's folder to stdout. What is
measured lies in OUT/measured; the classifier that judges pictures is trained once, beside the minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from weights import ship

FIRST = 4000
"""Scenes that the autoencoder trains on."""
SHARD = 500
RESERVED = 256
"""Worlds to measure on, which no training sees."""
PROMPTS, PLACES = (Path(__file__).with_name(name) for name in ("prompts.txt", "places.txt"))
"""What the model's card shows: pictures, and panoramas."""
SHARES = {"vae": 0.1, "decoder": 0.1, "base": 0.32, "joint": 0.08, "inpaint": 0.32}
"""Of the minutes; the rest is for rendering, encoding and starting."""
ON_A_GPU: dict[str, dict[str, object]] = {
    "vae": {"batch_size": 192, "learning_rate": 2e-3},
    "decoder": {"batch_size": 192},
    "base": {"batch_size": 256, "learning_rate": 8e-3, "compile": "true"},
    "joint": {"batch_size": 256, "learning_rate": 5e-3, "compile": "true"},
    "inpaint": {"batch_size": 256, "learning_rate": 5e-3, "compile": "true"},
}
"""Larger batches keep a GPU busy, and bear higher learning rates."""
CHILDREN: list[subprocess.Popen[bytes]] = []
"""Processes that were started."""


def main() -> None:
    options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.encode is not None:
        encode_as_they_come(out, options.scenes, options.encode, options.encoders)
        return
    try:
        make(options)
    finally:
        for child in CHILDREN:
            child.terminate()


def make(options: argparse.Namespace) -> None:
    """Render, train all stages, ship and measure."""
    out: Path = options.out
    gpu = torch.cuda.is_available()
    if gpu:
        _watch_gpu(out)
    shards, encoders = out / "worlds", (os.cpu_count() or 1) // 2 if gpu else 1
    worlds = ["prepare", "worlds", "--count", options.scenes, "--shard-size", SHARD, "--size", 128]
    rendering = _start([*worlds, "--out", shards, "--quiet"], out / "render.log", rank=15)
    if gpu:
        _await(lambda: _ready(shards) * SHARD >= min(FIRST, options.scenes), rendering)
    else:
        _finish(rendering)
    stage(options, "vae", {"data.shards": shards, "data.limit": FIRST})
    encoding = [
        _start(
            [__file__, "--out", out, "--encode", number, "--encoders", encoders, "--scenes", options.scenes],
            out / f"encode{number}.log",
            module=False,
            rank=10,
        )
        for number in range(encoders)
    ]
    stage(options, "decoder", {"data.shards": shards, "data.limit": FIRST, "start": out / "vae/model"})
    seen = max(1, _ready(shards) - 2 * encoders)
    _await(lambda: _encoded(shards) >= seen, *encoding)
    known = _encoded(shards) * SHARD
    stage(options, "base", {"data.shards": shards, "vae": out / "vae/model", "data.limit": known})
    for process in (rendering, *encoding):
        _finish(process)
    stage(options, "joint", {"data.shards": shards, "model": out / "base/model"})
    stage(options, "inpaint", {"data.shards": shards, "model": out / "joint/model"})
    shutil.rmtree(out / "model", ignore_errors=True)
    ship(str(out / "inpaint/model"), out / "model", out / "decoder/model")
    measure(out)
    print(out / "model")


def stage(options: argparse.Namespace, name: str, settings: dict[str, object]) -> None:
    """Train one stage for its share of the minutes, unless it is done."""
    run = options.out / name
    if (run / "model").is_dir():
        return
    if torch.cuda.is_available():
        faster = {f"train.{key}": value for key, value in ON_A_GPU[name].items()}
        often = {"train.log_every": 100, "train.checkpoint_minutes": 2, "train.preview_minutes": 2}
        settings = {**settings, **faster, **often, "train.mixed_precision": "bf16"}
    minutes = options.minutes * SHARES[name]
    arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    _say(f"{name}: {minutes:.1f} minutes")
    _finish(
        _start(
            ["train", f"diorama/{name}", "--out", run, "--max-minutes", minutes, *arguments],
            options.out / f"{name}.log",
        )
    )


def measure(out: Path) -> None:
    """Measure the figures of docs/results.md: prompt adherence, depth, normals, the autoencoder. Finished ones are kept."""
    reserved, judge, model, made = out / "reserved", out / "judge", out / "model", out / "measured"
    made.mkdir(exist_ok=True)
    rendering = ["prepare", "worlds", "--evaluation", "--seed", 1_000_000_000, "--count", RESERVED]
    _finish(_start([*rendering, "--size", 128, "--out", reserved, "--quiet"], made / "render.log"))
    jointnet, chosen = ["-m", "jointnet_cli"], ["--seed", 0, "-m", model, "--json"]
    tables, method = [*jointnet, "evaluate"], ["--method", f"jointnet:{model}"]
    on_worlds, judged = ["--shards", reserved], ["--judge", judge, "--features", judge]
    every: dict[str, list[object]] = {
        "judge": [*tables, "judge", "--training", out / "worlds", "--held-out", reserved, "--out", judge],
        "generation": [*tables, "generation", *judged, *method, "--out", made / "generation", "--json"],
        "reconstruction": [
            *(*tables, "generation", *judged, *on_worlds, "--method", f"autoencoder:{model}"),
            *("--out", made / "reconstruction", "--json"),
        ],
        "depth": [
            *(*tables, "depth", *on_worlds, *method, "--method", f"mean-depth:{out / 'worlds'}"),
            *("--method", f"autoencoder:{model}", "--out", made / "depth", "--json"),
        ],
        "normal": [*tables, "normal", *on_worlds, *method, "--out", made / "normal", "--json"],
        "autoencoder": [*tables, "autoencoder", *on_worlds, "-m", model],
        "consistency": [
            *(*tables, "consistency", *method, "--method", f"worlds=shards:{reserved}"),
            *("--out", made / "consistency", "--json"),
        ],
        "pictures": [*jointnet, "generate", "--prompts", PROMPTS, *chosen, "--out", made / "pictures"],
        "panoramas": [
            *jointnet,
            "panorama",
            "--prompts",
            PLACES,
            "--width",
            2048,
            *chosen,
            "--out",
            made / "panoramas",
        ],
    }
    for name, command in every.items():
        file, partial = made / f"{name}.json", made / f"{name}.partial"
        if not file.exists():
            _say(f"measuring: {name}")
            with partial.open("wb") as answer, (made / f"{name}.log").open("ab") as log:
                words = [sys.executable, *map(str, command)]
                subprocess.run(words, stdout=answer, stderr=log, check=True)
            partial.replace(file)


def encode_as_they_come(out: Path, scenes: int, number: int, encoders: int) -> None:
    """Encode every `encoders`-th shard as soon as it is there, until all of them are."""
    from diffusers import AutoencoderKL

    from jointnet_cli.data.shards.latents import load_latents
    from jointnet_cli.data.shards.shard_set import ShardSet
    from jointnet_cli.model.vae import encode_maps, encoder_hash
    from jointnet_cli.training.stages.stage import training_device

    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(out / "vae/model").eval().to(training_device())
    encode = torch.inference_mode()(lambda maps: encode_maps(vae, maps).cpu())
    for shard in range(number, -(-scenes // SHARD), encoders):
        path = out / f"worlds/{shard:05}.tar"
        while not path.with_name(f"{path.stem}_stats.json").exists():
            time.sleep(0.5)
        load_latents(ShardSet.open(path), ["rgb", "depth", "normal"], encode, encoder_hash(vae))


def _ready(shards: Path) -> int:
    """How many shards are there without a gap."""
    return _leading(lambda stem: (shards / f"{stem}_stats.json").exists())


def _encoded(shards: Path) -> int:
    return _leading(lambda stem: any((shards / ".latents").glob(f"{stem}-*.safetensors")))


def _leading(there: Callable[[str], bool]) -> int:
    number = 0
    while there(f"{number:05}"):
        number += 1
    return number


def _start(arguments: list[object], log: Path, *, module: bool = True, rank: int = 0) -> subprocess.Popen[bytes]:
    command = [
        "nice",
        "-n",
        str(rank),
        sys.executable,
        *(["-m", "jointnet_cli"] if module else []),
        *map(str, arguments),
    ]
    with log.open("ab") as file:
        CHILDREN.append(subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"}))
    return CHILDREN[-1]


def _finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        sys.exit(f"make.py: failed: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]


def _await(done: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    """Wait until something is done, or a process that works on it has failed."""
    while not done():
        for process in processes:
            if process.poll():
                _finish(process)
        time.sleep(0.5)


def _watch_gpu(out: Path) -> None:
    """Write the GPU's utilisation and memory every two seconds."""
    if not shutil.which("nvidia-smi"):
        return
    query = "--query-gpu=timestamp,utilization.gpu,memory.used,power.draw"
    with (out / "gpu.csv").open("ab") as file:
        CHILDREN.append(subprocess.Popen(["nvidia-smi", query, "--format=csv,noheader", "-l", "2"], stdout=file))


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="budget, of which the stages take their shares")
    parser.add_argument("--scenes", type=int, default=20000, help="worlds to render")
    parser.add_argument("--out", type=Path, default=Path("runs/diorama"))
    parser.add_argument("--encode", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--encoders", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
