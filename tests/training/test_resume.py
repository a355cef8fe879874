"""A run that was cut off ends exactly where the whole run ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import load
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from jointnet_cli.errors import UserError
from jointnet_cli.training.checkpoints import Checkpoints
from jointnet_cli.training.failures import RunFailed
from jointnet_cli.training.optimizers import MuonWithAdamW
from jointnet_cli.training.recipe import to_toml_record
from jointnet_cli.training.run import train
from jointnet_cli.training.runs import check_run_folder, run_folder
from jointnet_cli.training.stages.base import BaseStage
from jointnet_cli.training.trainer import Trainer

from .conftest import STEPS, VAE_STEPS, Interrupt, Tiny, log_of, opened

pytestmark = pytest.mark.slow


def tensors(state: Any, place: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a nested state by their place in it."""
    if isinstance(state, torch.Tensor):
        return {place: state}
    entries = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {key: tensor for name, entry in entries for key, tensor in tensors(entry, f"{place}/{name}").items()}


def newest(run: Path) -> int | None:
    return Checkpoints(run / "state", 1).newest()


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's newest checkpoint by file and place."""
    step = newest(run)
    assert step is not None
    folder = Checkpoints(run / "state", 1).path(step)
    files = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    files |= {name: load(folder / name) for name in ("optimizer.bin", "random_states_0.pkl")}
    assert files.keys() == {"model.safetensors", "average.safetensors", "optimizer.bin", "random_states_0.pkl"}
    return tensors(files)


def assert_same_end(run: Path, other: Path) -> None:
    """Bit for bit: the weights, the optimizer, the moving average, the random state, the model's files."""
    assert newest(run) == newest(other)
    first, second = checkpoint(run), checkpoint(other)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    files = sorted(path.relative_to(run) for path in (run / "model").rglob("*.safetensors"))
    assert files == sorted(path.relative_to(other) for path in (other / "model").rglob("*.safetensors")) != []
    for file in files:
        before, after = load_file(run / file), load_file(other / file)
        assert [key for key in before if not torch.equal(before[key], after[key])] == [], file
    for file in (run / "model").rglob("tokenizer/*"):
        assert file.read_bytes() == (other / "model/tokenizer" / file.name).read_bytes()
    assert losses(run) == losses(other)


def losses(run: Path) -> list[dict[str, float]]:
    """The lines of the log, less what depends on the time."""
    lines = log_of(run)
    return [{key: line[key] for key in line if key not in ("minutes", "samples_per_second")} for line in lines]


@pytest.mark.parametrize(
    ("name", "steps"), [("vae", VAE_STEPS), ("base", STEPS), ("joint-depth", STEPS)], ids=["vae", "base", "joint"]
)
def test_ctrl_c_and_on_again(tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path, name: str, steps: int) -> None:
    whole: Path = request.getfixturevalue(f"{name.partition('-')[0]}_run")
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny(name), out=run, log=Interrupt(2))
    assert newest(run) == 2 and not (run / "model").exists()
    seen: list[dict[str, Any]] = []
    assert train(tiny(name), out=run, log=seen.append) == run / "model"
    assert [line["resumed"] for line in seen if "resumed" in line] == [2]
    assert [line["step"] for line in seen if "step" in line] == list(range(3, steps + 1))
    assert_same_end(whole, run)


def test_muon_goes_on_where_it_was(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny("vae", "train.optimizer=muon")
    train(recipe, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "cut", log=Interrupt(2))
    train(recipe, out=tmp_path / "cut")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_kill_between_checkpoints(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    """Nothing is saved at the moment of death; previews in between change nothing either."""
    often = tiny("base", "train.checkpoint_minutes=1e-9", "train.preview_minutes=1e-9")
    with pytest.raises(RuntimeError, match="after step 3"):
        train(often, out=tmp_path, log=Interrupt(3, RuntimeError))
    assert [path.name for path in sorted((tmp_path / "previews").iterdir())] == ["0000001.png", "0000002.png"]
    assert newest(tmp_path) == 2
    train(tiny("base"), out=tmp_path)
    assert_same_end(base_run, tmp_path)


def test_ctrl_c_within_a_step(tiny: Tiny, vae_run: Path, tmp_path: Path) -> None:
    """The step that Ctrl-C falls into is not done twice."""
    recipe = tiny("vae")
    updates = 0

    def interrupt(optimizer: object, *_: object) -> None:
        nonlocal updates
        updates += isinstance(optimizer, MuonWithAdamW)  # whose two parts step within its own
        if updates == 2:
            signal.raise_signal(signal.SIGINT)

    hook = register_optimizer_step_post_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=tmp_path)
    finally:
        hook.remove()
    assert updates == 2
    train(recipe, out=tmp_path)
    assert_same_end(vae_run, tmp_path)


def test_ctrl_c_while_the_average_is_swapped_in(tiny: Tiny, tmp_path: Path) -> None:
    """The weights that go on training are the weights of before, not their average."""
    stage = opened(tiny("vae"), tmp_path)
    trainer = Trainer(stage, tmp_path, lambda line: None)
    assert trainer.ema is not None
    for average in trainer.ema.shadow_params:
        average.add_(1.0)
    before = [parameter.detach().clone() for parameter in trainer.trained]

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    stage.preview = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer._preview()
    assert all(torch.equal(*pair) for pair in zip(before, trainer.trained, strict=True))


def test_a_base_run_keeps_its_vocabulary(tiny: Tiny, vae_run: Path, tmp_path: Path) -> None:
    """Shards that are added between the pieces of a run do not renumber the tokens it has learned."""
    shards, run = tmp_path / "shards", tmp_path / "run"
    shards.mkdir()

    def add(number: int) -> None:
        for path in Path("shards/worlds").glob(f"{number:05}*"):
            (shards / path.name).write_bytes(path.read_bytes())

    def vocabulary(folder: Path) -> dict[str, int]:
        found: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        return found

    add(0)
    recipe = tiny("base", f"data.shards='{shards}'", "train.max_steps=2", "preview_prompts=[]")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=run, log=Interrupt(1))
    before = vocabulary(run / "tokenizer")
    add(1)
    train(recipe, out=run)
    assert vocabulary(run / "tokenizer") == before == vocabulary(run / "model/tokenizer")
    learned = opened(recipe, tmp_path / "new")
    assert isinstance(learned, BaseStage) and learned.model.text.tokenizer.get_vocab() != before


def test_a_damaged_newest_checkpoint_costs_only_its_steps(tiny: Tiny, joint_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="after step 3"):
        train(tiny("joint-depth", "train.checkpoint_minutes=1e-9", "train.preview_minutes=1e9"), out=tmp_path,
              log=Interrupt(3, RuntimeError))  # fmt: skip
    damaged = tmp_path / "state/000000002/optimizer.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    seen: list[dict[str, Any]] = []
    train(tiny("joint-depth", "train.preview_minutes=1e9"), out=tmp_path, log=seen.append)
    assert [line["resumed"] for line in seen if "resumed" in line] == [1]
    assert_same_end(joint_run, tmp_path)


def test_a_run_without_an_intact_checkpoint_begins_again_only_when_asked(
    tiny: Tiny, vae_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    manifest = run / f"state/{VAE_STEPS:09}/manifest.json"
    manifest.write_bytes(b"")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=rf"no checkpoint of .* is intact: {VAE_STEPS:09} \(manifest.json is damaged\)"):
        train(tiny("vae"), out=run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "models/0000002").mkdir(parents=True)
    train(tiny("vae", "train.export_steps=[2]"), out=run, resume=False)
    assert_same_end(vae_run, run)
    assert (run / "models/0000002/config.json").is_file() and (run / "models.aside-1/0000002").is_dir()
    assert all((run / f"{name}.aside-1").is_dir() for name in ("model", "previews"))
    assert (run / f"state/{manifest.parent.name}.aside-1/manifest.json").read_bytes() == b""
    assert (run / "log.jsonl.aside-1").read_bytes() == (vae_run / "log.jsonl").read_bytes()


def test_a_damaged_line_of_the_log_is_kept_aside(tiny: Tiny, vae_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    first, *further = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    damaged = b"\xff" + first + b"".join(further)
    (run / "log.jsonl").write_bytes(damaged)
    seen: list[dict[str, Any]] = []
    train(tiny("vae"), out=run, log=seen.append)
    assert [line["warning"] for line in seen if "warning" in line] == [
        f"a line of {run}/log.jsonl is damaged; the log as it was is kept as log.jsonl.aside-1"
    ]
    assert (run / "log.jsonl.aside-1").read_bytes() == damaged
    assert (run / "log.jsonl").read_bytes() == b"".join(further)


@pytest.mark.parametrize("content", ["", "[]", '{"stage": 1}', "\0", "[" * 100_000])
def test_a_damaged_record_of_a_run_says_how_to_go_on(tiny: Tiny, tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/recipe.json is damaged: ") as caught:
        train(tiny("vae"), out=tmp_path)
    assert caught.value.hint is not None and caught.value.hint.startswith("remove it to continue the run")


def test_a_run_may_be_given_a_larger_budget(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("vae", "train.max_steps=2"), out=tmp_path)
    seen: list[dict[str, Any]] = []
    train(tiny("vae", "train.max_steps=3", "train.max_minutes=120"), out=tmp_path, log=seen.append)
    assert [line["step"] for line in seen if "step" in line] == [3]
    assert json.loads((tmp_path / "recipe.json").read_text())["train"]["max_steps"] == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.learning_rate=1e-4", "train.learning_rate = 0.004, now 0.0001"),
        ("data.flip=false", "data.flip = true, now false"),
        ("start=runs/vae/model", 'start = not set, now "runs/vae/model"'),
    ],
)
def test_a_changed_setting_names_its_key_and_both_values(tiny: Tiny, vae_run: Path, override: str, words: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in vae_run.rglob("*")}
    with pytest.raises(UserError, match="other settings") as caught:
        train(tiny("vae", override), out=vae_run)
    assert str(caught.value) == f"{vae_run} holds a run with other settings: {words}"
    assert caught.value.hint is not None and "--out" in caught.value.hint
    assert {path: path.stat().st_mtime_ns for path in vae_run.rglob("*")} == before


def test_another_description_is_no_other_setting(tiny: Tiny, vae_run: Path) -> None:
    check_run_folder(vae_run, to_toml_record(tiny("vae", "description=in other words")), resume=True)


def test_many_changed_settings_are_counted(tiny: Tiny, vae_run: Path) -> None:
    with pytest.raises(UserError, match=r"data.flip = .*; train.ema = .*; train.schedule = .* and 2 more$"):
        train(tiny("vae", *(f"train.{x}" for x in ("seed=1", "weight_decay=0.3", "schedule=constant", "ema=0.5")),
                   "data.flip=false"), out=vae_run)  # fmt: skip


def test_a_second_training_in_a_folder_is_refused(tiny: Tiny, vae_run: Path, tmp_path: Path) -> None:
    """The lock is the kernel's: it dies with the process, whatever files stay."""
    with run_folder(vae_run):
        with pytest.raises(UserError, match=f"another process trains in {vae_run}"):
            train(tiny("vae"), out=vae_run)
        train(tiny("vae", "train.max_steps=1"), out=tmp_path / "elsewhere")
    lock = vae_run / ".training.writing"
    locked, says = os.pipe()
    if (holder := os.fork()) == 0:
        with run_folder(vae_run):
            os.write(says, b"locked")
            time.sleep(60)
        os._exit(1)
    os.close(says)
    assert os.read(locked, 6) == b"locked"  # the file is there a moment before its lock
    os.close(locked)
    with pytest.raises(UserError, match="another process"), run_folder(vae_run):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert lock.exists()
    with run_folder(vae_run):
        pass
    assert not lock.exists()


def test_a_refusal_leaves_no_folder(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"), run_folder(tmp_path / "a/b"):
        assert (tmp_path / "a/b").is_dir()
        raise UserError("nowhere")
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_run_have_the_permissions_of_new_files(vae_run: Path, joint_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    files = [path for run in (vae_run, joint_run) for path in run.rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode) for path in files} == {oct((tmp_path / "new").stat().st_mode)}


def test_a_run_is_not_overwritten(tiny: Tiny, vae_run: Path) -> None:
    with pytest.raises(UserError, match="holds a run already"):
        train(tiny("vae"), out=vae_run, resume=False)


def test_a_dry_run_writes_nothing(tiny: Tiny, workspace: Path, tmp_path: Path) -> None:
    assert train(tiny("vae"), out=tmp_path / "run", dry_run=True) == tmp_path / "run/model"
    assert not (tmp_path / "run").exists()


def test_a_time_budget_ends_the_run(tiny: Tiny, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    train(tiny("vae", "train.max_steps=1000000", "train.max_minutes=1e-6"), out=tmp_path, log=seen.append)
    assert [line["step"] for line in seen] == [1] and seen[0]["progress"] == 1
    assert (tmp_path / "model/config.json").is_file()


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no longer finite at step 2") as caught:
        train(tiny("vae", "train.learning_rate=1e30", "train.warmup_steps=0"), out=tmp_path)
    assert caught.value.hint is not None and "train.learning_rate" in caught.value.hint
    assert not (tmp_path / "model").exists() and newest(tmp_path) is None


def test_a_stage_without_anything_to_train_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    stage = opened(tiny("vae"), tmp_path)
    stage.network.requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train"):
        Trainer(stage, tmp_path, lambda line: None)


def test_branches_that_share_their_weights(
    tiny: Tiny, base_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A LoRA branch: its checkpoint holds every weight once, and goes on as any other."""
    recipe = tiny("joint-depth", "network.architecture=lora", "network.rank=2")
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(recipe, out=whole)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=run, log=Interrupt(2))
    train(recipe, out=run)
    assert_same_end(whole, run)
    kept = load_file(next(run.glob(f"state/{STEPS:09}/model.safetensors")))
    assert not any(name.startswith("branches.depth.") and "lora" not in name for name in kept)
    assert "shared" not in caplog.text
