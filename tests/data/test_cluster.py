"""Ray: the same shards from the workers of a cluster as from one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.gallery import SETTINGS, files, gallery, write_table

from jointnet_cli.data.job import PrepareJob, Tally
from jointnet_cli.data.plan import open_plan
from jointnet_cli.data.settings import Filter, Sifting
from jointnet_cli.data.web.download import download_shards

pytestmark = pytest.mark.slow

COUNT = 60


def test_the_same_shards_from_two_ray_workers(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from jointnet_cli.data.prepare import gather_on_ray

    with gallery(COUNT, missing=range(3)) as web:
        table = write_table(tmp_path / "t.csv", web, COUNT)
        one, many, seen = Tally(), Tally(), []
        for out in (tmp_path / "one", tmp_path / "many"):
            shards = open_plan(out, Sifting(str(table), {}, Filter(), 5)).shards()
        download_shards(PrepareJob(tmp_path / "one", SETTINGS), shards, one)
        gather_on_ray(PrepareJob(out, SETTINGS), shards, many, "local", lambda tally: seen.append(tally.done))
    assert not ray.is_initialized()
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert len(files(tmp_path / "one")) == 2 * COUNT // 5
    assert many.statuses == one.statuses
    assert sorted(many.shards) == list(range(COUNT // 5))
    assert seen[-1] == COUNT
