"""Train any stage with accelerate, from one process to many nodes; resume from the last checkpoint."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.processes import RankSync, is_sharded, open_accelerator
from jointnet_cli.signals import defer_signals, interruption, raise_on_sigterm
from jointnet_cli.training.batches import Batch
from jointnet_cli.training.checkpoints import (
    WEIGHTS,
    Checkpoints,
    Clock,
    build_average,
    distinct_weights,
    gather_weights,
    load_average,
    load_clock,
    load_weights,
    local_parts,
    save_average,
    save_clock,
)
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.failures import memory_faults_explained, not_finite
from jointnet_cli.training.optimizers import build_optimizer, learning_rate, progress_of
from jointnet_cli.training.precision import Float32WhereSlow, is_slow_bfloat16
from jointnet_cli.training.previews import ProgressGrid, save_picture, undisturbed_randomness
from jointnet_cli.training.runs import Log, OnStep, RunLog
from jointnet_cli.training.stages.stage import Stage, enable_gradient_checkpointing


@dataclass
class Trainer:
    """Runs one stage in a run folder: `log.jsonl`, `previews/`, `state/` and, at the end, `model/`."""

    stage: Stage
    run: Path
    log: Log
    record: dict[str, Any] = field(default_factory=dict)
    """The resolved recipe, for the trackers."""
    accelerator: Accelerator | None = None
    on_step: OnStep = lambda step, progress, losses: None
    """Called by the main process after every step; see `OnStep`."""

    def __post_init__(self) -> None:
        train = self.stage.settings
        accelerator = self.accelerator or open_accelerator(train.mixed_precision, train.trackers, self.run)
        self.processes = accelerator
        self.sharded = is_sharded(accelerator)
        # Sharding takes a network apart: a copy trains, and the stage keeps the whole one for its pictures and its export.
        network = deepcopy(self.stage.network) if self.sharded else self.stage.network
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError("nothing to train: every parameter of this stage is frozen")
        if train.gradient_checkpointing:
            enable_gradient_checkpointing(network)
        if not self.sharded:  # which takes contiguous weights; convolutions are faster with channels last
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.optimizer = accelerator.prepare(
            network, build_optimizer(train, network, sharded=self.sharded)
        )
        torch.backends.cudnn.benchmark = True  # every step has the same shapes
        # Only the steps are compiled: pictures and exports have other shapes, each of which would be compiled anew.
        self.compute: nn.Module = torch.compile(self.network) if train.compile else self.network  # type: ignore[assignment]
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.ema = build_average(self.trained, train.ema) if train.ema else None
        accelerator.register_save_state_pre_hook(self._save_own)
        accelerator.register_load_state_pre_hook(self._load_own)
        self.sampler = RankSampler(
            train.batch_size, train.accumulation, processes=accelerator.num_processes, process=accelerator.process_index
        )
        self.sync = RankSync(accelerator)
        self.checkpoints = Checkpoints(self.run / "state", train.keep_checkpoints)
        self.grid = ProgressGrid(self.run / "previews")
        self.run_log = RunLog(self.run, accelerator, self.log)
        self.clock = self._last_logged = Clock()
        self._saved_step = 0
        self.rate = 0.0
        self.first_fault = torch.zeros((), dtype=torch.int64, device=accelerator.device)  # step that was not finite

    def fit(self) -> Path:
        """Continue from the newest checkpoint, train to the end of the budget, and return the folder of the finished model.

        Ctrl-C and SIGTERM save, then raise `KeyboardInterrupt` or `Terminated`.

        Raises:
            UserError: the checkpoint is of steps of another size, or there are checkpoints and none can be used.
            RunFailed: the loss is no longer finite, or the memory is exhausted.
        """
        train = self.stage.settings
        self._resume()
        self.run_log.open(self.clock.step, self.record)
        batches = self.stage.batches(self.sampler, self.clock.step)
        # Processes have to stop at the same step: each holds its signals back, and they agree after every step.
        deferred = defer_signals if self.processes.num_processes > 1 else nullcontext
        try:
            with memory_faults_explained(train), raise_on_sigterm(), deferred() as signals:
                try:
                    self._train(batches, signals)
                except KeyboardInterrupt:
                    with defer_signals():
                        self._save()
                    raise
                return self._finish()
        finally:
            self.run_log.close()
            if hasattr(batches, "close"):
                batches.close()

    def _train(self, batches: Iterator[Batch], signals: list[int] | None) -> None:
        """Train to the end of the budget. `signals` holds the numbers of deferred signals, with several processes."""
        train = self.stage.settings
        self.network.train()
        if train.preview_steps and self._wants_preview(0):
            self._preview()
        self._export_if_due()
        self._last_logged = replace(self.clock)
        last_save = last_preview = self.sync(time.monotonic()).now
        while progress_of(train, self.clock) < 1:
            with defer_signals():  # half a step in a checkpoint would be done twice, and a line that is missing never
                start = time.monotonic()
                losses = self._step(batches)
                now = time.monotonic()
                end = self.sync(now, now - start, signals[0] if signals else 0)
                self.clock.advance(end.seconds)
                progress = progress_of(train, self.clock)
                if self.clock.step % train.log_every == 0 or progress >= 1:
                    self._record(losses)
                if self.processes.is_main_process:
                    self.on_step(self.clock.step, progress, losses)
            if end.signal:
                raise interruption(end.signal)
            self._export_if_due()
            if end.now - last_save > train.checkpoint_minutes * 60:
                self._save()
                last_save = end.now
            if self._wants_preview(end.now - last_preview):
                self._preview()
                last_preview = end.now

    def _step(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """Update the weights once. Return the losses, means over this process's samples, on the device."""
        train = self.stage.settings
        self.rate = learning_rate(train, self.clock)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        parts = [self._backward(next(batches), micro == train.accumulation - 1) for micro in range(train.accumulation)]
        losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        # FSDP clips only where it is given all parameters; those that are frozen have no gradient.
        norm = self.processes.clip_grad_norm_(self.network.parameters(), train.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(local_parts(self.trained))
        losses["gradient_norm"] = getattr(norm, "full_tensor", lambda: norm)().to(losses["loss"])
        self._watch(losses)
        return losses

    def _backward(self, batch: Batch, last: bool) -> dict[str, Tensor]:
        """Add the gradient of a micro-batch; the processes exchange theirs with the last of a step."""
        train = self.stage.settings
        wide = Float32WhereSlow() if is_slow_bfloat16(self.processes) else nullcontext()
        with wide, nullcontext() if last else self.processes.no_sync(self.network):
            with self.processes.autocast():
                rng = SampleRNG(train.seed, batch.positions, device=self.processes.device)
                conditioning = self.stage.conditioning(batch, rng)
                losses = self.stage.loss(self.compute, batch, conditioning, rng)
            total = torch.stack(list(losses.values())).sum()
            self.processes.backward(total / train.accumulation)
        return {name: value.detach() for name, value in {**losses, "loss": total}.items()}

    def _watch(self, losses: dict[str, Tensor]) -> None:
        """Note the first step that was not finite, on the device: to read it at every step would wait for the GPU."""
        # A scaler expects infinite gradients and skips their steps.
        names = ["loss", "gradient_norm"] if self.processes.scaler is None else ["loss"]
        finite = torch.stack([losses[name] for name in names]).isfinite().all()
        self.first_fault = torch.where((self.first_fault > 0) | finite, self.first_fault, self.clock.step + 1)

    def _require_finite(self) -> None:
        if step := int(self.processes.gather(self.first_fault.view(1)).max()):
            raise not_finite(step, self.stage.settings)

    def _record(self, losses: dict[str, Tensor]) -> None:
        self._require_finite()
        means = self.processes.reduce(torch.stack(list(losses.values())), "mean").tolist()
        clock, last = self.clock, self._last_logged
        speed = (clock.step - last.step) * self.sampler.total / max((clock.minutes - last.minutes) * 60, 1e-6)
        line = {
            "step": clock.step,
            "minutes": round(clock.minutes, 3),
            "progress": round(progress_of(self.stage.settings, clock), 4),
            "samples_per_second": round(speed, 1),
            "learning_rate": self.rate,
            **{name: round(value, 6) for name, value in zip(losses, means, strict=True)},
        }
        if self.processes.device.type == "cuda":
            line["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            torch.cuda.reset_peak_memory_stats()
        self.run_log.write(line)
        self._last_logged = replace(clock)

    def _save(self) -> None:
        """Write a checkpoint, unless the last one is of this step."""
        self._require_finite()
        step, main = self.clock.step, self.processes.is_main_process
        if self._saved_step == step:
            return
        if main:
            self.checkpoints.begin(step)
        self.processes.wait_for_everyone()
        self.processes.save_state(str(self.checkpoints.partial(step)))
        self.processes.wait_for_everyone()
        if main:
            self.checkpoints.finish(step)
        self.processes.wait_for_everyone()
        self._saved_step = step

    def _save_own(self, models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        """Save the clock and the average, which accelerate does not."""
        if self.processes.is_main_process:
            save_clock(self.clock, self.sampler.total, Path(folder))
        if weights:  # whole, under names that do not depend on the number of processes
            weights[:] = [distinct_weights(self.processes.unwrap_model(self.network))]
        if self.ema and (self.sharded or self.processes.is_main_process):
            save_average(self.ema, self._average_file(folder))

    def _load_own(self, models: list[nn.Module], folder: str) -> None:
        if models and not self.sharded:
            load_weights(self.processes.unwrap_model(self.network), Path(folder, WEIGHTS))
            models.clear()  # so that accelerate, which stumbles over shared weights in channels-last order, has nothing to load
        if self.ema:
            load_average(self.ema, self._average_file(folder))

    def _average_file(self, folder: str) -> Path:
        part = f"-{self.processes.process_index:05}" if self.sharded else ""
        return Path(folder, f"average{part}.safetensors")

    def _resume(self) -> None:
        warn = lambda words: self.log({"warning": words})  # noqa: E731
        newest = broadcast_object_list([self.checkpoints.resume(warn) if self.processes.is_main_process else None])[0]
        if newest is not None:
            folder = self.checkpoints.path(newest)
            self.clock, samples = load_clock(folder)
            if samples != self.sampler.total:
                raise UserError(
                    f"the run's steps had {samples} samples each, now they would have {self.sampler.total}",
                    hint="keep train.batch_size x train.accumulation x processes as it was",
                )
            self.processes.load_state(str(folder))
            self._saved_step = newest
            self.log({"resumed": self.clock.step, "minutes": round(self.clock.minutes, 2)})
        if self.processes.is_main_process:
            self.grid.drop_after(self.clock.step)

    def _wants_preview(self, seconds: float) -> bool:
        train = self.stage.settings
        if train.preview_steps:
            return self.clock.step % train.preview_steps == 0
        return train.preview_minutes is not None and seconds > train.preview_minutes * 60

    def _preview(self) -> None:
        self._require_finite()
        in_grid = self.stage.settings.preview_steps is not None
        with self._averaged(), undisturbed_randomness():
            if (
                self.processes.is_main_process
                and not (in_grid and self.grid.row(self.clock.step).is_file())
                and (pictures := self.stage.preview()) is not None
            ):
                if in_grid:
                    self.grid.add(self.clock.step, pictures)
                else:
                    save_picture(pictures.grid(), self.grid.folder / f"{self.clock.step:07}.png")
        self.processes.wait_for_everyone()

    def _finish(self) -> Path:
        self._save()
        self._export(model := self.run / "model")
        self._preview()
        return model

    def _export_if_due(self) -> None:
        folder = self.run / "models" / f"{self.clock.step:07}"
        if self.clock.step in self.stage.settings.export_steps and not folder.is_dir():
            self._require_finite()
            self._export(folder)

    def _export(self, folder: Path) -> None:
        """Write the model with its averaged weights; replace an earlier one."""
        processes, steps = self.processes.num_processes, self.clock.step
        details: dict[str, object] = {
            "steps": steps,
            "samples": steps * self.sampler.total,
            "minutes": round(self.clock.minutes, 1),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {self.processes.device}"
            + (f", {processes} processes" if processes > 1 else ""),
            "torch": torch.__version__,
        }
        partial = folder.with_name(f"{folder.name}.partial")
        with self._averaged():
            if self.processes.is_main_process:
                shutil.rmtree(partial, ignore_errors=True)
                self.stage.export(partial, details)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
        self.processes.wait_for_everyone()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the stage's network hold its averaged weights, in evaluation mode, while entered."""
        modes = {module: module.training for module in self.network.modules()}
        try:
            with defer_signals():
                if self.ema:
                    self.ema.store(local_parts(self.trained))
                    self.ema.copy_to(local_parts(self.trained))
                self.network.eval()
            if self.sharded:
                weights = gather_weights(self.processes, self.network)
                if self.processes.is_main_process:
                    self.stage.network.load_state_dict(weights)
                    self.stage.network.eval()
            yield
        finally:
            with defer_signals():
                if self.ema:
                    self.ema.restore(local_parts(self.trained))
                for module, mode in modes.items():
                    module.training = mode
