"""`prepare`: reproducible shards, rendered once, with nothing half-written left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset
from helpers.gallery import content as tar_content
from helpers.shards import read_shards
from helpers.worlds import make_worlds, world_job

from jointnet_cli.data.build import open_plan
from jointnet_cli.data.job import IMAGES, Show, Tally
from jointnet_cli.data.plan import world_plan
from jointnet_cli.data.prepare import prepare
from jointnet_cli.data.settings import PrepareSettings, prepare_settings
from jointnet_cli.data.shards.format import is_complete, stats_path
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.shards.writer import claim_shard
from jointnet_cli.data.source_files import Source
from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.errors import UserError

PROJECT = Path(__file__).parents[3]
COUNT, SIZE = 6, 32

Content = list[tuple[str, str, bytes, bytes, bytes]]


def render(out: Path, show: Show | None = None, **changes: Any) -> Tally:
    return make_worlds(out, **{"count": COUNT, "size": SIZE, "shard_size": 2, "show": show, **changes})


def content(*shards: Path) -> Content:
    """Key, caption and the bytes of all pixels of every sample."""
    found = []
    for sample in read_shards(shards):
        assert sample.inverse_depth is not None and sample.normal is not None
        pixels = sample.image.tobytes(), sample.inverse_depth.tobytes(), sample.normal.tobytes()
        found.append((sample.key, sample.caption, *pixels))
    return found


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    return render(tmp_path_factory.mktemp("worlds"))


@pytest.fixture
def copy(rendered: Tally, tmp_path: Path) -> Path:
    """A folder of its own with the rendered set."""
    for path in rendered.written[0].parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_shards_of_the_asked_for_worlds(rendered: Tally) -> None:
    assert (rendered.total, rendered.made, rendered.failed) == (COUNT, {IMAGES: COUNT}, {}) and rendered.seconds > 0
    assert [path.name for path in rendered.written] == ["00000.tar", "00001.tar", "00002.tar"]
    assert all(map(is_complete, rendered.written))
    samples = list(read_shards(rendered.written))
    assert [sample.record["seed"] for sample in samples] == list(range(COUNT))
    for sample in samples:
        assert sample.image.shape == (SIZE, SIZE, 3) and sample.caption
        assert sample.inverse_depth is not None and sample.inverse_depth.shape == (SIZE, SIZE)
        assert sample.normal is not None and sample.normal.shape == (SIZE, SIZE, 3)
    assert len({sample.image.tobytes() for sample in samples}) == COUNT


def test_the_last_shard_holds_the_rest(tmp_path: Path) -> None:
    plan = world_plan(settings(shard_size=2), 5)
    assert [len(plan.positions(number)) for number in plan.shards()] == [2, 2, 1]


def test_a_finished_set_is_not_rendered_again(copy: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    tally = render(copy)
    assert (tally.total, tally.done, tally.written) == (0, 0, [])
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


@pytest.mark.parametrize("loss", ["stats", "shard"])
def test_only_what_is_missing_is_rendered_again(rendered: Tally, copy: Path, loss: str) -> None:
    shards = [copy / path.name for path in rendered.written]
    (stats_path(shards[1]) if loss == "stats" else shards[1]).unlink()
    before = [shard.stat().st_mtime_ns for shard in (shards[0], shards[2])]
    seen: list[tuple[int, int]] = []
    tally = render(copy, lambda tally: seen.append((tally.done, tally.total)))
    assert tally.written == [shards[1]] and seen == [(0, 2), (2, 2)]
    assert [shard.stat().st_mtime_ns for shard in (shards[0], shards[2])] == before
    assert content(*shards) == content(*rendered.written)


def test_the_same_worlds_give_the_same_bytes(rendered: Tally, tmp_path: Path) -> None:
    again = render(tmp_path, count=2)
    assert again.written[0].read_bytes() == rendered.written[0].read_bytes()


def test_a_shard_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    with claim_shard(tmp_path / "00000.tar") as held:
        assert held is not None
        held.write(iter(()))
        before = sorted(tmp_path.iterdir())
        tally = render(tmp_path, count=3)
        assert (tally.made.total(), tally.busy) == (1, [held.path])
        assert set(before) < set(tmp_path.iterdir()) and not is_complete(held.path)
    assert render(tmp_path, count=3).made.total() == 2
    assert not list(tmp_path.glob(".*"))


def test_workers_in_turn_make_the_whole(rendered: Tally, tmp_path: Path) -> None:
    for worker, numbers in (((2, 2), [1]), ((1, 2), [0, 2])):
        tally = prepare(replace(world_job(tmp_path, COUNT, SIZE, 2), worker=worker))
        assert [int(path.stem) for path in tally.written] == numbers
    assert [(tmp_path / path.name).read_bytes() for path in rendered.written] == [
        path.read_bytes() for path in rendered.written
    ]


@pytest.mark.parametrize("shard_size", [2, 4])
def test_a_set_grows_by_a_larger_count(rendered: Tally, tmp_path: Path, shard_size: int) -> None:
    for count, made in ((3, 3), (COUNT, 3), (1, 0)):  # a set that is asked for with fewer keeps what it has
        assert render(tmp_path, shard_size=shard_size, count=count).made.total() == made
    grown = sorted(tmp_path.glob("*.tar"))
    assert tar_content(tmp_path) == tar_content(rendered.written[0].parent)
    if shard_size == 2:
        assert [path.read_bytes() for path in grown] == [path.read_bytes() for path in rendered.written]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_shard_does_not_grow_and_the_others_are_made(tmp_path: Path, processes: int) -> None:
    render(tmp_path, shard_size=2, count=3)
    shard = tmp_path / "00001.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    job = replace(world_job(tmp_path, COUNT, SIZE, 2), processes=processes)
    tally = prepare(job)
    assert [str(fault) for fault in tally.damaged] == [f"{shard} is damaged: its SHA-256 differs from 00001_stats.json"]
    assert shard.read_bytes() == bytes(data) and tally.written == [tmp_path / "00002.tar"]


def test_two_runs_at_once_make_one_set(rendered: Tally, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        tallies = list(threads.map(lambda _: render(tmp_path), range(2)))
    assert sum(tally.made.total() for tally in tallies) == COUNT
    assert [(tmp_path / path.name).read_bytes() for path in rendered.written] == [
        path.read_bytes() for path in rendered.written
    ]
    assert not list(tmp_path.glob(".*"))


def test_files_of_a_killed_run_are_removed(copy: Path) -> None:
    kept = sorted(copy.iterdir())
    for name in (".00000.tar.new", ".00002.json.new", ".00007.tar.writing", ".00007.parquet.new", ".00008.jsonl"):
        (copy / name).touch()
    assert render(copy).total == 0
    assert sorted(copy.iterdir()) == kept


def test_worlds_and_images_do_not_share_a_folder(copy: Path, tmp_path: Path) -> None:
    table = Source((str(tmp_path / "t.csv"),))
    with pytest.raises(UserError, match=f"^{copy} holds rendered worlds$"):
        open_plan(copy, table, PrepareSettings())
    (tmp_path / "images/.plan").mkdir(parents=True)
    with pytest.raises(UserError, match=r"images holds images of a table, a folder or shards$"):
        render(tmp_path / "images")


def test_a_set_of_an_earlier_release_grows(rendered: Tally, tmp_path: Path) -> None:
    """Dated members in the order of their suffixes, and statistics in one line."""
    first, second = rendered.written[:2]
    with webdataset.TarWriter(str(tmp_path / first.name)) as tar:
        for raw in ShardSet.open(first).raw():
            tar.write({name: value for name, value in raw.items() if name == "__key__" or not name.startswith("__")})
    stats_path(tmp_path / first.name).write_text('{"count": 2, "shard": "00000.tar"}')
    facts = {"seed": 0, "size": SIZE, "shard_size": 2, "tilted": 0.25}
    (tmp_path / "worlds.json").write_text(json.dumps(facts))
    before = (tmp_path / first.name).read_bytes()
    assert render(tmp_path, count=4).written == [tmp_path / second.name]
    assert (tmp_path / first.name).read_bytes() == before
    assert content(tmp_path / first.name, tmp_path / second.name) == content(first, second)


def test_progress_knows_its_total_from_the_start_and_reaches_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    render(tmp_path, lambda tally: seen.append((tally.done, tally.total)), count=3)
    assert seen == [(0, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 2}, "seed = 0, now 2"),
        ({"size": 16}, "size = 32, now 16"),
        ({"shard_size": 3}, "shard_size = 2, now 3"),
        ({"tilted": 0.5}, "tilted = 0.25, now 0.5"),
    ],
)
def test_another_set_in_the_same_folder_is_refused(copy: Path, change: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=f"^{copy} was made with {words}$") as caught:
        render(copy, **change)
    assert caught.value.hint is not None and "--out" in caught.value.hint
    assert all(is_complete(copy / f"{number:05}.tar") for number in range(3))


def settings(**changes: Any) -> PrepareSettings:
    """Settings of worlds; `shard_size` is that of shards."""
    flags = {"shards": {"size": changes.pop("shard_size", 500)}, "worlds": changes}
    return prepare_settings(flags=flags, worlds=True)


def test_evaluation_seeds_are_reserved() -> None:
    with pytest.raises(UserError, match="reserved") as caught:
        world_plan(settings(seed=EVALUATION_SEEDS - COUNT + 1), COUNT)
    assert caught.value.hint is not None and "--evaluation" in caught.value.hint
    world_plan(settings(seed=EVALUATION_SEEDS - COUNT), COUNT)
    with pytest.raises(UserError, match="evaluation set"):
        world_plan(settings(seed=EVALUATION_SEEDS - 1, evaluation=True), COUNT)
    world_plan(settings(seed=EVALUATION_SEEDS, evaluation=True), COUNT)


def test_the_first_seed_and_the_tilt_depend_on_the_set() -> None:
    found = [world_plan(settings(evaluation=kind), COUNT).facts for kind in (False, True)]
    assert [(facts["seed"], facts["tilted"]) for facts in found] == [(0, 0.25), (1_000_000_000, 0.0)]
    assert [(facts["size"], facts["shard_size"]) for facts in found] == [(128, 500)] * 2


@pytest.mark.parametrize("override", ["image.size=15", "shards.size=0", "worlds.seed=-1", "worlds.tilted=1.5"])
def test_numbers_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(UserError, match=re.escape(override.partition("=")[0])):
        prepare_settings(overrides=[override], worlds=True)


ENDLESS = """
import sys
from pathlib import Path
from helpers.worlds import make_worlds

if __name__ == "__main__":
    show = lambda tally: print(tally.done, flush=True)
    make_worlds(Path(sys.argv[1]), 100_000, show, size=32, shard_size=2, workers=2)
"""


def ended(group: int) -> bool:
    """Whether no process of a group is left within a few seconds."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_ends_the_workers_and_leaves_whole_shards(rendered: Tally, tmp_path: Path) -> None:
    script, out = tmp_path / "endless.py", tmp_path / "out"
    script.write_text(ENDLESS)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    assert lines[0] == "0\n" and lines[-1] == "8\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the parent and its workers
    _, errors = process.communicate(timeout=60)  # a moment; the scenes that are left would take an hour
    assert process.returncode == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors and "Process SpawnProcess" not in errors

    assert ended(process.pid), "a worker outlived its parent"
    shards = sorted(out.glob("*.tar"))
    assert len(shards) >= 4
    whole = [shard for shard in shards if is_complete(shard)]
    assert len(whole) >= 4
    assert json.loads((out / "worlds.json").read_text())["size"] == SIZE
    # What two processes rendered is what one renders.
    common = [path for path in rendered.written if is_complete(out / path.name)]
    assert common and content(*common) == content(*(out / path.name for path in common))


def cameras(tally: Tally) -> list[float]:
    return [sample.record["scene"]["camera"]["pitch"] for sample in read_shards(tally.written)]


def test_a_share_of_training_worlds_is_tilted_and_no_evaluation_world_unless_asked(tmp_path: Path) -> None:
    def pitches(name: str, **changes: float | bool) -> list[float]:
        return cameras(render(tmp_path / name, size=16, count=2, **changes))

    def made(seed: int, share: float) -> list[float]:
        return [sample_world(seed + i, share).camera.pitch for i in range(2)]

    seed, reserved = next(seed for seed in range(99) if made(seed, 0.25) != made(seed, 0)), EVALUATION_SEEDS + 40
    assert pitches("training", seed=seed) == made(seed, 0.25)
    assert pitches("level", seed=seed, tilted=0.0) == made(seed, 0)
    assert pitches("reserved", seed=reserved, evaluation=True) == made(reserved, 0) != made(reserved, 1)
    assert pitches("asked", seed=reserved, evaluation=True, tilted=1.0) == made(reserved, 1)


def test_sets_before_tilted_cameras_have_none(copy: Path) -> None:
    marker = json.loads((copy / "worlds.json").read_text())
    del marker["tilted"]
    (copy / "worlds.json").write_text(json.dumps(marker))
    with pytest.raises(UserError, match=r"tilted = 0\.0, now 0\.25"):
        render(copy)
    assert render(copy, tilted=0.0).total == 0
