"""`prepare`: reproducible shards, rendered once, with nothing half-written left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.shards import read_shards

from jointnet_cli.data.shards.format import is_complete, stats_path
from jointnet_cli.data.shards.writer import claim_shard
from jointnet_cli.data.worlds.dataset import PrepareReport, PrepareWorlds, prepare_worlds
from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.errors import UserError

PROJECT = Path(__file__).parents[3]
COUNT, SIZE = 6, 32

Content = list[tuple[str, str, bytes, bytes, bytes]]


def request(out: Path, **changes: float | bool) -> PrepareWorlds:
    return PrepareWorlds(out, **{"count": COUNT, "size": SIZE, "shard_size": 2, "workers": 1, **changes})  # type: ignore[arg-type]


def content(*shards: Path) -> Content:
    """Key, caption and the bytes of all pixels of every sample."""
    found = []
    for sample in read_shards(shards):
        assert sample.inverse_depth is not None and sample.normal is not None
        pixels = sample.image.tobytes(), sample.inverse_depth.tobytes(), sample.normal.tobytes()
        found.append((sample.key, sample.caption, *pixels))
    return found


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> PrepareReport:
    return prepare_worlds(request(tmp_path_factory.mktemp("worlds")))


@pytest.fixture
def copy(rendered: PrepareReport, tmp_path: Path) -> Path:
    """A folder of its own with the rendered set."""
    for path in rendered.shards[0].parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_shards_of_the_asked_for_worlds(rendered: PrepareReport) -> None:
    assert rendered.written == COUNT and rendered.skipped == 0 and rendered.seconds > 0
    assert [path.name for path in rendered.shards] == ["00000.tar", "00001.tar", "00002.tar"]
    assert all(map(is_complete, rendered.shards))
    samples = list(read_shards(rendered.shards))
    assert [sample.record["seed"] for sample in samples] == list(range(COUNT))
    for sample in samples:
        assert sample.image.shape == (SIZE, SIZE, 3) and sample.caption
        assert sample.inverse_depth is not None and sample.inverse_depth.shape == (SIZE, SIZE)
        assert sample.normal is not None and sample.normal.shape == (SIZE, SIZE, 3)
    assert len({sample.image.tobytes() for sample in samples}) == COUNT


def test_the_last_shard_holds_the_rest(tmp_path: Path) -> None:
    assert [len(seeds) for _, seeds in request(tmp_path, count=5).shards()] == [2, 2, 1]


def test_a_finished_set_is_not_rendered_again(copy: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    report = prepare_worlds(request(copy))
    assert report.written == 0 and report.skipped == COUNT
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


@pytest.mark.parametrize("loss", ["stats", "shard"])
def test_only_what_is_missing_is_rendered_again(rendered: PrepareReport, copy: Path, loss: str) -> None:
    shards = [copy / path.name for path in rendered.shards]
    (stats_path(shards[1]) if loss == "stats" else shards[1]).unlink()
    before = [shard.stat().st_mtime_ns for shard in (shards[0], shards[2])]
    seen: list[tuple[int, int]] = []
    report = prepare_worlds(request(copy), lambda done, count: seen.append((done, count)))
    assert report.written == 2 and report.skipped == 4
    assert seen == [(COUNT, COUNT)]
    assert [shard.stat().st_mtime_ns for shard in (shards[0], shards[2])] == before
    assert content(*shards) == content(*rendered.shards)


def test_the_same_worlds_give_the_same_bytes(rendered: PrepareReport, tmp_path: Path) -> None:
    again = prepare_worlds(request(tmp_path, count=2))
    assert again.shards[0].read_bytes() == rendered.shards[0].read_bytes()


def test_a_shard_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    with claim_shard(tmp_path / "00000.tar") as held:
        assert held is not None
        held.write(iter(()))
        before = sorted(tmp_path.iterdir())
        assert prepare_worlds(request(tmp_path, count=3)).written == 1
        assert set(before) < set(tmp_path.iterdir()) and not is_complete(held.path)
    assert prepare_worlds(request(tmp_path, count=3)).written == 2
    assert not list(tmp_path.glob(".*"))


def test_a_set_grows_by_a_larger_count(rendered: PrepareReport, tmp_path: Path) -> None:
    short = prepare_worlds(request(tmp_path, count=3))
    assert short.written == 3
    report = prepare_worlds(request(tmp_path, count=4))
    assert (report.written, report.skipped) == (1, 3)
    assert content(*report.shards) == content(*rendered.shards[:2])


def test_progress_reaches_the_count(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepare_worlds(request(tmp_path, count=3), lambda done, count: seen.append((done, count)))
    assert seen == [(2, 3), (3, 3)]


@pytest.mark.parametrize("change", [{"seed": 2}, {"size": 16}, {"shard_size": 3}])
def test_another_set_in_the_same_folder_is_refused(copy: Path, change: dict[str, int]) -> None:
    with pytest.raises(UserError, match="another set of worlds") as caught:
        prepare_worlds(request(copy, **change))
    assert caught.value.hint is not None and "--out" in caught.value.hint
    assert all(is_complete(copy / f"{number:05}.tar") for number in range(3))


def test_evaluation_seeds_are_reserved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reserved") as caught:
        request(tmp_path, seed=EVALUATION_SEEDS - COUNT + 1)
    assert caught.value.hint is not None and "--evaluation" in caught.value.hint
    request(tmp_path, seed=EVALUATION_SEEDS - COUNT)
    with pytest.raises(UserError, match="evaluation set"):
        request(tmp_path, seed=EVALUATION_SEEDS - 1, evaluation=True)
    request(tmp_path, seed=EVALUATION_SEEDS, evaluation=True)


def test_the_first_seed_depends_on_the_set(tmp_path: Path) -> None:
    assert [request(tmp_path, seed=None, evaluation=kind).first_seed for kind in (False, True)] == [0, 1_000_000_000]
    assert request(tmp_path, seed=None, evaluation=True).shards()[0][1][0] == 1_000_000_000


@pytest.mark.parametrize("change", [{"count": 0}, {"size": 15}, {"shard_size": 0}, {"seed": -1}, {"workers": 0}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    name = next(iter(change)).replace("_", " ")
    with pytest.raises(UserError, match=f"{name}.* at least {1 if name == 'workers' else ''}"):
        request(tmp_path, **change)


ENDLESS = """
import sys
from pathlib import Path
from jointnet_cli.data.worlds.dataset import PrepareWorlds, prepare_worlds

if __name__ == "__main__":
    request = PrepareWorlds(Path(sys.argv[1]), count=100_000, size=32, shard_size=2, workers=2)
    prepare_worlds(request, lambda done, count: print(done, flush=True))
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


def test_ctrl_c_ends_the_workers_and_leaves_whole_shards(rendered: PrepareReport, tmp_path: Path) -> None:
    script, out = tmp_path / "endless.py", tmp_path / "out"
    script.write_text(ENDLESS)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    process = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[-1] == "8\n"
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
    common = [path for path in rendered.shards if is_complete(out / path.name)]
    assert common and content(*common) == content(*(out / path.name for path in common))


def cameras(report: PrepareReport) -> list[float]:
    return [sample.record["scene"]["camera"]["pitch"] for sample in read_shards(report.shards)]


def test_a_share_of_training_worlds_is_tilted_and_no_evaluation_world_unless_asked(tmp_path: Path) -> None:
    def pitches(name: str, **changes: float | bool) -> list[float]:
        return cameras(prepare_worlds(request(tmp_path / name, size=16, count=2, **changes)))

    def made(seed: int, share: float) -> list[float]:
        return [sample_world(seed + i, share).camera.pitch for i in range(2)]

    seed, reserved = next(seed for seed in range(99) if made(seed, 0.25) != made(seed, 0)), EVALUATION_SEEDS + 40
    assert pitches("training", seed=seed) == made(seed, 0.25)
    assert pitches("level", seed=seed, tilted=0.0) == made(seed, 0)
    assert pitches("reserved", seed=reserved, evaluation=True) == made(reserved, 0) != made(reserved, 1)
    assert pitches("asked", seed=reserved, evaluation=True, tilted=1.0) == made(reserved, 1)


def test_a_folder_keeps_to_one_share_of_tilted_cameras(copy: Path) -> None:
    with pytest.raises(UserError, match=r"another set of worlds: .*'tilted': 0\.25"):
        prepare_worlds(request(copy, tilted=0.5))
    marker = json.loads((copy / "worlds.json").read_text())
    del marker["tilted"]  # as it was before there were any
    (copy / "worlds.json").write_text(json.dumps(marker))
    with pytest.raises(UserError, match=r"another set of worlds: .*'tilted': 0\.0"):
        prepare_worlds(request(copy))
    assert prepare_worlds(request(copy, tilted=0.0)).skipped == COUNT


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(tmp_path: Path, share: float) -> None:
    with pytest.raises(UserError, match="--tilted must be between 0 and 1"):
        request(tmp_path, tilted=share)
