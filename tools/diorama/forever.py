"""Train the embedded model `diorama` on for days, in pieces, at the lowest rank beside other work on the machine.

    python tools/diorama/forever.py --out FOLDER                   # start, or go on where it stopped
    python tools/diorama/forever.py --out FOLDER --status          # how far it is
    kill $(cat FOLDER/pid)                                           # stop; the same command goes on
    python tools/diorama/forever.py --out FOLDER --cool-down 60    # the model of now, in FOLDER/model

It starts from the weights that are shipped, whose autoencoder stays as it is. Before every piece further worlds are rendered;
after it the averaged weights are exported to FOLDER/<stage>/model and their loss on held-out worlds, at the same noise every
time, is added to FOLDER/progress.jsonl. Learning rates are constant, so that a stage can end at any time: a cool-down lets
the rate fall in a few minutes, then trains the stages that are left. It does not disturb the run. The branches of the weights
that it started from go on beside the base that was trained: they learn to follow it in minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from background import Worker, claim, runner

SHARES = {"base": 0.7, "inpaint": 0.3}
"""Of the hours of training. The last stage goes on after its share."""
COOL_SHARES = {"base": 0.4, "inpaint": 0.6}
"""Of the minutes of a cool-down, for the stages that are left."""
SETTINGS: dict[str, dict[str, object]] = {
    "base": {"train.batch_size": 64, "train.learning_rate": 4e-3},
    "inpaint": {"train.batch_size": 32, "train.learning_rate": 2e-3},
}
CONSTANT = {"train.schedule": "constant", "train.ema": 0.9993}
EVERY = {"train.checkpoint_minutes": 10, "train.preview_minutes": 10_000, "train.log_every": 20}
FIRST_SEED, HELD_OUT_SEED, HELD_OUT = 200_000, 1_000_100_000, 256
MEASURED = 512
"""Samples of the held-out loss: each held-out world twice, at other timesteps."""
ATTEMPTS = 3
WEIGHTS = Path(__file__).with_name("weights.py")
FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(arguments)
    if options.status:
        print(status(options))
    elif options.measure:
        print(json.dumps(measure(options, options.measure)))
    else:
        signal.signal(signal.SIGTERM, _stop)
        options.out.mkdir(parents=True, exist_ok=True)
        if options.cool_down:
            cool_down(options, Worker(claim(options.out / "cool-down.pid"), options.nice))
        else:
            go_on(options, Worker(claim(options.out / "pid"), options.nice))


def go_on(options: argparse.Namespace, worker: Worker) -> None:
    """Train, a piece after the other, until a signal comes; with --no-endless until the hours are over."""
    out: Path = options.out
    _make(worker, out / "start", "begin", options.start)
    held_out = ["--evaluation", "--seed", HELD_OUT_SEED, "--count", options.held_out, "--tilted", options.tilted]
    _render(options, worker, "held-out", held_out)
    failures = 0
    while (piece := next_piece(options)) and failures < ATTEMPTS:
        try:
            _render_more(options, worker)
            if not _history(out):
                _note_loss(options, worker, piece.stage)
            source = _source(options, worker, piece.stage)
            _train(options, worker, piece.stage, out / piece.stage, source, piece.end, CONSTANT)
            _note_loss(options, worker, piece.stage)
            failures = 0
        except subprocess.CalledProcessError as failure:
            failures += 1
            _say(f"failed ({failures} of {ATTEMPTS}): {failure}")
            time.sleep(options.pause)
    if piece:
        sys.exit(f"forever.py: gave up after {ATTEMPTS} failures in a row; the logs are in {out}")


def cool_down(options: argparse.Namespace, worker: Worker) -> None:
    """Train the stages that are left with a falling rate, and write the model in float16 to FOLDER/model."""
    out: Path = options.out
    stages, piece = list(SHARES), next_piece(options)
    left = stages[stages.index(piece.stage if piece else stages[-1]) :]
    source = _newest(out)
    for name in left:
        minutes = options.cool_down * COOL_SHARES[name] / sum(COOL_SHARES[stage] for stage in left)
        falling = {"train.schedule": "cosine", "train.warmup_steps": 20, "train.ema": 0.99}
        _train(options, worker, name, out / "cool-down" / name, source, minutes, falling)
        source = out / "cool-down" / name / "model"
        if name == "base":
            source = _join(options, worker, source, out / "cool-down/joined")
    shutil.rmtree(out / "model", ignore_errors=True)
    worker.run([WEIGHTS, "ship", source, out / "model"], out / "cool-down.log")
    shutil.rmtree(out / "cool-down")
    print(out / "model")


def measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """The mean losses of a stage's newest averaged weights on held-out worlds, by name, at fixed noise."""
    import tempfile

    import torch

    from jointnet_cli.training.determinism import RankSampler, SampleRNG
    from jointnet_cli.training.inputs import find_inputs
    from jointnet_cli.training.recipe import load_recipe
    from jointnet_cli.training.run import open_stage

    torch.set_num_threads(1)
    out: Path = options.out
    folder = out / name / "model"
    source = folder if folder.is_dir() else out / "start"
    settings = {**_settings(options, name, source, CONSTANT), "data.shards": out / "held-out"}
    settings |= {"objective.text_dropout": 0, "train.mixed_precision": "no"}
    recipe = load_recipe(f"diorama/{name}", [f"{key}={value}" for key, value in settings.items()])
    with tempfile.TemporaryDirectory() as scratch:
        stage = open_stage(recipe, find_inputs(recipe), Path(scratch))
    sampler = RankSampler(32)
    batches = stage.batches(sampler, 0)
    sums: dict[str, float] = {}
    stage.network.eval()
    with torch.inference_mode():
        for _ in range(MEASURED // sampler.batch):
            batch = next(batches)
            rng = SampleRNG(0, batch.positions, "held-out")
            losses = stage.loss(stage.network, batch, stage.conditioning(batch, rng), rng)
            for key, loss in losses.items():
                sums[key] = sums.get(key, 0.0) + float(loss) * sampler.batch / MEASURED
    return {key: round(value, 5) for key, value in sums.items()}


def status(options: argparse.Namespace) -> str:
    """What was done so far, stage by stage."""
    out, hours, piece = options.out, options.hours, next_piece(options)
    worlds = sum(json.loads(path.read_text())["count"] for path in (out / "worlds").glob("*_stats.json"))
    lines = [f"{runner(out)}, {f'stage {piece.stage}' if piece else 'finished'}, {worlds} worlds rendered"]
    for name in SHARES:
        clock = _clock(out / name)
        seen = [entry for entry in _history(out) if entry["stage"] == name]
        if not clock and not seen:
            lines.append(f"{name:8} not begun; {SHARES[name] * hours:.1f} hours planned")
            continue
        samples = clock.get("step", 0) * clock.get("samples_a_step", 0)
        log = [line for line in _records(out / name / "log.jsonl") if "loss" in line]
        text = f"{name:8} {clock.get('minutes', 0) / 60:.2f} of {SHARES[name] * hours:.1f} hours, {samples} samples"
        if log:
            recent = log[-50:]
            text += f" ({log[-1]['step'] * clock.get('samples_a_step', 0)} in the log)"
            text += f", {log[-1]['samples_per_second']:.1f} a second, training loss "
            text += f"{sum(line['loss'] for line in recent) / len(recent):.4f} over the last {len(recent)} lines"
        lines.append(text)
        lines += [
            f"{'':8} held-out loss at {entry['samples']:>9} samples, {entry['hours']:6.2f} hours: "
            + ", ".join(f"{branch} {value:.4f}" for branch, value in entry["held_out"].items())
            for entry in (seen if len(seen) <= 12 else [*seen[:2], *seen[-10:]])
        ]
    return "\n".join(lines)


class Piece(NamedTuple):
    """A stage, and after how many minutes of training in all its next piece ends."""

    stage: str
    end: float


def next_piece(options: argparse.Namespace) -> Piece | None:
    """What to train next: the first stage that has not had its share of the hours; the last one goes on after it, if asked."""
    for name, share in SHARES.items():
        done, whole = _minutes(options.out / name), share * options.hours * 60
        if done < whole:
            return Piece(name, min(done + options.piece, whole))
    return Piece(name, done + options.piece) if options.endless else None


def _source(options: argparse.Namespace, worker: Worker, name: str) -> Path:
    """What a stage starts from."""
    out: Path = options.out
    return out / "start" if name == "base" else _join(options, worker, out / "base/model", out / "joined")


def _join(options: argparse.Namespace, worker: Worker, base: Path, folder: Path) -> Path:
    """Set the branches that the run started from beside a base."""
    return _make(worker, folder, "join", options.out / "start", base)


def _make(worker: Worker, folder: Path, *arguments: object) -> Path:
    """Let weights.py write a folder, which appears when it is whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    if not folder.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        worker.run([WEIGHTS, *arguments, partial], folder.with_suffix(".log"))
        partial.rename(folder)
    return folder


def _newest(out: Path) -> Path:
    """The latest model of the run."""
    folders = [out / name / "model" for name in reversed(SHARES)]
    return next((folder for folder in folders if folder.is_dir()), out / "start")


def _settings(options: argparse.Namespace, name: str, source: Path, changes: dict[str, object]) -> dict[str, object]:
    bfloat16 = any(flag in _processor() for flag in FAST_BFLOAT16)
    settings: dict[str, object] = {
        "data.shards": options.out / "worlds",
        "train.mixed_precision": "bf16" if bfloat16 else "no",
        **SETTINGS[name], **EVERY, **changes,
    }  # fmt: skip
    settings |= {"start": source, "vae": options.out / "start/vae"} if name == "base" else {"model": source}
    own = (setting.partition("=") for setting in options.set)
    return settings | {key.removeprefix(f"{name}."): value for key, _, value in own if key.startswith(f"{name}.")}


def _train(
    options: argparse.Namespace, worker: Worker, name: str, run: Path, source: Path, end: float,
    changes: dict[str, object],
) -> None:  # fmt: skip
    """Train a stage until it has had so many minutes in all."""
    _say(f"{run.name}: to {end:.1f} minutes")
    settings = _settings(options, name, source, changes)
    words = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    run.parent.mkdir(exist_ok=True)
    command = ["-m", "jointnet_cli", "train", f"diorama/{name}", "--out", run, "--max-minutes", end, *words]
    worker.run(command, run.with_suffix(".log"))


def _render_more(options: argparse.Namespace, worker: Worker) -> None:
    shards = options.out / "worlds"
    there = sum(1 for _ in shards.glob("*_stats.json")) * options.shard
    count = min(options.worlds, max(options.first, there + options.more))
    if there < count:
        _render(options, worker, "worlds", ["--seed", FIRST_SEED, "--count", count, "--tilted", options.tilted])


def _render(options: argparse.Namespace, worker: Worker, folder: str, which: list[object]) -> None:
    own = ["--size", options.size, "--shard-size", options.shard, "--workers", 1, "--quiet"]
    command = ["-m", "jointnet_cli", "prepare", "worlds", *which, "--out", options.out / folder, *own]
    worker.run(command, options.out / "render.log")


def _note_loss(options: argparse.Namespace, worker: Worker, name: str) -> None:
    """Measure a stage and add the answer to FOLDER/progress.jsonl."""
    out: Path = options.out
    answer = _own(options, worker, "--measure", name, log="measure.log")
    clock = _clock(out / name)
    entry = {
        "stage": name,
        "samples": clock.get("step", 0) * clock.get("samples_a_step", 0),
        "hours": round(clock.get("minutes", 0) / 60, 3),
        "held_out": json.loads(answer),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    with (out / "progress.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    _say(f"{name}: held-out loss {entry['held_out']} after {entry['samples']} samples")


def _own(options: argparse.Namespace, worker: Worker, *arguments: object, log: str) -> str:
    """Run another part of this script and return what it prints last."""
    settings = [part for setting in options.set for part in ("--set", setting)]
    command = [__file__, "--out", options.out, "--start", options.start, *settings, *arguments]
    return worker.run(command, options.out / log)


def _clock(run: Path) -> dict[str, Any]:
    """Step and minutes of a run's newest checkpoint."""
    newest = max((path for path in run.glob("state/*/clock.json") if path.parent.name.isdecimal()), default=None)
    return json.loads(newest.read_text()) if newest else {}


def _minutes(run: Path) -> float:
    return float(_clock(run).get("minutes", 0))


def _history(out: Path) -> list[dict[str, Any]]:
    return _records(out / "progress.jsonl")


def _records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON records."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, outside of the checkout")
    parser.add_argument("--status", action="store_true", help="print how far it is and stop")
    parser.add_argument("--cool-down", type=float, metavar="MINUTES", help="make a model of the run as it is now")
    parser.add_argument(
        "--hours", type=float, default=72, help="hours of training, of which the stages take shares (72)"
    )
    parser.add_argument("--endless", action=argparse.BooleanOptionalAction, default=True, help="go on after the hours")
    parser.add_argument("--piece", type=float, default=120, help="minutes of training between two measurements (120)")
    parser.add_argument("--worlds", type=int, default=60_000, help="worlds to render in all (60000)")
    parser.add_argument("--first", type=int, default=4000, help="worlds to render before the training begins (4000)")
    parser.add_argument("--more", type=int, default=2000, help="worlds to render before every piece (2000)")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help=f"worlds to measure on ({HELD_OUT})")
    parser.add_argument("--tilted", type=float, default=0.25, help="share of worlds that look up, down or wide (0.25)")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (128)")
    parser.add_argument("--shard", type=int, default=500, help="worlds of a shard (500)")
    parser.add_argument("--start", default="diorama", help="model to start from (the embedded one)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="setting of a stage's recipe"
    )
    parser.add_argument("--nice", type=int, default=19, help="rank in the queue for the cores (19, the last)")
    parser.add_argument("--pause", type=float, default=60, help="seconds after a failure (60)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
