"""The optimizer of a recipe, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jointnet_cli.errors import UserError
from jointnet_cli.training.checkpoints import Clock
from jointnet_cli.training.recipe import Train


def require_optimizer(train: Train) -> None:
    """Refuse an optimizer that cannot work here.

    Raises:
        UserError: 8-bit AdamW without a GPU, or without bitsandbytes; Muon with a torch that lacks it.
    """
    if train.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise UserError("train.optimizer = 'muon' needs torch 2.9 or newer", hint="use train.optimizer = 'adamw'")
    if train.optimizer != "adamw8bit":
        return
    if not torch.cuda.is_available():
        raise UserError("train.optimizer = 'adamw8bit' needs a CUDA GPU", hint="use train.optimizer = 'adamw'")
    if find_spec("bitsandbytes") is None:
        raise UserError("train.optimizer = 'adamw8bit' needs bitsandbytes", hint="pip install bitsandbytes")


def build_optimizer(train: Train, network: nn.Module, *, sharded: bool = False) -> Optimizer:
    """Return what the recipe names, over the parameters of a network that train.

    Raises:
        UserError: Muon, for a network that is spread over processes.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    settings = {"lr": train.learning_rate, "betas": train.betas, "weight_decay": train.weight_decay}
    if train.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        chosen: Optimizer = AdamW8bit(trained, **settings)
        return chosen
    if train.optimizer == "muon":
        if sharded:
            raise UserError("train.optimizer = 'muon' needs whole matrices, which FSDP cuts up", hint="use 'adamw'")
        tables = {module.weight for module in network.modules() if isinstance(module, nn.Embedding)}
        matrices = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in tables]
        known = set(matrices)
        return MuonWithAdamW(matrices, [parameter for parameter in trained if parameter not in known], **settings)  # type: ignore[arg-type]
    return torch.optim.AdamW(trained, fused=True, **settings)  # type: ignore[arg-type]


class MuonWithAdamW(Optimizer):
    """Muon for matrices and for convolutions, which it takes for matrices of output channels by all else; AdamW for the rest.

    Muon's step is a matrix with all singular values near one, scaled to have the root mean square of AdamW's, so that both
    take the same learning rate and weight decay. `torch.optim.Muon` works it out, on a CPU in float32; it takes matrices
    alone, so each convolution lends it a view.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the scale of Liu et al., "Muon is
    Scalable for LLM Training", 2025.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        groups = [{"params": list(part)} for part in (matrices, others) if part]
        super().__init__(groups, {"lr": lr})
        self._views = [(parameter, nn.Parameter(_as_matrix(parameter))) for parameter in matrices]
        self._parts: list[Optimizer] = []
        if matrices:
            views = [view for _, view in self._views]
            self._parts.append(_Muon(views, lr, weight_decay, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr, betas, weight_decay=weight_decay, fused=True))

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Take a step of both."""
        self._look_again()
        for parameter, view in self._views:
            view.grad = None if parameter.grad is None else _in_order(parameter.grad, parameter).flatten(1)
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
        for _, view in self._views:
            view.grad = None  # which would keep the gradient alive

    def state_dict(self) -> dict[str, Any]:
        """Return those of both."""
        return {str(number): part.state_dict() for number, part in enumerate(self._parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._look_again()  # a state goes to the device of what it belongs to
        for number, part in enumerate(self._parts):
            part.load_state_dict(state_dict[str(number)])

    def _look_again(self) -> None:
        """Let the views show the weights where they are now: a network that is moved has its weights elsewhere."""
        for parameter, view in self._views:
            view.data = _as_matrix(parameter)


class _Muon(torch.optim.Muon):
    """`torch.optim.Muon` that orthogonalises in float32 on a CPU, where bfloat16 is up to twenty times slower."""

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Take a step; on a GPU torch's own, in bfloat16."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.device.type != "cpu":
                    super().step()  # type: ignore[no-untyped-call]
                    return
                if matrix.grad is not None:
                    self._step_matrix(matrix, group)

    def _step_matrix(self, matrix: Tensor, group: dict[str, Any]) -> None:
        gradient: Tensor = matrix.grad  # type: ignore[assignment]
        average = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(gradient))
        average.lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(average, group["momentum"]), group["ns_coefficients"], group["ns_steps"])
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Bring the singular values of a matrix (m, n) near one: the quintic Newton-Schulz iteration of Jordan et al., 2024."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _as_matrix(parameter: Tensor) -> Tensor:
    """Return a view of weights, (output channels, all else)."""
    return _in_order(parameter.detach(), parameter).view(len(parameter), -1)


def _in_order(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with its axes in the order in which `like` lies in memory: channels last or not."""
    return tensor.permute(0, 2, 3, 1) if like.ndim == 4 and not like.is_contiguous() else tensor


def progress_of(train: Train, clock: Clock) -> float:
    """Return how much of the run is done, in [0, 1]: by steps or by minutes, whichever is nearer its end."""
    done = clock.step / train.max_steps
    if train.max_minutes is not None:
        done = max(done, clock.minutes / train.max_minutes)
    return min(done, 1.0)


def learning_rate(train: Train, clock: Clock) -> float:
    """Return linear warm-up, then constant or a cosine over the run's progress."""
    rate = train.learning_rate * min(1.0, (clock.step + 1) / max(train.warmup_steps, 1))
    if train.schedule == "constant":
        return rate
    cosine = 0.5 * (1 + math.cos(math.pi * progress_of(train, clock)))
    return rate * (train.final_learning_rate + (1 - train.final_learning_rate) * cosine)
