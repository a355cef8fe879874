"""No command prints what a terminal would obey: names, texts and keys from outside are escaped."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from jointnet_cli.cli.console import note, progress
from jointnet_cli.files.text import escaped, escaped_streams

HOSTILE = "a\x1b]0;owned\x07\x9b2J\x7f\u202eb"
SHOWN = "a\\u001b]0;owned\\u0007\\u009b2J\\u007f\\u202eb"


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", HOSTILE, "--steps", HOSTILE],
        ["generate", "hut", "--model", HOSTILE],
        ["generate", HOSTILE, "--dry-run", "--json"],
        ["generate", HOSTILE, "--dry-run"],
        ["generate", "hut", "--batch", "table.csv"],
        ["generate", "hut", f"--{HOSTILE}"],
        [HOSTILE],
        ["depth", f"{HOSTILE}.png"],
        ["depth", f"{HOSTILE}.png", "--dry-run", "--json"],
        ["inpaint", f"{HOSTILE}.png", "--mask", f"{HOSTILE}.png", "hut"],
        ["refine", f"{HOSTILE}.png"],
        ["panorama", "hut", "--out", HOSTILE, "--dry-run"],
        ["view", f"{HOSTILE}.png"],
        ["convert", f"{HOSTILE}.png", "--to", "exr"],
        ["prepare", f"{HOSTILE}.csv", "--out", "shards"],
        ["prepare", "table.csv", "--out", "shards", "--columns", f"url={HOSTILE}"],
        ["train", f"{HOSTILE}.toml", "--out", "run"],
        ["train", "recipe.toml", "--out", "run"],
        ["recipe", "check", "recipe.toml", HOSTILE],
        ["recipe", "show", HOSTILE],
        ["models", "show", "model"],
        ["models", "show", "model", "--json"],
        ["models", "words", HOSTILE],
        ["evaluate", "depth", "--method", HOSTILE, "--middlebury", HOSTILE],
        ["evaluate", "compare", f"{HOSTILE}=a", f"{HOSTILE}=b"],
        ["doctor", HOSTILE],
    ],
)
def test_commands_escape_names_and_texts(invoke, untrained: Path, arguments: list[str]) -> None:
    Path(f"{HOSTILE}.png").write_bytes(b"no image")
    Path(f"{HOSTILE}.csv").write_text(f"{HOSTILE}\n{HOSTILE}\n")
    Path("table.csv").write_text(f"url,{HOSTILE}\nhttp://x,{HOSTILE}\n")
    Path("recipe.toml").write_text(f'stage = "{SHOWN}"\n"{SHOWN}" = 1\n')
    model = shutil.copytree(untrained, Path("model"))
    facts = json.loads((model / "jointnet.json").read_text())
    (model / "jointnet.json").write_text(json.dumps({**facts, "provenance": {HOSTILE: HOSTILE}}))
    ran = invoke(*arguments)
    assert escaped(ran.output) == ran.output
    if "--json" in arguments and ran.exit_code == 0:
        assert all(map(json.loads, ran.stdout.splitlines()))


def test_a_line_feed_in_a_name_is_no_new_line(invoke) -> None:
    ran = invoke("convert", "a\nhint: run this.png", "--to", "exr")
    assert ran.stderr.startswith("error: ") and "a\\nhint: run this.png" in ran.stderr.splitlines()[0]


def test_notes_and_bars_escape_on_a_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with escaped_streams(), progress(HOSTILE):
        note(HOSTILE)
        print(HOSTILE, file=sys.stderr)
    shown = capsys.readouterr().err
    assert "owned" in shown and "\x1b" in shown
    assert not {"\x07", "\x9b", "\x7f", "\u202e"} & set(shown) and "\x1b]0" not in shown
