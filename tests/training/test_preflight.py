"""What is checked before the first step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from jointnet_cli.errors import UserError
from jointnet_cli.training.inputs import find_inputs
from jointnet_cli.training.preflight import preflight
from jointnet_cli.training.run import open_stage, train

from .conftest import Tiny


def findings(recipe: Any, out: Path) -> dict[str, tuple[str, bool]]:
    inputs = find_inputs(recipe)
    checks = preflight(inputs, out, partial(open_stage, recipe, inputs, out, weights=False))
    return {check.check: (check.found, check.warning) for check in checks}


@pytest.mark.parametrize("name", ["vae", "base", "joint-depth"])
def test_everything_is_looked_at(tiny: Tiny, base_run: Path, tmp_path: Path, name: str) -> None:
    found = findings(tiny(name), tmp_path / "run")
    assert list(found) == ["data", "memory", "disk"]
    assert found["data"][0] == ("8" if name == "vae" else "12") + " samples in 2 shards"
    assert "activations" in found["memory"][0] and "at 24x24" if name == "vae" else "at 32x32" in found["memory"][0]
    assert not any(warning for _, warning in found.values())


def test_what_does_not_fit_is_a_warning(tiny: Tiny, tmp_path: Path) -> None:
    wide = "vae.block_out_channels=[100000, 100000, 100000]"
    found = findings(tiny("vae", wide, "train.batch_size=100"), tmp_path)
    assert all(found[check][1] for check in ("data", "memory", "disk"))


def test_no_data_is_a_refusal(tiny: Tiny, tmp_path: Path) -> None:
    for dry_run in (False, True):
        with pytest.raises(UserError, match="no complete shards"):
            train(tiny("vae", f"data.shards='{tmp_path}'"), out=tmp_path / "run", dry_run=dry_run)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_it_found_and_writes_nothing(tiny: Tiny, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    assert train(tiny("vae"), out=tmp_path / "run", dry_run=True, log=seen.append) == tmp_path / "run/model"
    assert [line["check"].partition(":")[0] for line in seen] == ["data", "memory", "disk"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_folder_that_cannot_hold_the_run_is_refused(tiny: Tiny, tmp_path: Path, dry_run: bool) -> None:
    (tmp_path / "file").touch()
    for out in ("file", "file/run"):
        with pytest.raises(UserError, match="is not a folder"):
            train(tiny("vae"), out=tmp_path / out, dry_run=dry_run)
    (tmp_path / "run").mkdir()
    for content in ("{", "[]", '{"stage": "vae"}'):
        (tmp_path / "run/recipe.json").write_text(content)
        with pytest.raises(UserError, match=r"recipe\.json is damaged"):
            train(tiny("vae"), out=tmp_path / "run", dry_run=dry_run)


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed(tiny: Tiny, tmp_path: Path, tracker: str) -> None:
    with pytest.raises(UserError, match=tracker) as caught:
        train(tiny("vae", f"train.trackers=['{tracker}']"), out=tmp_path / "run")
    assert caught.value.hint == f"pip install {tracker}"
    assert not (tmp_path / "run").exists()


def test_eight_bits_want_a_gpu(tiny: Tiny, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="adamw8bit"):
        train(tiny("vae", "train.optimizer=adamw8bit"), out=tmp_path / "run", dry_run=True)
