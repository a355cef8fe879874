"""Ray: the same shards from the workers of a cluster as from one process."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.gallery import files, gallery, settings_of, write_table

from jointnet_cli.data.build import open_plan
from jointnet_cli.data.job import PrepareJob
from jointnet_cli.data.plan import open_world_plan
from jointnet_cli.data.prepare import LOCAL, _work, prepare
from jointnet_cli.data.settings import prepare_settings
from jointnet_cli.data.source_files import Source

pytestmark = pytest.mark.slow

COUNT = 60


def test_the_same_shards_from_two_ray_workers(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    settings, seen = settings_of(5), list[int]()
    with gallery(COUNT, missing=range(3)) as web:
        table = Source((str(write_table(tmp_path / "t.csv", web, COUNT)),))
        one, many = (
            PrepareJob(out, open_plan(out, table, settings), settings) for out in (tmp_path / "one", tmp_path / "many")
        )
        first = prepare(one)
        second = prepare(replace(many, cluster=LOCAL), lambda tally: seen.append(tally.done))
    assert not ray.is_initialized()
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert len(files(tmp_path / "one")) == 2 * COUNT // 5
    assert (second.made, second.failed) == (first.made, first.failed)
    assert sorted(second.written) == [many.path(number) for number in range(COUNT // 5)]
    assert seen[-1] == COUNT


def test_a_job_of_worlds_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    settings = prepare_settings(flags={"image": {"size": 16}, "shards": {"size": 2}}, worlds=True)
    one, many = (
        PrepareJob(out, open_world_plan(out, settings, 5), settings) for out in (tmp_path / "one", tmp_path / "many")
    )
    prepare(one)
    tallies = [_work(pickle.loads(pickle.dumps(replace(many, processes=1))), [number]) for number in many.shards]
    assert sum(tally.made.total() for tally in tallies) == 5
    assert files(tmp_path / "many") == files(tmp_path / "one")
