"""What a model folder says of itself before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import FALLBACK, read_folder
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.weights import weights_hash

Folders = Callable[[str], Path]


@pytest.fixture
def copy(tiny_folder: Folders, tmp_path: Path) -> Path:
    """A joint model's folder that may be changed."""
    return Path(shutil.copytree(tiny_folder("masked"), tmp_path / "model"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_facts(tiny_folder: Folders) -> None:
    facts = read_folder(tiny_folder("depth-normal"))
    assert facts.branches == ["rgb", "depth", "normal"]
    assert (facts.masked_input, facts.factor, facts.window, facts.size) == (False, 2, 16, 32)
    assert facts.defaults == FALLBACK
    assert facts.provenance == {"steps": 0}
    assert read_folder(tiny_folder("masked")).masked_input


def test_stated_defaults_replace_the_general_ones(copy: Path) -> None:
    change(copy / "jointnet.json", defaults={"steps": 12, "depth_steps": 4})
    assert read_folder(copy).defaults == {"preset": "balanced", "steps": 12, "guidance": 7.5, "depth_steps": 4}


def test_defaults_that_are_not_known_are_left_aside(copy: Path) -> None:
    change(
        copy / "jointnet.json", defaults={"steps": 12, "guidance_interval": "abc", "tile_batch": 0, "presset": "fast"}
    )
    assert read_folder(copy).defaults == {"preset": "balanced", "steps": 12, "guidance": 7.5}


def test_without_a_record_it_is_a_base_model(copy: Path) -> None:
    (copy / "jointnet.json").unlink()
    facts = read_folder(copy)
    assert (facts.branches, facts.masked_input, facts.defaults) == (["rgb"], False, FALLBACK)


@pytest.mark.parametrize("name", ["diaroma", "/none/here", "sd2"])
def test_an_unknown_model_is_said_with_a_hint(name: str) -> None:
    with pytest.raises(UserError, match="no model") as fault:
        find_model(name)
    assert fault.value.hint
    assert ("did you mean diorama?" in fault.value.hint) == (name == "diaroma")


@pytest.mark.parametrize(
    "piece",
    [
        "model_index.json",
        "unet/config.json",
        "vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
        "branches/depth",
        "exchange.safetensors",
    ],
)
def test_a_missing_piece_is_named(copy: Path, piece: str) -> None:
    path = copy / piece
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"no model in |cannot be read: | lacks ") as fault:
        find_model(str(copy))
    assert str(copy) in str(fault.value)
    assert piece in f"{fault.value} {fault.value.hint}"
    assert fault.value.hint


def test_the_folder_of_a_training_leads_to_its_model(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model").symlink_to(copy)
    with pytest.raises(UserError, match="no model in") as fault:
        find_model(str(tmp_path / "run"))
    assert fault.value.hint == f"did you mean {tmp_path / 'run/model'}?"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"format": 2}', '{"format": 1}'])
def test_a_record_of_another_kind_is_refused(copy: Path, content: str) -> None:
    (copy / "jointnet.json").write_text(content)
    with pytest.raises(UserError, match=r"jointnet\.json") as fault:
        read_folder(copy)
    assert fault.value.hint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"branches": 3}, "branches must be a list, got 3"),
        ({"masked_input": "maybe"}, "masked_input must be true or false, got 'maybe'"),
        ({"defaults": {"steps": "x"}}, "steps must be from 1 to 65536, got 'x'"),
        ({"defaults": {"steps": 5.5}}, "steps must be a whole number, got 5.5"),
        ({"defaults": {"steps": True}}, "steps must be a whole number, got True"),
        ({"defaults": {"guidance": False}}, "guidance must be a number, got False"),
        ({"defaults": {"scheduler": ["unipc"]}}, "scheduler must be text, got"),
    ],
)
def test_values_of_another_type_are_refused(copy: Path, changed: dict[str, Any], message: str) -> None:
    change(copy / "jointnet.json", **changed)
    with pytest.raises(UserError, match=message):
        read_folder(copy)


@pytest.mark.parametrize("config", ["unet", "vae"])
@pytest.mark.parametrize("content", [b"{}", b"[]", b"\xff"])
def test_a_network_of_another_kind_is_refused(copy: Path, config: str, content: bytes) -> None:
    (copy / config / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=config) as fault:
        read_folder(copy)
    assert fault.value.hint


def test_latent_sides(tiny_folder: Folders) -> None:
    facts = read_folder(tiny_folder("base"))
    assert facts.latent_side(48, "width") == 24
    for pixels, nearest in ((47, "48"), (1, "2"), (0, "2"), (-4, "2")):
        with pytest.raises(UserError, match=f"width must be a multiple of 2, got {pixels}") as fault:
            facts.latent_side(pixels, "width")
        assert fault.value.hint == f"--width {nearest}"


def test_the_hash_names_the_weights_alone(copy: Path, tiny_folder: Folders) -> None:
    name = weights_hash(copy)
    assert name == read_folder(tiny_folder("masked")).weights_hash()
    assert len(name) == 12 and int(name, 16) >= 0
    change(copy / "jointnet.json", provenance={})
    assert weights_hash(copy) == name
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    changed = weights_hash(copy)
    assert changed != name
    shutil.move(weights, copy / "unet" / "other.safetensors")
    assert weights_hash(copy) not in (name, changed)


def test_the_hash_of_a_folder_by_value(tmp_path: Path) -> None:
    """SHA-256 over the path and the content of each file of weights in order of path, whatever the order of their making."""
    weights = {"unet/model.safetensors": b"two", "unet/model.bin": b"one", "vae/deep/er/weights.bin": b"three"}
    for name, content in {**dict(reversed(weights.items())), "unet/config.json": b"{}", "model.bin.index": b""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    digest = hashlib.sha256(b"unet/model.binoneunet/model.safetensorstwovae/deep/er/weights.binthree")
    assert weights_hash(tmp_path) == digest.hexdigest()[:12]
    digest.update(b"model.binonemodel.safetensorstwo")  # of a second folder after the first
    assert weights_hash(tmp_path, tmp_path / "unet") == digest.hexdigest()[:12]


@pytest.mark.parametrize("name", ["unet/model.safetensors", "unet/model.bin", "vae/model.bin"])
def test_the_hash_depends_on_every_file_of_weights_and_its_place(tmp_path: Path, name: str) -> None:
    for file in ("unet/model.safetensors", "unet/model.bin", "vae/model.bin"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    before = weights_hash(tmp_path)
    (tmp_path / name).write_bytes(b"others")
    changed = weights_hash(tmp_path)
    (tmp_path / name).rename(tmp_path / f"moved{Path(name).suffix}")
    moved = weights_hash(tmp_path)
    (tmp_path / f"moved{Path(name).suffix}").unlink()
    assert len({before, changed, moved, weights_hash(tmp_path)}) == 4
