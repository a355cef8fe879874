"""docs/python.md: its snippets run, in order, and the public API is what it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jointnet_cli

PAGE = (Path(__file__).parents[1] / "docs/python.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(snippet, "docs/python.md", "exec"), names)
    assert sorted(path.name for path in Path("outputs").iterdir()) == [
        "00000_7_a-red-hut-on-a-green-hill.depth.png",
        "00000_7_a-red-hut-on-a-green-hill.image.png",
        "00000_7_a-red-hut-on-a-green-hill.metadata.json",
        "00000_7_a-red-hut-on-a-green-hill.normal.png",
        "00000_7_a-red-hut-on-a-green-hill.rgbdn.exr",
    ]
    assert names["panorama"].image.shape[1] == 256


def test_the_page_names_the_public_api() -> None:
    sentence = re.search(r"The public API is (.*?)\. Everything", PAGE, flags=re.DOTALL)
    assert sentence and set(re.findall(r"`(\w+)`", sentence[1])) == set(jointnet_cli.__all__)
    for name in jointnet_cli.__all__:
        assert getattr(jointnet_cli, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = jointnet_cli.nothing


def test_the_import_is_cheap() -> None:
    code = "import sys, jointnet_cli; print({'torch', 'numpy', 'typer', 'diffusers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
