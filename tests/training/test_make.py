"""`tools/diorama/make.py` and `weights.py`: what one stage writes is what the next one looks for."""

import json
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from helpers.tiny import tiny_vae
from helpers.worlds import make_worlds

from jointnet_cli.data.shards.latents import load_latents
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import load_model, save_model
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.vae import encoder_hash

TOOLS = Path(__file__).parents[2] / "tools/diorama"
MAPS = ["rgb", "depth", "normal"]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(TOOLS)  # as for a script
    return runpy.run_path(str(TOOLS / name))


def test_stages_find_what_was_encoded_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_worlds(tmp_path / "worlds", 4)
    vae = tiny_vae(0.5)
    vae.save_pretrained(tmp_path / "vae/model")
    script("make.py", monkeypatch)["encode_as_they_come"](tmp_path, 4, 0, 1)

    def encode(maps: torch.Tensor) -> torch.Tensor:
        pytest.fail("a stage encodes again what was encoded as it came")

    shards = ShardSet.open(tmp_path / "worlds")
    assert load_latents(shards, MAPS, encode, encoder_hash(vae)).latents.shape[:3] == (2, 4, len(MAPS))


def test_a_failure_ends_the_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = script("make.py", monkeypatch)
    made, start, children = make["main"].__globals__, make["_start"], []

    def fail(options: object) -> None:
        children.append(start(["-c", "import time; time.sleep(600)"], tmp_path / "log", module=False))
        make["_finish"](start(["-c", "raise SystemExit(3)"], tmp_path / "log", module=False))

    monkeypatch.setitem(made, "make", fail)
    monkeypatch.setattr(sys, "argv", ["make.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"make\.py: failed"):
        make["main"]()
    assert children[0].wait(10) == -signal.SIGTERM


def test_a_model_is_shipped_with_another_decoder_of_the_same_encoder(
    joint_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship, own = script("weights.py", monkeypatch)["ship"], load_model(joint_run / "model")
    vae = AutoencoderKL.from_pretrained(joint_run / "model/vae")
    with torch.no_grad():
        vae.decoder.conv_out.bias += 1
    vae.save_pretrained(tmp_path / "decoder")
    (tmp_path / "decoder/training.json").write_text(json.dumps({"steps": 7}))
    ship(str(joint_run / "model"), tmp_path / "shipped", tmp_path / "decoder")
    shipped = load_model(tmp_path / "shipped")
    assert torch.equal(shipped.vae.decoder.conv_out.bias, vae.decoder.conv_out.bias.half().float())
    assert shipped.provenance["vae"] == {"steps": 7, "earlier": own.provenance["vae"]}
    weight = next(iter(shipped.joint.parameters()))
    assert torch.equal(weight, weight.half().float())

    with torch.no_grad():
        vae.encoder.conv_in.bias += 1
    vae.save_pretrained(tmp_path / "decoder")
    with pytest.raises(UserError, match="has another encoder"):
        ship(str(joint_run / "model"), tmp_path / "shipped", tmp_path / "decoder")


def test_weights_are_averaged_with_those_that_training_went_on_from(
    joint_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = load_model(joint_run / "model")
    later = load_model(joint_run / "model")
    changed = next(iter(later.joint.branches["depth"].parameters()))
    with torch.no_grad():
        changed += 1
    save_model(later, tmp_path / "later", torch.float32)
    words = ["average", str(tmp_path / "later"), str(joint_run / "model"), str(tmp_path / "mean")]
    script("weights.py", monkeypatch)["main"](words)
    mean = load_model(tmp_path / "mean")
    before = next(iter(earlier.joint.branches["depth"].parameters()))
    assert torch.allclose(next(iter(mean.joint.branches["depth"].parameters())), before + 0.5)
    weights = zip(mean.joint.branches["rgb"].parameters(), earlier.joint.branches["rgb"].parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    assert mean.provenance["averaged_with"] == find_model(joint_run / "model").weights_hash()


@pytest.mark.parametrize(
    "words", [("nowhere", "shipped"), ("diorama", "shipped", "--decoder", "nowhere"), ("diorama", ".")]
)
def test_faults_are_one_line_and_code_2(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script("weights.py", monkeypatch)["main"](["ship", *words])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("weights.py: ") and told.count("\n") == 1
