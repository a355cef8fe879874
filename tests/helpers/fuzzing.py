"""Damaged inputs, and readers that may refuse them but do nothing else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.answers import SETTINGS
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from jointnet_cli.cli.images import list_items
from jointnet_cli.cli.inputs import InputReader, stated_panorama
from jointnet_cli.cli.options import BatchOptions
from jointnet_cli.cli.scene_inputs import find_scene, read_scene, scene_projection
from jointnet_cli.convert.change import change
from jointnet_cli.convert.content import SourceOptions, TargetOptions
from jointnet_cli.convert.read import read_content
from jointnet_cli.data.folders import images_in_shards, write_index
from jointnet_cli.data.shards.archive import read_entries
from jointnet_cli.data.shards.format import MAP_SUFFIXES, unpack
from jointnet_cli.data.shards.index import count_samples, read_samples
from jointnet_cli.data.shards.samples import UnusableSample, crop_sample
from jointnet_cli.data.verify import check_shard
from jointnet_cli.data.web.hosts import parse_url
from jointnet_cli.data.web.http import Limits, get, open_client
from jointnet_cli.data.web.status import FetchError, Status
from jointnet_cli.errors import UserError
from jointnet_cli.files.maps import header_size, read_map, read_mask
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.task_inputs import MapFiles, ViewOptions
from jointnet_cli.tasks import Depth, Generate, Panorama

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
some = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

made = 0
"""Inputs in this process so far."""


def damaged(draw: st.DataObject, data: bytes) -> bytes:
    """Change some bytes, most of them in the header, and perhaps cut the end off or add some."""
    global made
    made += 1
    changed = bytearray(data)
    place = st.integers(0, min(len(data), 600) - 1) | st.integers(0, len(data) - 1)
    value = st.sampled_from([0, 1, 2, 4, 127, 128, 255]) | st.integers(0, 255)
    for at, byte in draw.draw(st.lists(st.tuples(place, value), max_size=6)):
        changed[at] = byte
    cut = draw.draw(st.none() | st.integers(0, len(data)))
    return bytes(changed[:cut]) + draw.draw(st.binary(max_size=4))


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "\0",
    "../..",
    "x" * 5000,
    [],
    {},
    [[1]],
    "7",
]


def changed_record(draw: st.DataObject, record: dict[str, Any]) -> Any:
    """Replace some values of a record by values that do not belong there."""
    global made
    made += 1
    copy = json.loads(json.dumps(record))
    for _ in range(draw.draw(st.integers(1, 3))):
        inside: Any = copy
        while True:
            key = draw.draw(st.sampled_from(sorted(inside)))
            if not (isinstance(inside[key], dict) and inside[key] and draw.draw(st.booleans())):
                break
            inside = inside[key]
        inside[key] = draw.draw(st.sampled_from(ODD))
    return copy


def attempt(*calls: Callable[[], object]) -> None:
    """Make the calls; each may refuse its input."""
    for call in calls:
        try:
            call()
        except (UserError, FetchError, UnusableSample) as error:
            assert str(error)


def read_everywhere(path: Path) -> None:
    reader = InputReader(quiet=True)
    attempt(
        lambda: reader.image(path),
        lambda: header_size(path),
        lambda: stated_panorama(path),
        lambda: read_mask(path),
        lambda: read_map(path, "depth"),
        lambda: read_map(path, "normal"),
        lambda: reader._maps(MapFiles(depth=path)),
        lambda: change(read_content(path, SourceOptions()), TargetOptions("exr", projection="equirectangular")),
        lambda: scene(path),
    )


def scene(path: Path, depth: Path | None = None) -> None:
    found = find_scene(path, depth or path if path.suffix != ".json" else depth, path.parent)
    _ = found.title, found.seed
    read_scene(found, scene_projection(found, ViewOptions()), SceneOptions(), quiet=True)


def read_shard(path: Path) -> None:
    """Read a shard as training, evaluation, `prepare` and `prepare --verify` do."""
    maps = tuple(MAP_SUFFIXES)

    def decode() -> None:
        for raw in read_samples(str(path)):
            attempt(lambda raw=raw: unpack(raw, maps), lambda raw=raw: crop_sample(raw, ["depth", "normal"], 8))

    def rewrite() -> None:
        for entry in read_entries(path):
            with suppress(ValueError):  # what callers of it expect
                _ = entry.record

    attempt(
        decode,
        rewrite,
        lambda: count_samples([str(path)]),
        lambda: write_index(images_in_shards([path]), path.with_suffix(".index")),
        lambda: check_shard(path),
    )


def read_batch(path: Path) -> None:
    """List the items of a batch file for several tasks."""
    reader = InputReader(quiet=True)
    attempt(
        *[
            lambda request=request: list(list_items(request, BatchOptions(prompts=str(path)), reader))
            for request in (Generate(), Depth(), Panorama())
        ]
    )


async def _get(url: str) -> None:
    hasty = replace(SETTINGS.fetch, stall_timeout=0.3)
    async with open_client(hasty) as client:
        await get(client, parse_url(url), hasty, Limits(hasty))


def ask(url: str) -> None:
    """Make one request of a download."""
    try:
        asyncio.run(_get(url))
    except FetchError as error:
        assert error.status != Status.UNEXPECTED, error
