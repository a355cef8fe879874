"""From what the user calls a model to its folder."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_folder
from jointnet_cli.model import hub
from jointnet_cli.model.folder import describe
from jointnet_cli.model.hub import find_model, list_models
from jointnet_cli.model.published import export_model
from jointnet_cli.model.weights import weights_hash

Folders = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _own_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTNET_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def published(tiny_folder: Folders, tmp_path: Path) -> Path:
    export_model(find_model(str(tiny_folder("depth"))), tmp_path / "published")
    return tmp_path / "published"


def pack(archive_path: Path, folder: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive_path, "w") as packed:
        for path in folder.rglob("*"):
            packed.write(path, Path(top) / path.relative_to(folder))
    return archive_path


@pytest.mark.parametrize("top", ["", "release"])
def test_a_zip_file_opens_like_its_folder(tiny_folder: Folders, published: Path, tmp_path: Path, top: str) -> None:
    (published / "setup.py").write_text("raise SystemExit")
    packed, base = pack(tmp_path / "model.zip", published, top), str(tiny_folder("depth"))
    facts = find_model(str(packed), base)
    assert facts.path.is_relative_to(tmp_path / "cache")
    assert facts.weights_hash() == find_model(str(published), base).weights_hash()
    assert not list(facts.path.rglob("*.py"))
    marker = facts.path / "unet" / "config.json"
    unpacked = marker.stat().st_mtime_ns
    assert find_model(str(packed), base) == facts
    assert marker.stat().st_mtime_ns == unpacked  # not unpacked again


def test_stray_files_beside_the_model_of_a_zip_file_are_ignored(
    tiny_folder: Folders, published: Path, tmp_path: Path
) -> None:
    packed, base = pack(tmp_path / "model.zip", published, "a/release"), str(tiny_folder("depth"))
    with zipfile.ZipFile(packed, "a") as opened:
        for name in ("README.json", "a/notes.txt", "a/.DS_Store", "__MACOSX/a/._release", "a/samples/grid.json"):
            opened.writestr(name, "{}")
        opened.writestr("__MACOSX/a/release/unet/._config.json", "{}")
    found = find_model(str(packed), base)
    assert found.weights_hash() == find_model(str(published), base).weights_hash()
    assert found.path.parts[-2:] == ("a", "release") and not list(found.path.rglob("._*"))


def test_a_zip_file_of_several_models_is_refused(published: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "models.zip", published, "one")
    with zipfile.ZipFile(packed, "a") as opened:
        opened.writestr("two/model_index.json", "{}")
    with pytest.raises(UserError, match="holds several models: one, two"):
        find_model(str(packed), "base")


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "unet/../../evil.json", "..\\evil.json", "C:evil.json"])
def test_a_zip_file_that_leads_out_is_refused(published: Path, tmp_path: Path, name: str) -> None:
    packed = pack(tmp_path / "model.zip", published)
    with zipfile.ZipFile(packed, "a") as opened:
        opened.writestr(name, "{}")
    with pytest.raises(UserError, match="leads out"):
        find_model(str(packed), "diorama")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_in_a_zip_file_are_refused(published: Path, tmp_path: Path) -> None:
    packed, entry = pack(tmp_path / "model.zip", published), zipfile.ZipInfo("vae.json")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(packed, "a") as opened:
        opened.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        find_model(str(packed), "diorama")


def test_too_large_a_zip_file_is_refused(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path / "model.zip", published)
    monkeypatch.setattr(hub, "LIMIT", 1000)
    with pytest.raises(UserError, match="more than"):
        find_model(str(packed), "diorama")
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_zip_file_of_windows_opens(tiny_folder: Folders, published: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as packed:
        for path in (path for path in published.rglob("*") if path.is_file()):
            packed.writestr("release\\" + str(path.relative_to(published)).replace("/", "\\"), path.read_bytes())
    base = str(tiny_folder("depth"))
    found = find_model(str(tmp_path / "model.zip"), base)
    assert found.weights_hash() == find_model(str(published), base).weights_hash()


def test_damaged_data_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        path = tmp_path / f"{kind}.zip"
        with zipfile.ZipFile(path, "w", kind) as packed:
            packed.writestr("model_index.json", '{"a": 1}' * 100)
        data = bytearray(path.read_bytes())
        data[46:60] = b"\xff" * 14
        path.write_bytes(data)
        with pytest.raises(UserError, match="cannot be read"):
            find_model(str(path))
        assert not list((tmp_path / "cache").rglob(".*"))


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK, or not")
    with pytest.raises(UserError, match=r"model\.zip cannot be read: ") as fault:
        find_model(str(tmp_path / "model.zip"))
    assert fault.value.hint


def test_names_are_looked_up_among_the_models(tiny_folder: Folders, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder("depth"), tmp_path / "models" / "seaside")
    assert find_model("seaside").path == tmp_path / "models" / "seaside"
    with pytest.raises(UserError, match="no model sea-side") as fault:
        find_model("sea-side")
    assert fault.value.hint == "did you mean seaside?"
    assert "seaside" in dict(list_models())


@pytest.mark.parametrize("part", ["unet", "branches/depth", "vae", "text_encoder"])
def test_weights_have_to_be_there_but_not_for_a_plan(tiny_folder: Folders, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(tiny_folder("depth"), tmp_path / "model"))
    next((folder / part).glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match=f"lacks {part}") as fault:
        find_model(str(folder))
    assert fault.value.hint
    facts = find_model(str(folder), weights=False)
    assert facts.branches == ["rgb", "depth"]
    told = describe("model", facts)
    assert told["parameters"] is None and told["hash"] is None


def test_half_precision_files_alone_are_a_model(tiny_pipeline: Folders, tmp_path: Path) -> None:
    from jointnet_cli.model.checkpoint import load_model

    for family in ("sdxl", "if"):
        folder = Path(shutil.copytree(tiny_pipeline(family), tmp_path / family))
        for path in sorted(folder.rglob("*.safetensors")):
            path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
        model = load_model(find_model(str(folder)))
        original = load_model(tiny_pipeline(family))
        for name, network in model.networks.items():
            expected = original.networks[name].state_dict()
            assert all((value == expected[key]).all() for key, value in network.state_dict().items()), name


def test_description(tiny_folder: Folders) -> None:
    from jointnet_cli.model.checkpoint import load_model

    folder = tiny_folder("masked")
    told = describe("seaside", find_model(str(folder)))
    assert told["parameters"] == sum(weights.numel() for weights in load_model(folder).joint.parameters())
    assert told["hash"] == weights_hash(folder)
    assert told["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts = ("model", "family", "branches", "masked_input", "prediction", "size", "factor", "base")
    expected = ["seaside", "Stable Diffusion", ["rgb", "depth"], True, "v_prediction", 32, 2, None]
    assert [told[name] for name in facts] == expected


def test_finding_a_model_imports_nothing_heavy(tiny_folder: Folders, published: Path) -> None:
    code = (
        "import json, sys; from jointnet_cli.model.hub import find_model; "
        "from jointnet_cli.model.folder import describe; "
        "json.dumps(describe('x', find_model(*sys.argv[1:]))); "
        "print({'torch', 'diffusers', 'numpy', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(published), str(tiny_folder("depth"))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout == "set()\n"


def test_zip_bombs_are_refused(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path / "model.zip", published)
    size = packed.stat().st_size
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("unet/a.bin", bytes(30 * size))
        opened.writestr("inner.zip", bytes(30 * size))  # is not unpacked
    monkeypatch.setattr(hub, "SMALL", 1000)
    with pytest.raises(UserError, match=r"refused: it has .* and unpacks to .* MB") as fault:
        find_model(str(packed))
    assert fault.value.hint and "unpack it yourself" in fault.value.hint
    monkeypatch.setattr(hub, "MOST_FILES", 3)
    with pytest.raises(UserError, match=r"refused: it has \d+ files, more than 3"):
        find_model(str(packed))
    assert not hub.cache_home().joinpath("archives").exists() or not list(hub.cache_home().glob("archives/model-*"))


def test_an_archive_must_fit_on_the_disk(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path / "full.zip", published)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: hub.shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match=r"full\.zip unpacks to .* kB; .* has 1 byte free") as fault:
        find_model(str(packed))
    assert fault.value.hint and "XDG_CACHE_HOME" in fault.value.hint
    assert not list(hub.cache_home().glob("archives/full-*"))


def test_what_killed_processes_left_of_an_archive_is_removed(
    tiny_folder: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, home = pack(tmp_path / "again.zip", tiny_folder("depth")), hub.cache_home() / "archives"
    home.mkdir(parents=True)
    code = "import sys, os; from pathlib import Path; from jointnet_cli.files.atomic import atomic_folder\n"
    code += "with atomic_folder(Path(sys.argv[1])) as new: (new / 'unet').mkdir(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(home / "dead")], check=False)
    (left,) = home.iterdir()
    with atomic_folder(home / "living") as living:
        find_model(str(packed))
        assert living.exists()
    assert re.fullmatch(rf"unpacking {packed} to {home}/again-\w+: \d+\.\d kB\n", capsys.readouterr().err)
    assert not left.exists()
    assert not list(home.glob(".again*"))
    find_model(str(packed))
    assert capsys.readouterr().err == ""


def test_a_damaged_entry_is_named(published: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "model.zip", published)
    data = bytearray(packed.read_bytes())
    data[60:400] = bytes(340)
    packed.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.zip cannot be read"):
        find_model(str(packed))
    packed.unlink()
    os.mkfifo(packed)
    with pytest.raises(UserError, match="no model"):
        find_model(str(packed))
