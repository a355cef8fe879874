"""Items are made once, shared among processes, and survive a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.runner import MethodUnavailable, Runner, needed_by_all

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from pathlib import Path
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.processes import leave

folder, deadly = Path(sys.argv[1]), int(sys.argv[2])
items = Runner(folder, {"steps": 2})

def make(number):
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        raise RuntimeError("three")
    return {"number": number, "process": os.environ.get("RANK", "alone")}

records = items.run("row", range(6), make)
said = f"{list(records)} {items.failed} {items.main}"
(folder / os.environ.get("RANK", "alone")).write_text(said)
leave()
"""


def run(folder: Path, *, deadly: int = -1, processes: int = 1) -> subprocess.CompletedProcess[str]:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes > 1 else []
    return subprocess.run(
        [sys.executable, *launch, str(script), str(folder), str(deadly)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


def made(folder: Path) -> dict[int, Any]:
    return {int(path.stem): json.loads(path.read_text()) for path in sorted(folder.glob("items/row/*.json"))}


def test_after_a_kill_finished_items_are_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed = run(folder, deadly=2)
    assert killed.returncode == -signal.SIGKILL and list(made(folder)) == [0, 1]
    again: list[int] = []

    def make(number: int) -> dict[str, Any]:
        again.append(number)
        return {"number": number, "process": "second"}

    records = Runner(folder, {"steps": 2}).run("row", range(6), make)
    assert again == [2, 3, 4, 5]
    assert list(records) == list(range(6))
    assert [record["process"] for record in records.values()] == ["alone"] * 2 + ["second"] * 4


def test_two_processes_share_the_items_and_a_failed_one_stops_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ran = run(folder, processes=2)
    assert ran.returncode == 0, ran.stderr
    said = [(folder / rank).read_text() for rank in "01"]
    assert said == ["[0, 1, 2, 4, 5] 1 True", "[0, 1, 2, 4, 5] 1 False"]
    assert {number: record["process"] for number, record in made(folder).items()} == {
        **dict.fromkeys((0, 2, 4), "0"),
        **dict.fromkeys((1, 5), "1"),
    }
    assert ran.stderr.count("error: row, item 3: three") == 1


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    def make(number: int) -> dict[str, Any]:
        if number == 1:
            raise KeyboardInterrupt
        return {}

    items = Runner(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        items.run("row", range(3), make)
    assert [path.name for path in tmp_path.glob("items/row/*")] == ["00000.json"]
    assert items.failed == 0


def test_more_items_are_added_to_what_is_there(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    items = Runner(tmp_path, {}, lambda title: nullcontext(lambda *call: calls.append(call)))
    items.run("row", range(2), lambda number: {"n": number})
    calls.clear()
    records = items.run("row", range(4), lambda number: {"n": -number})
    assert records == {0: {"n": 0}, 1: {"n": 1}, 2: {"n": -2}, 3: {"n": -3}}
    assert calls == [(0, 2), (1, 2), (1, 2), (2, 2)]


def test_a_fault_of_the_program_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        Runner(tmp_path, {}).run("row", range(1), lambda number: {"n": 1 / number})


def test_rows_of_any_name_have_folders_of_their_own(tmp_path: Path) -> None:
    items = Runner(tmp_path, {})
    names = ["jointnet:a/b", "jointnet:a:b", "jointnet-a-b", "..", "x" * 300, "x" * 301, "Zürich"]
    for name in names:
        items.run(name, range(1), lambda number, name=name: {"row": name})  # type: ignore[misc]
    assert [items.run(name, range(1), lambda number: {})[0]["row"] for name in names] == names
    assert {path.parent for path in tmp_path.rglob("00000.json")} == set((tmp_path / "items").iterdir())
    assert items.path("plain", 7, ".png") == tmp_path / "items" / "plain" / "00007.png"


@pytest.mark.parametrize("content", ["", "[]", '{"number": ', "\0"])
def test_a_damaged_record_of_an_item_is_made_again(tmp_path: Path, content: str) -> None:
    items = Runner(tmp_path, {"steps": 2})
    items.run("row", range(3), lambda number: {"number": number})
    items.path("row", 1, ".json").write_text(content)
    assert items.run("row", range(3), lambda number: {"again": number}) == {
        0: {"number": 0},
        1: {"again": 1},
        2: {"number": 2},
    }


@pytest.mark.parametrize("content", ["", "[]"])
def test_damaged_settings_of_a_folder_are_named(tmp_path: Path, content: str) -> None:
    Runner(tmp_path, {"steps": 2}).run("row", range(1), lambda number: {})
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/settings.json is damaged: ") as fault:
        Runner(tmp_path, {"steps": 2})
    assert fault.value.hint == f"remove {tmp_path}, or pass another folder with --out"


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    Runner(tmp_path, {"steps": 9})
    items = Runner(tmp_path, {"steps": 2, "sizes": (1, 2)})  # the folder holds nothing yet
    items.run("row", range(1), lambda number: {})
    Runner(tmp_path, {"sizes": [1, 2], "steps": 2})
    with pytest.raises(UserError, match="steps 2, not 3") as fault:
        Runner(tmp_path, {"steps": 3, "sizes": (1, 2)})
    assert "--out" in (fault.value.hint or "")
    Runner(tmp_path / "prompts", {"prompts": ["a lake"] * 200}).run("row", range(1), lambda number: {})
    with pytest.raises(UserError, match=r"holds items of prompts .*, not ") as fault:
        Runner(tmp_path / "prompts", {"prompts": ["a reef"] * 200})
    assert len(str(fault.value).replace(str(tmp_path), "")) < 200


def test_what_all_items_need_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(number: int) -> dict[str, Any]:
        with needed_by_all():
            raise UserError("no model", "give one")

    items = Runner(tmp_path, {})
    with pytest.raises(MethodUnavailable, match="no model") as fault:
        items.run("row", range(3), make)
    assert fault.value.hint == "give one" and items.failed == 0 and not capsys.readouterr().err
    Runner(tmp_path, {"steps": 3})  # nothing was made, so other settings may use the folder
