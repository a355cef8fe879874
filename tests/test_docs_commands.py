"""README and docs: the command blocks of each page run in their order, at a small size, among a user's files."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from helpers.gallery import write_coyo
from helpers.pipelines import save_judge
from PIL import Image
from typer.testing import CliRunner

from jointnet_cli.cli import app

PROJECT = Path(__file__).parents[1]
PAGES = {path.name: path for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]}
SMALL = [
    (r"(?<!models words )\bdiorama(?![/\w])", "tiny"),
    (r"--width \d+", "--width 96"),
    (r"--height \d+", "--height 32"),
    (r"(prepare worlds)(?!.*--size)", r"\1 --size 32"),
    (r"--size 128", "--size 32"),
    (r"\(128, 128\)", "(32, 32)"),
    (r"\(40, 40, 90, 100\)", "(8, 8, 20, 20)"),
    (r"(prepare .*)--count \d+", r"\1--count 4"),
    (r"(generate .*)--count \d+", r"\1--count 1"),
    (r" --ensemble \d+", " --ensemble 2"),
    (r" --limit \d+", " --limit 2"),
    (r"\bsteps([= ])\d+", r"steps\g<1>1"),
    (r"--seeds \d+", "--seeds 1"),
    (r"--max-minutes \d+", "--max-minutes 0.01"),
    (r"^(jointnet train .*)", r"\1 --set preview_prompts=[] --set train.batch_size=2"),
    (r"evaluate panorama", "evaluate panorama --width 96 --limit 1"),
    (r"(evaluate (?:depth|normal|generation|depth-to-image|consistency) )(?!.*--limit)", r"\1--limit 2 "),
]
"""Sizes of a page and those of the test."""
REFUSED = {
    "stable-diffusion-2-1-base": "no model jointnet-",
    "--truth MegaDepth_v1": "no folder MegaDepth_v1",
    "captions_val2014.json": "captions_val2014.json does not exist",
    "shards/coco": "no complete shards in shards/coco",
    "checkpoints:runs": "no exported models",
    "export runs/joint-depth/model": "no model runs/joint-depth/model",
    "votes-*.json": "votes-*.json does not exist",
    "prepare --all": "coyo-700m cannot be reached",
    "prepare --out": "coyo-700m cannot be reached",
    "depth=midas": "Intel/dpt-hybrid-midas",
}
"""Commands whose input is not on this machine, and what they say then."""
ELSEWHERE = (
    "make",
    "pip",
    "accelerate",
    "torchrun",
    "kill",
    "python tools/",
    "python benchmarks/",
    "jointnet evaluate resources",
    "jointnet evaluate depth --middlebury",
    "jointnet evaluate panorama --seeds 1 --limit 3",  # of results.md, as evaluate.md does with fewer prompts
    "jointnet evaluate speed --seeds 4",
    *(f"jointnet train diorama/{name}" for name in ("vae", "decoder", "base", "inpaint", "baselines", "lora-depth")),
)
"""Other programs; scripts, which tests/test_scripts.py starts; and what takes minutes at any size, such as a stage from
scratch, which tests/training trains."""


def commands(page: Path) -> list[str]:
    """The commands of the page's shell blocks, each once."""
    lines: dict[str, None] = {}
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s+)#.*$", "", line).strip():
                lines[command] = None
    return list(lines)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Path:
    """What a user has: a few worlds, a table of images, trained models, and a tiny model by the name of the embedded one."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "tiny").symlink_to(tiny_folder("whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        for line in (
            "jointnet prepare worlds --count 4 --size 32 --out shards/worlds",
            "jointnet prepare worlds --count 4 --size 32 --evaluation --out shards/evaluation",
        ):
            run(line)
    save_judge(desk / "runs/judge")
    (desk / "runs/mine").mkdir()
    (desk / "runs/mine/model").symlink_to(tiny_folder("whole"))
    (desk / "coyo").mkdir()
    write_coyo(desk / "coyo/part.parquet", "'coyo/large.jpg'", 1)
    Image.new("RGB", (600, 600)).save(desk / "coyo/large.jpg")
    return desk


def run(line: str) -> tuple[int, str]:
    """Run one command and return its exit code and its last words."""
    for size, small in SMALL:
        line = re.sub(size, small, line)
    program, *arguments = shlex.split(line)
    if program != "jointnet":
        ran = subprocess.run(line.replace("python", sys.executable, 1), shell=True, capture_output=True, text=True)
        return ran.returncode, ran.stderr
    result = CliRunner(env={"COLUMNS": "200", "JOINTNET_STEPS": "1", "JOINTNET_MODEL": "tiny"}).invoke(app, arguments)
    return result.exit_code, result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("small_clips")
@pytest.mark.parametrize("page", [name for name in PAGES if name != "LOG.md" and commands(PAGES[name])])
def test_the_commands_of_a_page(page: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(desk, tmp_path / "desk", symlinks=True))
    for line in commands(PAGES[page]):
        if line.startswith(ELSEWHERE) or line == "jointnet train diorama/joint":
            continue
        code, said = run(line)
        AcceleratorState._reset_state()  # a process of its own has none
        if reason := next((said for part, said in REFUSED.items() if part in line), None):
            assert code == 2 and reason in said, line
        else:
            assert code == 0, f"{line}: {said}"
