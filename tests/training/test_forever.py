"""`tools/diorama/forever.py`: pieces that follow each other, status, lock and stop."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.shards import read_shards
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.data.worlds.vocabulary import caption_words
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.model.checkpoint import load_model

from .conftest import SIZE, TINY, TRAIN

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "tools/diorama/forever.py"
HOURS = 0.0001
TINY_RUN = [
    *("--hours", str(HOURS), "--piece", "1", "--no-endless", "--worlds", "12", "--first", "4", "--more", "4"),
    *("--shard", "4", "--held-out", "4", "--size", str(SIZE), "--pause", "0"),
]


@pytest.fixture(scope="module")
def forever() -> ModuleType:
    spec = importlib.util.spec_from_file_location("forever", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["forever"] = module  # where its dataclasses look for their annotations
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script
        spec.loader.exec_module(module)
    return module


class InProcess:
    """A worker that does the same work in this process, which has loaded torch already."""

    def __init__(self, forever: ModuleType) -> None:
        self.forever, self.done = forever, []  # type: ignore[var-annotated]

    def run(self, arguments: Sequence[object], log: Path) -> str:
        words = [str(word) for word in arguments]
        if words[0] == "-m":
            self.done.append(words[2:4])
            result = CliRunner().invoke(app, words[2:], catch_exceptions=False)
            if result.exit_code:
                raise subprocess.CalledProcessError(result.exit_code, words)
            return result.stdout.strip().rpartition("\n")[2]
        with redirect_stdout(StringIO()) as printed:
            weights = words[0].endswith("weights.py")
            (runpy.run_path(words[0])["main"] if weights else self.forever.main)(words[1:])
        return printed.getvalue().strip().rpartition("\n")[2]


def tiny_options(forever: ModuleType, base_run: Path, out: Path, *more: str) -> Any:
    settings = {
        "base": [*TRAIN, *TINY["base"]],
        "inpaint": [*TRAIN, "preview_prompts=[]"],
    }
    words = [f"{stage}.{setting}" for stage, own in settings.items() for setting in own if "max_steps" not in setting]
    sets = [part for word in words for part in ("--set", word)]
    return forever.read_options(["--out", str(out), "--start", str(base_run / "model"), *TINY_RUN, *sets, *more])


def write_clock(run: Path, step: int, minutes: float) -> None:
    folder = run / f"state/{step:09}"
    folder.mkdir(parents=True)
    (folder / "clock.json").write_text(json.dumps({"step": step, "minutes": minutes, "samples_a_step": 64}))


def test_stages_follow_each_other_and_a_cool_down_makes_a_model(
    forever: ModuleType, base_run: Path, tmp_path: Path
) -> None:
    worker, options = InProcess(forever), tiny_options(forever, base_run, tmp_path)
    forever.go_on(options, worker)
    trained = [words[1] for words in worker.done if words[0] == "train"]
    assert trained == ["diorama/base", "diorama/inpaint"]
    assert [name for name, *_ in worker.done].count("prepare") == 3  # held-out worlds, then more before every piece
    assert len(list(read_shards(sorted((tmp_path / "worlds").glob("*.tar"))))) == 8
    history = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [entry["stage"] for entry in history] == ["base", "base", "inpaint"]
    losses = ["rgb", "depth", "normal", "decoded_depth", "decoded_normal"]
    assert [list(entry["held_out"]) for entry in history[1:]] == [["rgb"], losses]
    assert history[0]["samples"] == 0 < history[1]["samples"]
    assert all(0 < loss < 3 for entry in history for loss in entry["held_out"].values())
    seeds = [sample.record["seed"] for sample in read_shards([tmp_path / "held-out/00000.tar"])]
    assert min(seeds) > EVALUATION_SEEDS

    assert forever.measure(options, "base") == history[1]["held_out"]  # the same noise every time
    assert forever.next_piece(options) is None
    made = load_model(tmp_path / "inpaint/model")
    assert made.joint.names == ["rgb", "depth", "normal"] and made.joint.has_masked_input
    assert made.words and set(made.words.unknown("looking up at the ground")) <= {"looking", "up", "ground"}
    base = load_model(base_run / "model")
    before = base.text.tokenizers["tokenizer"]
    after = made.text.tokenizers["tokenizer"]
    assert after.get_vocab().items() >= before.get_vocab().items()
    new = [word for word in caption_words() if word not in base.words.known]
    assert new and all(len(after.tokenize(word)) == 1 for word in new)

    forever.cool_down(tiny_options(forever, base_run, tmp_path, "--cool-down", "0.001"), worker)
    shipped = load_model(tmp_path / "model")
    assert shipped.joint.names == ["rgb", "depth", "normal"] and not (tmp_path / "cool-down").exists()
    weight = next(iter(shipped.joint.parameters()))
    assert torch.equal(weight, weight.half().float())


def test_the_hours_are_shared_and_the_last_stage_goes_on(forever: ModuleType, tmp_path: Path) -> None:
    options = forever.read_options(["--out", str(tmp_path), "--hours", "10", "--piece", "60"])
    assert forever.next_piece(options) == ("base", 60)
    write_clock(tmp_path / "base", 500, 400.0)
    assert forever.next_piece(options) == ("base", 420)  # 0.7 of 10 hours
    write_clock(tmp_path / "base", 1000, 420.01)
    assert forever.next_piece(options) == ("inpaint", 60)
    write_clock(tmp_path / "inpaint", 10, 180.5)
    assert forever.next_piece(options) == ("inpaint", 240.5)
    options.endless = False
    assert forever.next_piece(options) is None


def test_status_says_how_far_it_is(forever: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "worlds").mkdir()
    for number in range(2):
        (tmp_path / f"worlds/0000{number}_stats.json").write_text('{"count": 500}')
    write_clock(tmp_path / "base", 1000, 90.0)
    lines = [{"step": step, "loss": loss, "samples_per_second": 12.5} for step, loss in ((1000, 0.25), (1020, 0.35))]
    (tmp_path / "base/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 10')
    entry = {"stage": "base", "samples": 64000, "hours": 1.5, "held_out": {"rgb": 0.2345}, "time": "now"}
    (tmp_path / "progress.jsonl").write_text(json.dumps(entry) + "\n")
    options = ["--out", str(tmp_path), "--hours", "10", "--status"]
    with redirect_stdout(StringIO()) as printed:
        forever.main(options)
    assert printed.getvalue().splitlines() == [
        "not started, stage base, 1000 worlds rendered",
        "base     1.50 of 7.0 hours, 64000 samples (65280 in the log), 12.5 a second, "
        "training loss 0.3000 over the last 2 lines",
        "         held-out loss at     64000 samples,   1.50 hours: rgb 0.2345",
        "inpaint  not begun; 3.0 hours planned",
    ]
    lock = forever.claim(tmp_path / "pid")
    with redirect_stdout(StringIO()) as printed:
        forever.main(options)
    assert printed.getvalue().startswith(f"running, process {os.getpid()}, stage base")
    with pytest.raises(SystemExit, match=f"process {os.getpid()} or what it started works in"):
        forever.claim(tmp_path / "pid")
    os.close(lock)


def test_work_has_the_lowest_rank_and_a_group_of_its_own(forever: ModuleType, tmp_path: Path) -> None:
    code = (
        "import os, pathlib; group = pathlib.Path('/proc/self/autogroup'); "
        "print('noise'); print(os.nice(0), os.getsid(0) == os.getpid(), "
        "group.read_text().split()[-1] if group.exists() else 'none')"
    )
    worker = forever.Worker(forever.claim(tmp_path / "pid"), nice=19)
    nice, alone, group = worker.run(["-c", code], tmp_path / "log").split()
    assert (nice, alone) == ("19", "True") and group in ("19", "none")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        worker.run(["-c", "import sys; sys.exit(3)"], tmp_path / "log")


def test_sigterm_stops_it_and_what_it_started(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--out", tmp_path, "--nice", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    log, started = tmp_path / "start.log", time.monotonic()
    while not log.exists() and time.monotonic() < started + 20:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert not (tmp_path / "start").exists()
    running = Path("/proc").glob("[0-9]*/cmdline")
    assert not any(str(tmp_path) in text for path in running if (text := _read(path)))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # ended since
        return ""


def test_the_curve_s_slope_is_that_of_the_last_decade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss that falls by 0.02 with ten times the samples, from a thousandth of them on."""
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("curve", SCRIPT.with_name("curve.py"))
    assert spec is not None and spec.loader is not None
    curve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curve)
    lines = [{"step": step, "loss": 0.3 - 0.02 * math.log10(step)} for step in range(10, 10_001, 10)]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in [{"resumed": 0}, *lines]))
    (tmp_path / "recipe.json").write_text(json.dumps({"train": {"batch_size": 8, "accumulation": 2}}))
    curve.main([str(tmp_path), "--out", str(tmp_path / "curve.png")])
    facts = json.loads(capsys.readouterr().out)
    assert facts["samples"] == 160_000
    assert (facts["loss"], facts["slope"], facts["at ten times"]) == (0.22, -0.02, 0.2)
    assert (tmp_path / "curve.png").stat().st_size > 5000
