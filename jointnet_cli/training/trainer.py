"""The training loop: one for every stage, on accelerate; killed at any moment it goes on from its last checkpoint."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.training.interrupt import uninterrupted
from jointnet_cli.training.recipe import Train
from jointnet_cli.training.stage import Stage
from jointnet_cli.training.state import Clock, load_newest, save_state

Log = Callable[[dict[str, Any]], None]


def progress_of(train: Train, clock: Clock) -> float:
    """How much of the run is done, in [0, 1]: by steps or by minutes, whichever is nearer its end."""
    done = clock.step / train.max_steps
    if train.max_minutes is not None:
        done = max(done, clock.minutes / train.max_minutes)
    return min(done, 1.0)


def learning_rate(train: Train, clock: Clock) -> float:
    """Linear warm-up, then constant or a cosine over the run's progress."""
    rate = train.learning_rate * min(1.0, (clock.step + 1) / max(train.warmup_steps, 1))
    if train.schedule == "constant":
        return rate
    cosine = 0.5 * (1 + math.cos(math.pi * progress_of(train, clock)))
    return rate * (train.final_learning_rate + (1 - train.final_learning_rate) * cosine)


@dataclass
class Trainer:
    """Runs one stage in a run folder: `log.jsonl`, `previews/`, `state/` and, at the end, `model/`."""

    stage: Stage
    run: Path
    log: Log

    def __post_init__(self) -> None:
        train = self.stage.settings
        self.accelerator = Accelerator(mixed_precision=train.mixed_precision, cpu=not torch.cuda.is_available())
        trained = [parameter for parameter in self.stage.network.parameters() if parameter.requires_grad]
        if not trained:
            raise UserError("nothing to train: every parameter of this stage is frozen")
        optimizer = torch.optim.AdamW(
            trained, lr=train.learning_rate, betas=train.betas, weight_decay=train.weight_decay, fused=True
        )
        # Convolutions are faster with channels last, on CPUs as on GPUs.
        network = self.stage.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.ema = EMAModel(trained, decay=train.ema) if train.ema else None
        if self.ema:
            self.ema.to(self.accelerator.device)
        self.trained = trained
        self.clock = Clock()

    def fit(self, *, resume: bool = True) -> Path:
        """Train to the end of the budget and return the folder of the finished model.

        Raises:
            UserError: the loss is no longer finite.
        """
        if resume:
            self._resume()
        train = self.stage.settings
        last_save = last_preview = time.monotonic()
        self.network.train()
        try:
            while progress_of(train, self.clock) < 1:
                with uninterrupted():  # half a step in a checkpoint would be done twice
                    tick = time.monotonic()
                    losses = self._step()
                    self.clock.advance(time.monotonic() - tick)
                if self.clock.step % train.log_every == 0:
                    self._record(losses)
                if time.monotonic() - last_save > train.checkpoint_minutes * 60:
                    self._save()
                    last_save = time.monotonic()
                if train.preview_minutes and time.monotonic() - last_preview > train.preview_minutes * 60:
                    self._preview()
                    last_preview = time.monotonic()
        except KeyboardInterrupt:
            self._save()
            raise
        return self._finish()

    def _step(self) -> dict[str, float]:
        train = self.stage.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, self.clock)
        rank = self.accelerator.process_index
        batch = self.clock.step * self.accelerator.num_processes + rank
        generator = torch.Generator().manual_seed((train.seed * 1_000_003 + self.clock.step) * 4096 + rank)
        with self.accelerator.autocast():
            losses = self.stage.loss(self.network, batch, generator)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise UserError(
                f"the loss became {total.item()} at step {self.clock.step}",
                hint="lower train.learning_rate or train.gradient_clip, or train in float32 (train.mixed_precision = 'no')",
            )
        self.accelerator.backward(total)
        norm = self.accelerator.clip_grad_norm_(self.trained, train.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.trained)
        return {name: _number(value) for name, value in losses.items()} | {"gradient_norm": _number(norm)}

    def _record(self, losses: dict[str, float]) -> None:
        train = self.stage.settings
        line = {
            "step": self.clock.step,
            "minutes": round(self.clock.minutes, 3),
            "progress": round(progress_of(train, self.clock), 4),
            "samples_per_second": round(self.clock.step * train.batch_size / max(self.clock.minutes * 60, 1e-6), 1),
            "learning_rate": learning_rate(train, self.clock),
            **{name: round(value, 6) for name, value in losses.items()},
        }
        with (self.run / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.log(line)

    def _save(self) -> None:
        save_state(
            self.run / "state",
            self.clock,
            {
                "network": self._network().state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict() if self.ema else None,
            },
        )

    def _resume(self) -> None:
        found = load_newest(self.run / "state")
        if found is None:
            return
        self.clock, state = found
        self._network().load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema and state["ema"]:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.accelerator.device)
        self.log({"resumed": self.clock.step, "minutes": round(self.clock.minutes, 2)})

    def _network(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.network)

    def _preview(self) -> None:
        folder = self.run / "previews"
        folder.mkdir(exist_ok=True)
        with self._averaged():
            self.stage.preview(folder / f"{self.clock.step:07}.png")

    def _finish(self) -> Path:
        self._save()
        facts: dict[str, object] = {
            "steps": self.clock.step,
            "samples": self.clock.step * self.stage.settings.batch_size,
            "minutes": round(self.clock.minutes, 1),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {self.accelerator.device}",
            "torch": torch.__version__,
        }
        model = self.run / "model"
        with self._averaged():
            self._network().eval()
            self.stage.export(model, facts)
        self._preview()
        return model

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """While entered, the network holds its averaged weights and is in evaluation mode."""
        try:
            with uninterrupted():
                if self.ema:
                    self.ema.store(self.trained)
                    self.ema.copy_to(self.trained)
                self.network.eval()
            yield
        finally:
            with uninterrupted():
                if self.ema:
                    self.ema.restore(self.trained)
                self.network.train()


def _number(value: Tensor | float | None) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value or 0.0)
