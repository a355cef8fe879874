"""The published JointNet layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import load_model
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.published import export_model, import_model
from jointnet_cli.model.weights import weights_hash

Folders = Callable[[str], Path]
ORIGIN = {"source": "published", "base": "sd2"}


@pytest.fixture(params=["depth", "masked"])
def ours(request: pytest.FixtureRequest, tiny_folder: Folders) -> Path:
    return tiny_folder(request.param)


@pytest.fixture
def published(ours: Path, tmp_path: Path) -> Path:
    """A model in the published layout as its authors saved it: pickled, with their version's configuration."""
    folder = tmp_path / "published"
    export_model(find_model(str(ours)), folder)
    for part in ("unet", "jointnet"):
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(weights), weights.with_suffix(".bin"))
        weights.unlink()
        config = folder / part / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "_diffusers_version": "0.19.3"}))
    return folder


def predict(folder: Path, base: Path | None = None) -> Tensor:
    model = load_model(find_model(str(folder), str(base) if base else None))
    torch.manual_seed(0)
    latents, known, text = torch.randn(1, 2, 5, 16, 16), torch.randn(1, 2, 6, 16, 16), torch.randn(1, 6, 16)
    with torch.inference_mode():
        return model.joint(latents, 99, Conditioning(text), known)


def contents(folder: Path, *parts: str) -> dict[str, object]:
    """Every configuration and every tensor of some parts of a folder."""
    found: dict[str, object] = {}
    for part in parts:
        found[part] = json.loads((folder / part / "config.json").read_text())
        for path in sorted((folder / part).glob("diffusion_pytorch_model.*")):
            tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
            found.update({f"{part}.{key}": value.numpy().tobytes() for key, value in tensors.items()})
    return found


def test_a_published_model_computes_what_ours_does(ours: Path, published: Path) -> None:
    facts = find_model(str(published), str(ours))
    assert (facts.branches, facts.published) == (["rgb", "depth"], True)
    assert facts.masked_input == find_model(str(ours)).masked_input
    assert (facts.base, facts.window, facts.factor) == (ours, 16, 2)
    before = load_model(ours).joint.state_dict()
    after = load_model(facts).joint.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    # Tensors of the two files lie differently in memory, which may change the last digits.
    assert torch.allclose(predict(published, ours), predict(ours), atol=1e-5)


def test_published_keys(published: Path) -> None:
    tensors = torch.load(published / "jointnet" / "diffusion_pytorch_model.bin", weights_only=True)
    config = json.loads((published / "jointnet" / "config.json").read_text())
    extra = {key for key in tensors if key.startswith("jointnet_")}
    modules = {"jointnet_rgb_in_trans", "jointnet_mid_block", *(f"jointnet_down_blocks.{n}" for n in range(6))}
    if config["has_masked_latent_input"]:
        modules.add("jointnet_masked_latent_conv")
    assert extra == {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    assert config["_class_name"] == "JointNetModel"


def test_the_exchange_is_stored_with_its_published_owner(ours: Path, published: Path) -> None:
    exchange = load_file(ours / "exchange.safetensors")
    rgb, depth = (
        torch.load(published / part / "diffusion_pytorch_model.bin", weights_only=True) for part in ("unet", "jointnet")
    )
    for key, value in {
        "exchange.rgb_to_depth.input.weight": depth["jointnet_rgb_in_trans.weight"],
        "exchange.rgb_to_depth.skips.1.bias": rgb["jointnet_down_blocks.1.bias"],
        "exchange.depth_to_rgb.middle.weight": depth["jointnet_mid_block.weight"],
    }.items():
        assert torch.equal(exchange[key], value), key


def test_import_then_export_gives_the_same_files(ours: Path, published: Path, tmp_path: Path) -> None:
    imported, exported = tmp_path / "imported", tmp_path / "exported"
    import_model(find_model(str(published), str(ours)), imported, ORIGIN)
    export_model(find_model(str(imported)), exported)
    assert contents(exported, "unet", "jointnet") == contents(published, "unet", "jointnet")


def test_export_then_import_gives_the_same_model(ours: Path, published: Path, tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    facts = find_model(str(published), str(ours), modality="normal")
    import_model(facts, imported, ORIGIN)
    before, after = (
        contents(ours, "unet", "branches/depth", "vae"),
        contents(imported, "unet", "branches/normal", "vae"),
    )
    for found in (before, after):
        for part in ("unet", "branches/depth", "branches/normal"):
            found.get(part, {}).pop("_diffusers_version", None)  # type: ignore[attr-defined]
    assert {key.replace("normal", "depth"): value for key, value in after.items()} == before
    exchange = {key.replace("normal", "depth"): x for key, x in load_file(imported / "exchange.safetensors").items()}
    original = load_file(ours / "exchange.safetensors")
    assert exchange.keys() == original.keys()
    assert all(torch.equal(exchange[key], original[key]) for key in original)
    assert torch.equal(predict(imported), predict(ours))
    record = json.loads((imported / "jointnet.json").read_text())
    assert record["branches"] == ["rgb", "normal"]
    imported_from = record["provenance"]["imported"]
    assert {key: imported_from[key] for key in ("source", "base", "hash")} == {**ORIGIN, "hash": facts.weights_hash()}


def test_the_hash_names_branches_and_base(ours: Path, published: Path) -> None:
    assert find_model(str(published), str(ours)).weights_hash() == weights_hash(published, ours)


def test_a_base_is_needed(published: Path) -> None:
    with pytest.raises(UserError, match="published layout") as fault:
        find_model(str(published))
    assert "--base" in str(fault.value.hint)


class Attack:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("network", ["jointnet", "vae", "text_encoder"])
def test_code_in_a_checkpoint_is_never_run(tiny_folder: Folders, tmp_path: Path, network: str) -> None:
    base, folder = Path(shutil.copytree(tiny_folder("depth"), tmp_path / "base")), tmp_path / "published"
    export_model(find_model(str(base)), folder)
    part = (folder if network == "jointnet" else base) / network
    weights = next(part.glob("*.safetensors"))
    stem = "pytorch_model" if network == "text_encoder" else "diffusion_pytorch_model"
    ran = tmp_path / "ran"
    torch.save({**load_file(weights), "attack": Attack(ran)}, part / f"{stem}.bin")
    weights.unlink()
    with pytest.raises(UserError, match=r"is damaged or holds more than tensors$|cannot be read: ") as fault:
        load_model(find_model(str(folder), str(base)))
    assert fault.value.hint
    assert not ran.exists()
    torch.load(part / f"{stem}.bin", weights_only=False)
    assert ran.exists()  # it was one


def test_what_does_not_fit_is_refused(tiny_folder: Folders, tmp_path: Path) -> None:
    base, folder = tiny_folder("depth"), tmp_path / "published"
    export_model(find_model(str(base)), folder)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    for key in ("jointnet_mid_block.bias", "conv_in.bias"):
        save_file({name: value for name, value in tensors.items() if name != key}, path)
        with pytest.raises(UserError, match="cannot be read") as fault:
            load_model(find_model(str(folder), str(base)))
        assert fault.value.hint


@pytest.mark.parametrize("variant", ["base", "depth-normal"])
def test_only_two_branches_are_exported(tiny_folder: Folders, tmp_path: Path, variant: str) -> None:
    with pytest.raises(UserError, match="branches") as fault:
        export_model(find_model(str(tiny_folder(variant))), tmp_path / "out")
    assert fault.value.hint
    assert not (tmp_path / "out").exists()


def test_nothing_half_written_and_nothing_replaced(tiny_folder: Folders, tmp_path: Path) -> None:
    base = tiny_folder("depth")
    export_model(find_model(str(base)), tmp_path / "published")
    facts = find_model(str(tmp_path / "published"), str(base))
    (tmp_path / "published" / "jointnet" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.safetensors cannot be read"):
        import_model(facts, tmp_path / "imported", ORIGIN)
    assert [path.name for path in tmp_path.iterdir()] == ["published"]
    with pytest.raises(UserError, match="exists already"):
        export_model(find_model(str(base)), tmp_path / "published")
