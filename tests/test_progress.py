"""Phases of a result: their seconds and their progress."""

from __future__ import annotations

import time

import pytest

from jointnet_cli.progress import Timer


def test_seconds_of_a_phase_add_up_also_where_it_fails():
    timer = Timer(seconds={"denoise": 1.0})
    with timer.phase("denoise"):
        time.sleep(0.02)
    with pytest.raises(ValueError, match="stop"), timer.phase("decode"):
        time.sleep(0.02)
        raise ValueError("stop")
    assert list(timer.seconds) == ["denoise", "decode"]
    assert 1.02 <= timer.seconds["denoise"] < 2
    assert 0.02 <= timer.seconds["decode"] < 1


def test_a_phase_is_reported_when_it_begins_and_as_it_advances():
    seen: list[tuple[str, int, int]] = []
    timer = Timer(lambda *words: seen.append(words))
    with timer.phase("denoise") as advance:
        advance(1, 3)
    with timer.share(1, 4).phase("denoise") as advance:
        advance(2, 3)
    assert seen == [("denoise", 0, 0), ("denoise", 1, 3), ("denoise", 0, 0), ("denoise", 5, 12)]
    assert list(timer.seconds) == ["denoise"]


def test_phases_have_names():
    with pytest.raises(ValueError, match="unknown phase paint"), Timer().phase("paint"):
        pass
