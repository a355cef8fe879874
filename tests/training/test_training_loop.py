"""What the trainer writes, when, with which weights; in one process, as one of two, and with sharded weights."""

from __future__ import annotations

import itertools
import json
import platform
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedType
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.signals import Terminated
from jointnet_cli.training.batches import Batch
from jointnet_cli.training.checkpoints import Checkpoints
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.failures import RunFailed
from jointnet_cli.training.previews import Pictures
from jointnet_cli.training.recipe import Train
from jointnet_cli.training.trainer import Trainer

from .conftest import Interrupt, log_of, loss_of
from .test_settings import TRAIN, ByHand, Regression, trained


def settings(**changed: Any) -> Train:
    return TRAIN.model_copy(update=changed)


def quiet(line: dict[str, Any]) -> None:
    """A log that nobody reads."""


class Drawing(Regression):
    """The regression, with the mode of its network."""

    def __init__(self, settings: Train) -> None:
        super().__init__(settings)
        self.modes: list[bool] = []
        """`training` of the network: at every loss, preview and export."""

    def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
        self.modes.append(network.training)
        return super().loss(network, batch, conditioning, rng)

    def preview(self) -> Pictures:
        self.modes.append(self.network.training)
        return super().preview()

    def export(self, folder: Path, facts: dict[str, object]) -> None:
        self.modes.append(self.network.training)
        super().export(folder, facts)


class Spoilt(Regression):
    """The gradient, or the loss too, is not finite at some steps."""

    def __init__(self, settings: Train, steps: set[int], loss: float = float("nan")) -> None:
        super().__init__(settings)
        self.steps, self.value = steps, loss

    def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
        losses = super().loss(network, batch, conditioning, rng)
        if len(self.batch_sizes) in self.steps:
            endless = (network.weight * 0).sum().sqrt()  # 0, with an infinite gradient
            losses["error"] = losses["error"] + endless * self.value if self.value else endless
        return losses


# Times: a clock that only the losses move.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    hands = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("time.monotonic", lambda: hands.now)
    return hands


class Slow(Drawing):
    """Every step takes a minute."""

    def __init__(self, settings: Train, clock: SimpleNamespace, seconds: float = 60.0) -> None:
        super().__init__(settings)
        self.clock, self.seconds = clock, seconds

    def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
        self.clock.now += self.seconds / self.settings.accumulation
        return super().loss(network, batch, conditioning, rng)


def test_a_line_of_the_log_by_hand(tmp_path: Path, clock: SimpleNamespace) -> None:
    train = settings(batch_size=3, accumulation=2, max_steps=7, log_every=2)
    said: list[dict[str, Any]] = []
    Trainer(Slow(train, clock, seconds=1.25), tmp_path, said.append).fit()
    hand = ByHand(train)
    assert said == log_of(tmp_path) and [line["step"] for line in said] == [2, 4, 6, 7]
    for line, minutes, progress in zip(said, (0.042, 0.083, 0.125, 0.146), (0.2857, 0.5714, 0.8571, 1), strict=True):
        step = line["step"] - 1
        assert list(line) == [
            *("step", "minutes", "progress", "samples_per_second", "learning_rate"),
            *("error", "other", "loss", "gradient_norm"),
        ]
        assert (line["minutes"], line["progress"], line["samples_per_second"]) == (minutes, progress, 4.8)
        assert line["learning_rate"] == pytest.approx(hand.rates[step], rel=1e-12)
        assert line["loss"] == round(line["loss"], 6) == pytest.approx(hand.losses[step], abs=2e-6)


def test_a_step_without_duration_has_a_speed(tmp_path: Path, clock: SimpleNamespace) -> None:
    trained(settings(max_steps=1), tmp_path)
    assert log_of(tmp_path)[0]["samples_per_second"] == 2e6


@pytest.mark.parametrize(("seconds", "steps"), [(60, [3, 6, 8]), (60.5, [2, 4, 6, 8])])
@pytest.mark.parametrize("kind", ["checkpoint", "preview"])
def test_more_than_so_many_minutes_after_the_last(
    tmp_path: Path, clock: SimpleNamespace, kind: str, seconds: float, steps: list[int]
) -> None:
    changed = {f"{kind}_minutes": 2.0, "keep_checkpoints": 9}
    stage = Slow(settings(max_steps=8, **changed), clock, seconds)
    Trainer(stage, tmp_path, quiet).fit()
    found = sorted(
        int(path.stem) for path in (tmp_path / {"checkpoint": "state", "preview": "previews"}[kind]).iterdir()
    )
    assert found == steps


def test_speed_and_times_after_a_resume_are_of_the_new_piece(tmp_path: Path, clock: SimpleNamespace) -> None:
    train = settings(max_steps=4, checkpoint_minutes=1.5, preview_minutes=1.5, keep_checkpoints=9)
    with pytest.raises(KeyboardInterrupt):
        Trainer(Slow(train, clock, seconds=50.5), tmp_path, Interrupt(1)).fit()
    said: list[dict[str, Any]] = []
    Trainer(Slow(train, clock, seconds=30), tmp_path, said.append).fit()
    assert said[0] == {"resumed": 1, "minutes": 0.84}
    assert [line["samples_per_second"] for line in said[1:]] == [0.1, 0.1, 0.1]  # 2 in 30 s
    assert [line["minutes"] for line in said[1:]] == [1.342, 1.842, 2.342]
    assert json.loads((tmp_path / "model/facts.json").read_text())["minutes"] == 2.3
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4]


# Checkpoints.


def test_a_checkpoint_and_what_goes_on_from_it(tmp_path: Path) -> None:
    train = settings(accumulation=2)
    with pytest.raises(KeyboardInterrupt):
        Trainer(Drawing(train), tmp_path, Interrupt(2)).fit()
    folder, hand = tmp_path / "state/000000002", ByHand(train)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("average.safetensors", "clock.json", "manifest.json"),
        *("model.safetensors", "optimizer.bin", "random_states_0.pkl", "run"),
    ]
    record = json.loads((folder / "clock.json").read_text())
    assert (record["step"], record["samples_a_step"]) == (2, 4)
    (weights,) = load_file(folder / "model.safetensors").values()
    assert weights.flatten().tolist() == pytest.approx(hand.weights[2], abs=1e-5)
    assert load_file(folder / "average.safetensors")["00000"].flatten().tolist() == pytest.approx(
        hand.averages[2], abs=1e-5
    )

    stage = Drawing(train)
    trainer = Trainer(stage, tmp_path, quiet)
    trainer.fit()
    assert trainer.clock.step == 4 and len(stage.batch_sizes) == 4
    assert stage.weights == pytest.approx(hand.weights[4], abs=1e-5)
    assert dict(stage.made)["model.partial"] == pytest.approx(hand.averages[4], abs=1e-5)


def test_nothing_is_saved_before_the_first_step(tmp_path: Path) -> None:
    class Interrupted(Drawing):
        def loss(self, *_: Any) -> dict[str, Tensor]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(Interrupted(settings()), tmp_path, quiet).fit()
    assert not (tmp_path / "state").exists()


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    for wanted in ([1, 2], []):
        trainer = Trainer(Drawing(settings(max_steps=2, checkpoint_minutes=1e-9)), tmp_path, quiet)
        saved: list[int] = []
        trainer.processes.register_save_state_pre_hook(lambda *_, t=trainer, s=saved: s.append(t.clock.step))
        trainer.fit()
        assert saved == wanted


def test_weights_with_two_names_go_on_too(tmp_path: Path) -> None:
    """Convolutions that lie channels last in memory, which accelerate itself cannot load when they are shared."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = self.other = nn.Conv2d(2, 1, 2, bias=False)
            nn.init.ones_(self.one.weight)

        def forward(self, given: Tensor) -> Tensor:
            image = given[:, :, None, None].expand(-1, -1, 2, 2)
            return (self.one(image) + self.other(image)).flatten(1) / 8

    class Shared(Drawing):
        weights: ClassVar[list[float]] = []

        def __init__(self) -> None:
            super().__init__(settings())
            self.network = Twice()

    for name in ("cut", "whole"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        Trainer(Shared(), tmp_path / "cut", Interrupt(2)).fit()
    assert list(load_file(tmp_path / "cut/state/000000002/model.safetensors")) == ["one.weight"]
    cut, whole = (Trainer(Shared(), tmp_path / name, quiet) for name in ("cut", "whole"))
    cut.fit(), whole.fit()
    assert torch.equal(cut.network.one.weight, whole.network.one.weight)


def test_a_finished_run_exports_its_model_again(tmp_path: Path) -> None:
    trained(settings(max_steps=2), tmp_path)
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial/left").touch()
    (tmp_path / "model/left").touch()
    stage, _ = trained(settings(max_steps=2), tmp_path)
    assert stage.batch_sizes == [] and [path.name for path in (tmp_path / "model").iterdir()] == ["facts.json"]
    assert dict(stage.made)["model.partial"] == pytest.approx(ByHand(stage.settings).averages[2], abs=1e-5)
    assert not (tmp_path / "model.partial").exists()


def test_steps_of_another_size_are_refused(tmp_path: Path) -> None:
    trained(settings(batch_size=3, accumulation=2, max_steps=1), tmp_path)
    with pytest.raises(UserError) as caught:
        trained(settings(batch_size=3, accumulation=3), tmp_path)
    assert str(caught.value) == "the run's steps had 6 samples each, now they would have 9"
    assert caught.value.hint == "keep train.batch_size x train.accumulation x processes as it was"


# Pictures and exports.


def test_a_preview_grid_keeps_its_rows_over_a_resume(tmp_path: Path) -> None:
    train = settings(max_steps=3, preview_steps=2, preview_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt):
        Trainer(Drawing(train), tmp_path, Interrupt(1)).fit()
    rows = tmp_path / "previews/rows"
    Image.new("RGB", (8, 4)).save(rows / "000000009.png")  # of a later step, which is done again
    stage = Drawing(train)
    Trainer(stage, tmp_path, quiet).fit()
    assert [path.name for path in sorted(rows.iterdir())] == ["000000000.png", "000000002.png", "000000003.png"]
    assert [name for name, _ in stage.made] == ["preview", "model.partial", "preview"]
    assert [path.name for path in (tmp_path / "previews").iterdir() if path.is_file()] == ["progress.png"]
    assert Image.open(tmp_path / "previews/progress.png").size == (96 + 8, 3 * 4)
    Trainer(Drawing(train), tmp_path, quiet).fit()
    assert Image.open(rows / "000000003.png").getpixel((0, 0)) == (3, 0, 0), "the row is not drawn again"


def test_single_previews_are_drawn_again(tmp_path: Path) -> None:
    for made in (2, 3):
        stage = Drawing(settings(max_steps=1))
        stage.made = [("earlier", [])] * (made - 2)
        Trainer(stage, tmp_path, quiet).fit()
        assert Image.open(tmp_path / "previews/0000001.png").getpixel((0, 0)) == (made, 0, 0)
        assert [path.name for path in (tmp_path / "previews").iterdir()] == ["0000001.png"]


def test_an_intermediate_export_is_made_once(tmp_path: Path) -> None:
    train = settings(max_steps=3, export_steps=[2])
    with pytest.raises(KeyboardInterrupt):
        Trainer(Drawing(train), tmp_path, Interrupt(2)).fit()
    assert not (tmp_path / "models").exists()
    (tmp_path / "models/0000002").mkdir(parents=True)
    stage = Drawing(train)
    Trainer(stage, tmp_path, quiet).fit()
    assert [name for name, _ in stage.made] == ["model.partial", "preview"]


def test_the_network_trains_in_steps_and_is_evaluated_otherwise(tmp_path: Path) -> None:
    stage = Drawing(settings(max_steps=2, preview_steps=1, export_steps=[1]))
    stage.network.eval()
    trainer = Trainer(stage, tmp_path, quiet)
    trainer.fit()
    # The preview of the start, a step, its export and preview, a step, its preview, the model, and that preview is there.
    assert stage.modes == [False, True, False, False, True, False, False]
    assert trainer.network.training


def test_the_facts_of_an_export(tmp_path: Path, clock: SimpleNamespace) -> None:
    Trainer(Slow(settings(batch_size=3, accumulation=2, max_steps=5), clock, seconds=20), tmp_path, quiet).fit()
    assert json.loads((tmp_path / "model/facts.json").read_text()) == {
        "steps": 5,
        "samples": 30,
        "minutes": 1.7,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, cpu",
        "torch": torch.__version__,
    }


def test_on_a_gpu_a_line_has_the_memory_since_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of a GPU, which need not be there."""
    peaks = [3 * 2**30 + 2**28, 5 * 2**27 + 2**20]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peaks[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peaks.pop(0))
    said: list[dict[str, Any]] = []
    trainer = Trainer(Drawing(settings()), tmp_path, said.append)
    monkeypatch.setattr(Accelerator, "device", torch.device("cuda"))
    for _ in range(2):
        trainer._record({"loss": torch.tensor(0.5)})
    assert [(line["loss"], line["memory_gib"]) for line in said] == [(0.5, 3.25), (0.5, 0.63)] and peaks == []


# Losses that are not finite.


@pytest.mark.parametrize("value", [float("nan"), 0.0], ids=["loss", "gradient alone"])
@pytest.mark.parametrize("first", [1, 2])
def test_the_first_step_that_is_not_finite_is_named(tmp_path: Path, first: int, value: float) -> None:
    stage = Spoilt(settings(log_every=4), {first, 3}, value)
    with pytest.raises(RunFailed, match=f"no longer finite at step {first};") as caught:
        Trainer(stage, tmp_path, quiet).fit()
    assert caught.value.hint == "lower train.learning_rate or train.gradient_clip, and start a new run"


def test_the_number_of_a_late_step_is_exact(tmp_path: Path) -> None:
    trainer = Trainer(Spoilt(settings(max_steps=2**24 + 2), {1}), tmp_path, quiet)
    trainer.clock.step = 2**24
    with pytest.raises(RunFailed, match="at step 16777217;"):
        trainer.fit()


@pytest.mark.parametrize("changed", [{"export_steps": [2]}, {"preview_steps": 2}], ids=str)
def test_weights_that_are_not_finite_are_not_shown(tmp_path: Path, changed: dict[str, Any]) -> None:
    stage = Spoilt(settings(log_every=100, **changed), {2})
    with pytest.raises(RunFailed, match="at step 2;"):
        Trainer(stage, tmp_path, quiet).fit()
    assert [name for name, _ in stage.made] == (["preview"] if "preview_steps" in changed else [])


def test_a_scaler_may_meet_infinite_gradients(tmp_path: Path) -> None:
    """In float16 it lowers its scale and skips the step."""
    stage = Spoilt(settings(max_steps=1), {1}, 0.0)
    trainer = Trainer(stage, tmp_path, quiet)
    trainer.processes.scaler = torch.amp.GradScaler("cpu", enabled=False)
    trainer.fit()
    assert [line["step"] for line in log_of(tmp_path)] == [1]


def test_an_exhausted_memory_names_the_settings(tmp_path: Path) -> None:
    class Hungry(Drawing):
        def loss(self, *_: Any) -> dict[str, Tensor]:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(RunFailed) as caught:
        Trainer(Hungry(settings(batch_size=6)), tmp_path, quiet).fit()
    assert str(caught.value) == "out of memory with micro-batches of 6: no room"
    assert str(caught.value.hint).startswith("set train.batch_size=3 and train.accumulation=2,")


# How a trainer is set up.


def test_a_stage_that_trains_nothing_is_refused(tmp_path: Path) -> None:
    stage = Drawing(settings())
    stage.network.requires_grad_(False)
    with pytest.raises(UserError) as caught:
        Trainer(stage, tmp_path, quiet)
    assert str(caught.value) == "nothing to train: every parameter of this stage is frozen"


def test_a_part_that_is_frozen_stays_as_it_is(tmp_path: Path) -> None:
    stage = Drawing(settings(ema=None, max_steps=1))
    stage.network.bias = nn.Parameter(torch.zeros(1), requires_grad=False)
    trainer = Trainer(stage, tmp_path, quiet)
    trainer.fit()
    assert [parameter.shape for parameter in trainer.trained] == [(1, 2)] and trainer.ema is None
    assert trainer.network.bias.item() == 0


def test_the_network_as_it_trains(
    tmp_path: Path, tiny_unet: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels last, its activations computed again, its steps compiled, cuDNN choosing its kernels."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch, "compile", nn.Sequential)  # a network around the network, without the compiler's seconds
    for asked in (False, True):
        stage = Drawing(settings(gradient_checkpointing=asked, compile=asked))
        stage.network = tiny_unet()
        trainer = Trainer(stage, tmp_path, quiet)
        assert trainer.network is stage.network and trainer.network.is_gradient_checkpointing is asked
        assert (trainer.compute[0] if asked else trainer.compute) is trainer.network
        (weight,) = [value for name, value in trainer.network.named_parameters() if name == "conv_in.weight"]
        assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert torch.backends.cudnn.benchmark is True


def test_numbers_are_made_on_the_device_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of a GPU on torch's device without values."""
    monkeypatch.setattr(Accelerator, "device", torch.device("meta"))
    drawn: list[str] = []

    class Watched(Regression):
        def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
            drawn.append(rng.device.type)
            return {"error": network.weight.sum()}

    stage = Watched(settings())
    trainer = Trainer(stage, tmp_path, quiet)
    trainer._backward(next(stage.batches(trainer.sampler, 0)), last=True)
    assert (trainer.first_fault.device.type, trainer.first_fault.dtype) == ("meta", torch.int64)
    assert drawn == ["meta"] == [weight.device.type for weight in trainer.trained]


class Tracker(GeneralTracker):
    """One of accelerate's trackers: it keeps what it is told."""

    name, requires_logging_directory, tracker = "kept", False, None

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def start(self) -> None:
        self.kept.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.kept.append(values)

    def log(self, values: dict[str, Any], step: int | None, **_: Any) -> None:
        self.kept.append((step, values["learning_rate"]))

    def finish(self) -> None:
        self.kept.append("finished")


def test_trackers_know_the_recipe_and_are_finished(tmp_path: Path) -> None:
    tracker = Tracker()
    stage = Drawing(settings(max_steps=9, warmup_steps=1))
    accelerator = Accelerator(log_with=[tracker], cpu=True)
    trainer = Trainer(stage, tmp_path, Interrupt(2), record={"train": {"seed": 3}}, accelerator=accelerator)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.processes is accelerator
    assert [entry for entry in tracker.kept if entry != "start"] == [
        {"train.seed": 3},
        (1, 0.1),
        (2, 0.1),
        "finished",
    ]


def test_where_trackers_write(tmp_path: Path) -> None:
    trainer = Trainer(Drawing(settings()), tmp_path, quiet)
    assert trainer.processes.project_dir == str(tmp_path / "tracking")


@pytest.mark.parametrize("closes", [True, False])
def test_sources_are_closed_where_they_can_be(tmp_path: Path, closes: bool) -> None:
    class Source(Drawing):
        closed = 0

        def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
            try:
                yield from super().batches(sampler, step)
            finally:
                self.closed += 1

    stage, opened = Source(settings(max_steps=1)), list[Iterator[Batch]]()
    plain = stage.batches

    def batches(*given: Any) -> Iterator[Batch]:
        opened.append(plain(*given))
        return opened[0] if closes else itertools.chain(opened[0])

    stage.batches = batches  # type: ignore[method-assign]
    trainer = Trainer(stage, tmp_path, quiet)
    assert trainer.fit() == tmp_path / "model"
    assert len(opened) == 1 and stage.closed == closes


# One of several processes.


class OneOfTwo(Accelerator):
    """The accelerator of this process, which takes itself for one of two, and keeps what is asked of the other."""

    num_processes = 2
    process_index = 1
    is_main_process = True
    asked: list[Any]

    def no_sync(self, model: nn.Module) -> Any:
        self.asked.append("alone" if isinstance(model, nn.Linear) else model)
        return super().no_sync(model)

    def backward(self, loss: Tensor, **options: Any) -> None:
        self.asked.append("backward")
        super().backward(loss, **options)

    def reduce(self, tensor: Any, reduction: str = "sum", scale: float = 1.0) -> Any:
        self.asked.append(reduction)
        return super().reduce(tensor, reduction, scale) / 2  # the other's losses are 0


def one_of_two(main: bool = True) -> OneOfTwo:
    accelerator = OneOfTwo(cpu=True)
    accelerator.asked = []
    accelerator.is_main_process = main  # type: ignore[misc]
    return accelerator


@pytest.mark.usefixtures("process_group")
def test_the_steps_of_one_of_two_processes(tmp_path: Path) -> None:
    """Gradients are exchanged with a step's last micro-batch; the log has the mean of both processes' losses."""
    train = settings(batch_size=1, accumulation=3, max_steps=2)
    accelerator = one_of_two()
    stage = Drawing(train)
    trainer = Trainer(stage, tmp_path, quiet, accelerator=accelerator)
    assert trainer.sampler == RankSampler(1, 3, processes=2, process=1)
    trainer.fit()
    step = ["alone", "backward", "alone", "backward", "backward", "mean"]
    assert accelerator.asked == 2 * step
    with torch.no_grad():
        fresh = Drawing(train)
        parts = itertools.islice(fresh.batches(trainer.sampler, 0), 3)
        losses = [2 * loss_of(fresh, fresh.network, batch, 0)["error"].item() for batch in parts]
    assert log_of(tmp_path)[0]["loss"] == pytest.approx(sum(losses) / 3 / 2, abs=2e-6)
    facts = json.loads((tmp_path / "model/facts.json").read_text())
    assert facts["samples"] == 12 and facts["machine"].endswith(" threads, cpu, 2 processes")


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_several_processes_stop_after_a_whole_step(tmp_path: Path, number: int, error: type[BaseException]) -> None:
    class Interrupted(Drawing):
        def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
            if len(self.batch_sizes) == 1:
                signal.raise_signal(number)
            return super().loss(network, batch, conditioning, rng)

    stage = Interrupted(settings(max_steps=9, checkpoint_minutes=1e9))
    with pytest.raises(KeyboardInterrupt) as caught:
        Trainer(stage, tmp_path, quiet, accelerator=one_of_two()).fit()
    assert type(caught.value) is error
    done = len(stage.batch_sizes)
    assert done in (2, 3), "the step that the signal falls into, or the next"
    assert Checkpoints(tmp_path / "state", 1).newest() == len(log_of(tmp_path)) == done


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("processes", "steps"), [(1, 2), (2, 3)])
def test_a_signal_between_steps_waits_for_the_other_processes(tmp_path: Path, processes: int, steps: int) -> None:
    class Interrupted(Drawing):
        def preview(self) -> Pictures:
            if len(self.batch_sizes) == 2:
                signal.raise_signal(signal.SIGTERM)
            return super().preview()

    stage = Interrupted(settings(max_steps=9, preview_steps=2))
    accelerator = one_of_two()
    accelerator.num_processes = processes  # type: ignore[misc]
    with pytest.raises(Terminated):
        Trainer(stage, tmp_path, quiet, accelerator=accelerator).fit()
    assert len(stage.batch_sizes) == steps and Checkpoints(tmp_path / "state", 1).newest() == steps


@pytest.mark.usefixtures("process_group")
def test_only_the_main_process_looks_for_a_checkpoint(tmp_path: Path) -> None:
    """The other waits for its word, which does not come here."""
    trained(settings(max_steps=1), tmp_path)
    for main, steps in ((False, 2), (True, 1)):
        stage = Drawing(settings(batch_size=1, max_steps=2))
        Trainer(stage, tmp_path, quiet, accelerator=one_of_two(main)).fit()
        assert len(stage.batch_sizes) == steps


@pytest.mark.usefixtures("process_group")
def test_a_process_that_is_not_the_main_one_writes_nothing_itself(tmp_path: Path) -> None:
    stage = Drawing(settings(max_steps=2, preview_steps=1, export_steps=[1]))
    trainer = Trainer(stage, tmp_path, quiet, accelerator=one_of_two(main=False))
    assert trainer.fit() == tmp_path / "model" and stage.made == []
    kept = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    # What accelerate writes, which knows nothing of the other process.
    accelerates = ("model.safetensors", "optimizer.bin", "random_states_0.pkl")
    assert kept == [f"state/000000002.partial/{name}" for name in accelerates]


# Sharded weights: FSDP in one process.


@pytest.fixture
def _sharded(monkeypatch: pytest.MonkeyPatch, process_group: None) -> Iterator[None]:
    for name, value in {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }.items():
        monkeypatch.setenv(name, value)
    AcceleratorState._reset_state()
    # accelerate never shards on CPUs
    monkeypatch.setitem(PartialState._shared_state, "distributed_type", DistributedType.MULTI_XPU)
    yield
    AcceleratorState._reset_state()


class Older(Accelerator):
    """As releases before the one at hand: its states hold this process's part."""

    def get_state_dict(self, model: nn.Module, unwrap: bool = True) -> dict[str, Any]:
        return dict(model.state_dict())


@pytest.mark.usefixtures("_sharded")
def test_sharded_weights_are_not_for_muon(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs whole matrices, which FSDP cuts up"):
        Trainer(Drawing(settings(optimizer="muon")), tmp_path, quiet)


@pytest.mark.usefixtures("_sharded")
@pytest.mark.parametrize("kind", [Accelerator, Older])
def test_sharded_weights_train_as_by_hand(tmp_path: Path, kind: type[Accelerator]) -> None:
    train = settings(preview_steps=3, ema=0.9)
    hand, stage = ByHand(train), Drawing(train)
    with pytest.raises(KeyboardInterrupt):
        trainer = Trainer(stage, tmp_path, Interrupt(2), accelerator=kind(cpu=True))
        trainer.fit()
    assert trainer.sharded and trainer.network is not stage.network
    names = {path.name for path in (tmp_path / "state/000000002").iterdir()}
    assert {"average-00000.safetensors", "pytorch_model_fsdp_0", "clock.json"} <= names
    assert "model.safetensors" not in names and "average.safetensors" not in names

    stage = Drawing(train)
    trainer = Trainer(stage, tmp_path, quiet, accelerator=kind(cpu=True))
    trainer.fit()
    wanted = [("preview", 3), ("model.partial", 4), ("preview", 4)]
    assert [name for name, _ in stage.made] == [name for name, _ in wanted]
    for (name, weights), (_, step) in zip(stage.made, wanted, strict=True):
        assert weights == pytest.approx(hand.averages[step], abs=1e-5), name
    assert stage.modes == [True, False, True, False, False]
    (weight,) = trainer.network.parameters()
    assert weight.full_tensor().flatten().tolist() == pytest.approx(hand.weights[4], abs=1e-5)  # type: ignore[attr-defined]
    lines = log_of(tmp_path)
    assert [line["gradient_norm"] for line in lines] == pytest.approx(hand.norms, abs=2e-6)
