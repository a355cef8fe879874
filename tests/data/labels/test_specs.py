"""What `--label` takes, and what it says of mistakes. No torch, no weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jointnet_cli.cli.options import expand_flags
from jointnet_cli.cli.prepare_options import LabelOptions
from jointnet_cli.data.labels.specs import HUB, OMNIDATA_SETTINGS, TeacherSettings, parse_spec, parse_specs
from jointnet_cli.errors import UserError


@pytest.mark.parametrize(
    ("teacher", "name", "source"),
    [
        ("midas", "midas-dpt-hybrid", "Intel/dpt-hybrid-midas"),
        *((name, name, repository) for name, repository in HUB.items()),
        ("someone/some-depth", "someone/some-depth", "someone/some-depth"),
    ],
)
def test_teachers_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str, name: str, source: str
) -> None:
    monkeypatch.setenv("JOINTNET_MODELS", str(tmp_path))
    spec = parse_spec(f"depth={teacher}")
    assert (spec.modality, spec.name, spec.source, spec.format) == ("depth", name, source, "transformers")
    assert spec.settings == TeacherSettings()


def test_a_named_teacher_is_taken_from_the_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "midas-dpt-hybrid").mkdir()
    monkeypatch.setenv("JOINTNET_MODELS", str(tmp_path))
    assert parse_spec("depth=midas").source == str(tmp_path / "midas-dpt-hybrid")


def test_teachers_by_path(tmp_path: Path) -> None:
    file, folder = tmp_path / "net.onnx", tmp_path / "my-dpt"
    file.touch()
    folder.mkdir()
    found = parse_spec(f"depth=onnx:{file}?size=256&mean=0.5&std=0.1,0.2,0.3&kind=distance")
    assert (found.name, found.source, found.format) == ("onnx:net.onnx", str(file), "onnx")
    assert found.settings == TeacherSettings(256, (0.5, 0.5, 0.5), (0.1, 0.2, 0.3), kind="distance")
    assert parse_spec(f"normal={folder}?axes=rdf&encoding=unsigned").settings == TeacherSettings(
        axes="rdf", encoding="unsigned"
    )
    assert parse_spec(f"depth={folder}").name == "my-dpt"
    for place in (file, folder):
        omnidata = parse_spec(f"normal=omnidata:{place}")
        assert omnidata.name == f"omnidata:{place.name}" and omnidata.settings == OMNIDATA_SETTINGS
    assert parse_spec(f"normal=omnidata:{file}?axes=rub").settings.axes == "rub"
    checkpoint = tmp_path / "omnidata_dpt_normal_v2.ckpt"
    checkpoint.touch()
    assert parse_spec(f"normal=omnidata:{checkpoint}").format == "omnidata"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("midas", "depth=midas"),
        ("dept=midas", "--label depth=midas"),
        ("rgb=midas", "--label"),
        ("depth=", "midas-beit-512"),
        ("depth=midass", "did you mean midas?"),
        ("depth=depth-anything-v2", "did you mean depth-anything-v2-small?"),
        ("depth=nothing like it", "onnx:FILE"),
        ("depth=omnidata", "--label normal=omnidata"),
        ("normal=omnidata", "omnidata:FOLDER"),
        ("normal=omnidata:missing.ckpt", "omnidata:FOLDER"),
        ("normal=midas", "--label depth=midas"),
        ("depth=onnx:missing.onnx", "path of an .onnx file"),
        ("depth=onnx:", "path of an .onnx file"),
        ("depth=midas?siz=384", "did you mean size?"),
        ("depth=midas?axes=rub", "did you mean"),
        ("normal=x/y?kind=distance", "did you mean"),
    ],
)
def test_mistakes_name_the_remedy(text: str, told: str) -> None:
    with pytest.raises(
        UserError,
        match=r"^(--label .* does not say|no teacher|omnidata labels|midas-dpt-hybrid labels|the teacher|a teacher of)",
    ) as caught:
        parse_spec(text)
    assert told in (caught.value.hint or "")


@pytest.mark.parametrize(
    "setting",
    ["size=0", "size=384x384", "size=", "mean=a", "mean=1,2", "mean=nan", "std=0", "std=-1,1,1", "kind=metric"],
)
def test_wrong_values(setting: str) -> None:
    with pytest.raises(UserError, match=setting.split("=")[0]):
        parse_spec(f"depth=midas?{setting}")


@pytest.mark.parametrize("axes", ["", "r", "rr", "rrb", "rubd", "xyz", "rux", "ubf"])
def test_wrong_axes(axes: str) -> None:
    with pytest.raises(UserError, match="three letters"):
        parse_spec(f"normal=x/y?axes={axes}")


def test_a_map_has_one_teacher() -> None:
    assert [spec.modality for spec in parse_specs(["depth=midas", "normal=x/y"])] == ["depth", "normal"]
    with pytest.raises(UserError, match="several teachers"):
        parse_specs(["depth=midas", "depth=midas-beit-512"])


def test_the_option_group() -> None:
    assert LabelOptions().specs() == []
    assert [spec.name for spec in LabelOptions(label=["depth=midas"]).specs()] == ["midas-dpt-hybrid"]


def test_the_option_group_on_a_command_line() -> None:
    given: list[LabelOptions] = []

    def command(labels: LabelOptions) -> None:
        given.append(labels)

    app = typer.Typer()
    app.command()(expand_flags(command))
    words = ["--label", "depth=midas", "--label", "normal=x/y?axes=rdf", "--relabel", "--label-batch", "4"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert given == [LabelOptions(["depth=midas", "normal=x/y?axes=rdf"], relabel=True, label_batch=4)]


def test_specs_are_read_without_torch() -> None:
    code = (
        "import sys; from jointnet_cli.cli.prepare_options import LabelOptions; LabelOptions(['depth=midas']).specs(); "
    )
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
