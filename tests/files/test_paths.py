from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import NAME_BYTES, SLUG_LENGTH, check_free, safe_name, slug
from jointnet_cli.results import expected_files
from jointnet_cli.scene.exports import EXPORTS, MeshFormat, SceneOptions, StereoLayout
from jointnet_cli.task_inputs import ImageFile, MapFiles, MaskFiles, RefinedMapFiles
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ocean reef", "ocean-reef"),
        ("  A Red  Hut, on a hill!  ", "a-red-hut-on-a-hill"),
        ("Café Zürich", "café-zürich"),
        ("../../etc/passwd", "etc-passwd"),
        ("海辺の 家", "海辺の-家"),
        ("Пляж, ЗАКАТ!", "пляж-закат"),
        ("cafe\u0301", "caf\u00e9"),
        ("字" * 60, "字" * 48),
        ("\U00020000" * 60, "\U00020000" * 36),
        ("!?", "untitled"),
        ("", "untitled"),
        ("a" * 60, "a" * SLUG_LENGTH),
        ("word " * 20, "-".join(["word"] * 9)),
        ("a" * 47 + " tail", "a" * 47),
        ("a" * 46 + " b c", "a" * 46 + "-b"),
    ],
)
def test_slug_examples(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(st.text(max_size=200))
def test_slug_is_a_short_name_in_any_script(text: str) -> None:
    name = slug(text)
    assert all(mark == "-" or unicodedata.category(mark)[0] in "LMN" for mark in name)
    assert 0 < len(name) <= SLUG_LENGTH and len(name.encode()) <= 3 * SLUG_LENGTH
    assert not name.startswith("-") and not name.endswith("-") and "--" not in name
    assert slug(name) == name == unicodedata.normalize("NFC", name)


@given(st.text(max_size=200))
def test_safe_names_are_names_of_files_everywhere(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= NAME_BYTES and safe_name(name) == name
    assert not set(name) & set('<>:"/\\|?*\0\n') and name[0] not in ". " and name[-1] not in ". "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IMG 0012 (kopie)", "IMG 0012 (kopie)"),
        ("cafe\u0301", "caf\u00e9"),
        ("海辺の家", "海辺の家"),
        ("a/b:c?", "a_b_c_"),
        (".hidden", "_hidden"),
        ("é" * 200, "é" * 80),
        ("क" + "\u093f\u0902" * 60, "untitled"),
        ("...", "_"),
        ("bad\udcff", "bad_"),
    ],
)
def test_safe_name_examples(text: str, expected: str) -> None:
    assert safe_name(text) == expected


@pytest.mark.parametrize(
    ("kind", "image", "expected"),
    [
        ("generate", None, "a dog"),
        ("inpaint", Path("beach.png"), "a dog"),
        ("depth", Path("holiday/IMG_12.jpeg"), "IMG_12"),
        ("depth", None, "a dog"),
        ("refine", Path("outputs/00003_7_ocean-reef.image.png"), "refined ocean-reef"),
        ("refine", Path("00003_7_ocean-reef.rgbd.exr"), "refined ocean-reef"),
        ("refine", Path("2024_01_beach.image.png"), "refined 2024_01_beach.image"),
    ],
)
def test_the_title_is_the_prompt_or_the_name_of_the_image(kind: str, image: Path | None, expected: str) -> None:
    requests = {
        "generate": Generate(prompt="a dog"),
        "inpaint": Inpaint(prompt="a dog", photo=ImageFile(image)),
        "depth": Depth(prompt="a dog", source=image),
        "refine": Refine(prompt="a dog", photo=ImageFile(image)),
    }
    assert requests[kind].title == expected


def test_a_request_knows_the_files_that_it_starts_from() -> None:
    beach, reef = Path("beach.png"), Path("reef.png")
    assert Depth(source=beach).sources == {"image": beach}
    assert Refine(photo=ImageFile(beach), files=RefinedMapFiles(reef)).sources == {"image": beach, "depth": reef}
    assert Generate(files=MapFiles(normal=beach)).sources == {"normal": beach}
    assert Panorama().sources == {}
    marked = Inpaint(photo=ImageFile(beach), files=MapFiles(reef), marks=MaskFiles(depth_mask=beach))
    assert marked.sources == {"image": beach, "depth": reef, "depth_mask": beach}


def test_a_channel_flag_holds_for_its_own_map_alone() -> None:
    files = MapFiles(channel="Depth.Z", normal_layer="N")
    assert [files.channel_of(name) for name in ("depth", "normal", "segments")] == ["Depth.Z", "N", None]


PLACE = SceneOptions(mesh=list(MeshFormat), viewer=True, stereo=list(StereoLayout), orbit="clip.mp4")
PLACES = list(EXPORTS)


@pytest.mark.parametrize(
    ("task", "maps", "extra", "keys", "exr"),
    [
        ("generate", ["depth"], {}, ["image", "depth", "exr", "metadata"], "s.rgbd.exr"),
        ("generate", ["normal"], {}, ["image", "normal", "exr", "metadata"], "s.rgbn.exr"),
        ("inpaint", ["depth"], {}, ["image", "depth", "exr", "metadata"], "s.rgbd.exr"),
        ("depth", ["depth", "normal"], {}, ["depth", "normal", "preview", "exr", "metadata"], "s.rgbdn.exr"),
        (
            "depth",
            ["depth", "normal"],
            {"uncertain": ["depth", "normal"]},
            ["depth", "depth_uncertainty", "normal", "normal_uncertainty", "preview", "exr", "metadata"],
            "s.rgbdn.exr",
        ),
        ("depth", ["normal"], {}, ["normal", "exr", "metadata"], "s.rgbn.exr"),
        (
            "panorama",
            ["depth"],
            {"scene": PLACE},
            ["image", "depth", "exr", "layer", *PLACES, "metadata"],
            "s.rgbd.exr",
        ),
        ("generate", ["depth"], {"scene": SceneOptions()}, ["image", "depth", "exr", "metadata"], "s.rgbd.exr"),
        ("panorama", ["normal"], {"scene": PLACE}, ["image", "normal", "exr", "metadata"], "s.rgbn.exr"),
    ],
)
def test_expected_files(task: str, maps: list[str], extra: dict[str, Any], keys: list[str], exr: str) -> None:
    files = expected_files(task, "s", maps, **extra)
    assert list(files) == keys
    assert files["exr"] == exr
    assert all(re.fullmatch(r"s\.[a-z0-9_-]+\.[a-z0-9]+", name, re.IGNORECASE) for name in files.values())


def test_a_taken_name_is_refused_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    taken = tmp_path / "taken.png"
    taken.touch()
    with pytest.raises(UserError, match=re.escape(str(taken))) as caught:
        check_free([tmp_path / "free.png", taken], overwrite=False)
    assert caught.value.hint is not None
    assert "--overwrite" in caught.value.hint
    assert "--out" in caught.value.hint
    check_free([taken], overwrite=True)


def test_a_folder_that_cannot_be_made_is_refused_and_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        check_free([tmp_path / "file" / "deeper" / "a.png"], overwrite=True)
    check_free([tmp_path / "new" / "deeper" / "a.png"], overwrite=False)
    assert not (tmp_path / "new").exists()


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_free([tmp_path / "a.png"], overwrite=True)


def test_names_and_records_import_nothing_heavy() -> None:
    code = (
        "import sys, jointnet_cli.files.paths, jointnet_cli.record;"
        "print(sorted({'numpy', 'torch', 'PIL', 'OpenEXR', 'trimesh'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
