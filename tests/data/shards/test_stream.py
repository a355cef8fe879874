"""Micro-batches from shards: the same samples however they are divided into processes, workers and calls."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shard_web import serving
from helpers.shards import write_shard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jointnet_cli.data.shards.format import Sample
from jointnet_cli.data.shards.index import Shard, count_samples, list_shards
from jointnet_cli.data.shards.order import SampleOrder, slice_shards
from jointnet_cli.data.shards.stream import PixelBatch, ShardStream
from jointnet_cli.errors import UserError
from jointnet_cli.training.determinism import RankSampler

CPU = torch.device("cpu")
COUNTS = (5, 1, 7, 2)
STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four uneven shards; every image is of the one colour that its caption says."""
    place = tmp_path_factory.mktemp("set")
    numbers = iter(range(sum(COUNTS)))
    for shard, count in enumerate(COUNTS):
        write_shard(place / f"{shard:05}.tar", [sample(next(numbers)) for _ in range(count)])
    return place


def sample(number: int, depth: bool = True) -> Sample:
    image = np.full((8, 8, 3), number, np.uint8)
    inverse_depth = np.full((8, 8), 0.1, np.float32) if depth else None
    return Sample(f"{number:03}", image, str(number), inverse_depth, None, {})


def stream(
    shards: Sequence[Shard], share: RankSampler, step: int = 0, *, shuffle: int = 3, seed: int = 0
) -> ShardStream:
    sample_order = SampleOrder(slice_shards([shard.count for shard in shards], share.total), share.total, seed, shuffle)
    return ShardStream(shards, sample_order, share.slots, share.batch, step, ("depth",), 8)


def numbers(found: Sequence[PixelBatch]) -> list[list[int]]:
    """The samples of micro-batches, which have to be whole."""
    for squares in found:
        rows = len(squares.rows)
        assert squares.rows == list(range(rows)) and squares.images.shape == (rows, 3, 8, 8)
        assert squares.maps["depth"].shape == (rows, 1, 8, 8) and squares.maps["depth"].dtype == torch.float16
        assert squares.captions == [str(value) for value in squares.images[:, 0, 0, 0].tolist()]
        assert squares.crop_conditioning.tolist() == [[8, 8, 0, 0]] * rows
    return [[int(caption) for caption in squares.captions] for squares in found]


def read(
    shards: Sequence[Shard], share: RankSampler, step: int = 0, *, steps: int = STEPS, workers: int = 0
) -> list[list[int]]:
    micros = steps * share.accumulation
    return numbers(list(islice(stream(shards, share, step).read(CPU, workers), micros)))


def flat(micros: Sequence[Sequence[int]]) -> list[int]:
    return [number for micro in micros for number in micro]


def test_every_sample_once_an_epoch(folder: Path) -> None:
    shards = count_samples(list_shards(str(folder)))
    [seen] = zip(*read(shards, RankSampler(1), steps=2 * sum(COUNTS)), strict=True)
    assert sorted(seen[: sum(COUNTS)]) == sorted(seen[sum(COUNTS) :]) == list(range(sum(COUNTS)))
    assert seen[: sum(COUNTS)] != seen[sum(COUNTS) :]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    step=st.integers(0, 15),
    total=st.sampled_from([4, 8]),
    accumulation=st.sampled_from([1, 2]),
    processes=st.sampled_from([1, 2]),
)
def test_a_step_is_the_same_however_it_is_divided(
    folder: Path, step: int, total: int, accumulation: int, processes: int
) -> None:
    shards = count_samples(list_shards(str(folder)))
    whole = read(shards, RankSampler(total), steps=step + 2)[step:]
    batch = total // accumulation // processes
    shares = [RankSampler(batch, accumulation, processes, process) for process in range(processes)]
    parts = [read(shards, share, step, steps=2) for share in shares]
    for nth in range(2):
        micros = [micro for part in parts for micro in part[nth * accumulation : (nth + 1) * accumulation]]
        assert flat(micros) == whole[nth]


def test_the_number_of_workers_changes_nothing(folder: Path) -> None:
    shards = count_samples(list_shards(str(folder)))
    share = RankSampler(2, accumulation=3, processes=2, process=1)
    state = torch.get_rng_state()
    assert read(shards, share, 3, workers=3) == read(shards, share, 3)
    assert torch.equal(torch.get_rng_state(), state), "the training's own random numbers"


def test_shards_of_the_web(folder: Path) -> None:
    local = count_samples(list_shards(str(folder)))
    with serving(folder, breaks=1) as web:
        remote = count_samples(list_shards(f"{web.url}/{{00000..00003}}.tar"))
        assert read(remote, RankSampler(2), 5, workers=2) == read(local, RankSampler(2), 5)
        assert web.breaks < 0


def test_no_byte_is_sent_twice(tmp_path: Path) -> None:
    """With as many shards as slots every shard is read by one slot of one worker."""
    for shard in range(4):
        write_shard(tmp_path / f"{shard:05}.tar", [sample(12 * shard + number) for number in range(12)])
    with serving(tmp_path) as web:
        shards = count_samples(list_shards(f"{web.url}/{{00000..00003}}.tar"))
        web.sent.clear()
        found = stream(shards, RankSampler(4)).read(CPU, 2)
        next(found)
        found.close()
        assert {name: web.sent[name] for name in web.sent} == {
            f"{number:05}.tar": (tmp_path / f"{number:05}.tar").stat().st_size for number in range(4)
        }


def test_unusable_samples_are_replaced_and_the_others_stay(tmp_path: Path) -> None:
    sound = [sample(number) for number in range(12)]
    write_shard(tmp_path / "sound.tar", sound)
    lacking = [sample(number, depth=number not in (4, 5)) for number in range(12)]
    write_shard(tmp_path / "lacking.tar", lacking)
    found = []
    for name in ("sound", "lacking"):
        shards = count_samples([str(tmp_path / f"{name}.tar")])
        micros = list(islice(stream(shards, RankSampler(1), shuffle=6).read(CPU, 0), 24))
        found.append(flat(numbers(micros)))
    notes = [note for squares in micros for note in squares.replaced]
    assert [cause for cause, _ in notes] == ["no depth map"] * 4
    assert {which.split()[0] for _, which in notes} == {"004", "005"}
    for place, (whole, number) in enumerate(zip(*found, strict=True)):
        block = found[0][place - place % 6 : place - place % 6 + 6]
        expected = whole
        while expected in (4, 5):  # the next of the block
            expected = block[(block.index(expected) + 1) % 6]
        assert number == expected
    later = list(islice(stream(shards, RankSampler(1), 7, shuffle=6).read(CPU, 0), 17))
    assert flat(numbers(later)) == found[1][7:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_block_without_any_usable_sample(tmp_path: Path, workers: int) -> None:
    write_shard(tmp_path / "00000.tar", [sample(number, depth=False) for number in range(6)])
    with pytest.raises(
        UserError, match=r"none of the samples \d to \d of .*00000\.tar can be used: no depth map$"
    ) as caught:
        read(count_samples([str(tmp_path / "00000.tar")]), RankSampler(2), workers=workers)
    assert "data.label" in str(caught.value.hint)


def test_a_shard_that_holds_less_than_its_stats_say(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", [sample(number) for number in range(6)])
    with pytest.raises(UserError, match="has 6 samples with an image rather than 9"):
        read([Shard(str(tmp_path / "00000.tar"), 9)], RankSampler(1), steps=9)


def test_a_worker_that_is_killed(folder: Path) -> None:
    found = stream(count_samples(list_shards(str(folder))), RankSampler(2)).read(CPU, 1)
    next(found)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGKILL)
    with pytest.raises(UserError, match="a process that reads the shards died"):
        for _ in range(100):
            next(found)


SCRIPT = """
import sys, multiprocessing, torch
from jointnet_cli.data.shards.order import SampleOrder, slice_shards
from jointnet_cli.data.shards.index import count_samples, list_shards
from jointnet_cli.data.shards.stream import ShardStream

if __name__ == "__main__":
    shards = count_samples(list_shards(sys.argv[1]))
    order = SampleOrder(slice_shards([shard.count for shard in shards], 2), 2, 0, 3)
    found = ShardStream(shards, order, range(2), 2, 0, (), 8).read(torch.device("cpu"), 2)
    next(found)
    try:
        print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        for _ in range(20):
            next(found)
        print("went on", flush=True)
    sys.stdin.read()
"""


def test_workers_end_with_the_training_and_not_before(folder: Path, tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to all processes, is the training's alone; a kill of the training ends its workers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, script, folder], **pipes, text=True, start_new_session=True) as run:
        assert run.stdout is not None and run.stderr is not None
        workers = [int(word) for word in run.stdout.readline().split()]
        assert len(workers) == 2
        os.killpg(run.pid, signal.SIGINT)
        assert run.stdout.readline() == "went on\n"
        run.kill()
        deadline = time.monotonic() + 20
        while any(map(alive, workers)):
            assert time.monotonic() < deadline, "workers outlive the training"
            time.sleep(0.05)
        assert "Traceback" not in run.stderr.read()


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
