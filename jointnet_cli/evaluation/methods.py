"""What predicts in an evaluation, and how it is named on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import parse_qsl

from jointnet_cli.devices import DEVICE, DTYPE, DtypeName, require_device
from jointnet_cli.errors import UserError, did_you_mean
from jointnet_cli.files.paths import text_digest
from jointnet_cli.model.hub import find_model
from jointnet_cli.params import BASE, MODEL, Param, params
from jointnet_cli.sampling.presets import METHODS, Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.evaluation.cases import Case, Cases

_NAMED = re.compile(r"([^=:]+)=(.+)", re.DOTALL)
"""A name holds no colon, so that the `=` of a value, as in `jointnet:runs/a=b`, does not end a name."""

DEPTH_KINDS = (
    *("jointnet", "refine", "midas", "folder", "constant", "mean-depth", "mean-map", "reduced", "autoencoder"),
)
"""Kinds of methods that predict depth."""

MODEL_KINDS = frozenset({"jointnet", "refine", "base", "autoencoder", *METHODS})
"""Kinds whose value is `[MODEL][?SETTINGS]`."""

CHECKPOINTS = "checkpoints"
"""The kind that stands for all models that a training run exported (`train.export_steps`)."""


@dataclass(frozen=True)
class Prediction:
    """What a method predicts for one case."""

    image: NDArray[np.float32] | None = None
    """(H, W, 3) sRGB in [0, 1]."""
    depth: NDArray[np.float32] | None = None
    """(H, W) disparity up to scale and shift, 0 where there is none."""
    relative: bool = False
    """Whether depth is relative disparity in [0, 1], as it always is beside an image."""
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) camera-space unit vectors, zero where there is none."""
    again: NDArray[np.float32] | None = None
    """(H, W) relative disparity that was predicted from the image alone."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, ready for JSON."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Numbers that are known only while it is made, such as seconds."""


@dataclass(frozen=True)
class MethodSettings:
    """Settings of all methods of a command; `None` is the default of the model."""

    model: Annotated[str, replace(MODEL, help="Model of methods that name none.")] = "diorama"
    base: Annotated[str | None, BASE] = None
    device: Annotated[str | None, DEVICE] = None
    dtype: Annotated[DtypeName | None, DTYPE] = None
    sampling: Sampling = field(default_factory=Sampling)
    ensemble: int = 1
    strength: float = 0.4
    refine_from: str = "midas:dpt_beit_large_512"

    def __post_init__(self) -> None:
        require_device(self.device)
        if self.sampling.scheduler is not None:
            from jointnet_cli.sampling.schedule import check_scheduler

            check_scheduler(self.sampling.scheduler)

    def override(self, query: str) -> Self:
        """Return these settings with `steps=4&guidance=2` and the like in them.

        Raises:
            UserError: an unknown key, or a value that the flag would refuse.
        """
        known = {parameter.name: parameter for parameter in params(DepthSettings)}
        found = self
        for key, text in parse_qsl(query, keep_blank_values=True):
            if key not in known:
                hint = did_you_mean(key, known) or "known are " + ", ".join(sorted(known))
                raise UserError(f"unknown setting {key!r} in ?{query}", hint=hint)
            value, table = known[key].check(text), known[key].path[:-1]
            found = replace(
                found, **({table[0]: replace(getattr(found, table[0]), **{key: value})} if table else {key: value})
            )
        return found


@dataclass(frozen=True)
class DepthSettings(MethodSettings):
    """Settings of methods that predict maps of an image."""

    ensemble: Annotated[int, Param("Predictions whose median is the result.", "N", ge=1)] = MethodSettings.ensemble
    strength: Annotated[
        float, Param("How much of the input `refine` replaces; 1 starts from pure noise.", "FRACTION", ge=0, le=1)
    ] = MethodSettings.strength
    refine_from: Annotated[str, Param("Method whose depth `refine` refines.", "KIND[:VALUE]")] = (
        MethodSettings.refine_from
    )


class Method:
    """Predicts cases; what it needs is found when it is opened, and loaded for the first case."""

    name = ""
    """What the table calls it."""
    spec = ""
    """`KIND:VALUE`, whatever it is called."""
    ranked = True
    """Whether it competes for the best number of a column."""
    finished = False
    """Whether its predictions exist already; they are then read where they are and not copied."""
    grid = 1
    """Pixels of a latent pixel."""

    @property
    def identity(self) -> str:
        """What tells its predictions from those of any other model, files or settings."""
        return ""

    @property
    def key(self) -> str:
        """What its items are kept under."""
        return f"{self.spec} {text_digest(self.identity, 8)}" if self.identity else self.spec

    def count(self, cases: Cases) -> int:
        """Return how many of the cases it predicts."""
        return len(cases)

    def require(self, cases: Cases, count: int) -> None:
        """Refuse cases that it cannot predict.

        Raises:
            UserError: the predictions belong to other cases.
        """

    def predict(self, case: Case) -> Prediction:
        """Predict one case.

        Raises:
            UserError: this case cannot be predicted.
            MethodUnavailable: no case can be predicted.
        """
        raise NotImplementedError


Kinds = Mapping[str, Callable[[str, MethodSettings], Method]]
"""The kinds of methods of a table by the first word of their specs: from the rest of a spec and settings to the method."""


@dataclass(frozen=True)
class MethodSpec:
    """The words of one method: `[NAME=]KIND[:VALUE]`."""

    name: str
    kind: str
    value: str = ""
    """A model, a folder, or what the kind needs; empty where it needs nothing."""

    @property
    def spec(self) -> str:
        """`KIND:VALUE`."""
        return f"{self.kind}:{self.value}" if self.value else self.kind

    def check(self, settings: MethodSettings) -> None:
        """Refuse a model and settings that do not exist. It imports no torch.

        Raises:
            UserError: these.
        """
        kind, value = self.kind, self.value
        if kind == "from-depth":
            nested, _, rest = value.partition(":")
            kind, value = (nested, rest) if nested in DEPTH_KINDS else ("jointnet", value)
        if kind in MODEL_KINDS:
            model, _, query = value.partition("?")
            own = settings.override(query)
            find_model(model or own.model, own.base)
            if kind == "refine":
                parse_method(own.refine_from, [name for name in DEPTH_KINDS if name != "refine"]).check(own)

    def open(self, kinds: Kinds, settings: MethodSettings) -> Method:
        """Open the method.

        Raises:
            UserError: a model, folder or network that is missing.
        """
        method = kinds[self.kind](self.value, settings)
        method.name, method.spec = self.name, self.spec
        return method


def parse_method(text: str, kinds: Collection[str]) -> MethodSpec:
    """Read `NAME=KIND:VALUE`, `KIND:VALUE` or `KIND`.

    Raises:
        UserError: another kind, with the nearest of `kinds`.
    """
    named = _NAMED.fullmatch(text)
    name, spec = named.groups() if named else (text, text)
    kind, _, value = spec.partition(":")
    if kind not in kinds:
        known = "the kinds are " + ", ".join(sorted(kinds))
        raise UserError(f"unknown method kind {kind!r} in {text}", hint=did_you_mean(kind, kinds) or known)
    return MethodSpec(name, kind, value)


def parse_methods(texts: Sequence[str], kinds: Collection[str]) -> list[MethodSpec]:
    """Read all methods of a command.

    Raises:
        UserError: a wrong method, or two of one name.
    """
    specs = [parse_method(text, kinds) for text in texts]
    names = [spec.name for spec in specs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two methods are called {twice}", hint="name them: NAME=KIND:VALUE")
    return specs


def expand_checkpoints(texts: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, int]]]:
    """Replace `[NAME=]checkpoints:RUN[?SETTINGS]` by one method for every model that a training run exported.

    Returns:
        The methods, and by the names of these ones the name of their run and the step.

    Raises:
        UserError: a run without exported models.
    """
    expanded: list[str] = []
    steps: dict[str, tuple[str, int]] = {}
    for text in texts:
        named = _NAMED.fullmatch(text)
        name, spec = named.groups() if named else ("", text)
        kind, _, value = spec.partition(":")
        if kind != CHECKPOINTS:
            expanded.append(text)
            continue
        run, mark, query = value.partition("?")
        found = {int(path.name): path for path in sorted(Path(run).glob("models/*")) if path.name.isdecimal()}
        if not found:
            hint = f"jointnet train diorama/base --out {run or 'runs/base'} --set 'train.export_steps=[0,50,200]'"
            raise UserError(f"{run or CHECKPOINTS} has no exported models", hint=hint)
        name = name or re.sub("[=:]", "-", Path(run).name)  # a name in a spec holds neither
        for step, folder in found.items():
            row = f"{name} {step}"
            steps[row] = name, step
            expanded.append(f"{row}=jointnet:{folder}{mark}{query}")
    return expanded, steps


def open_method(text: str, kinds: Kinds, settings: MethodSettings) -> Method:
    """Read and open one method.

    Raises:
        UserError: a wrong method, or something that it needs is missing.
    """
    return parse_method(text, kinds).open(kinds, settings)
