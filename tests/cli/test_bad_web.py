"""`prepare` on a web that answers in every bad way: each row ends in its own counted class, and the good ones in shards."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import duckdb
from helpers.answers import ANSWERS, ELSEWHERE, SETTINGS
from helpers.gallery import content
from helpers.shards import find_shards, read_shards
from helpers.web import Web, running

RECIPE = f"""
[filter]
side_above = {SETTINGS.min_side - 1}
aspect_below = {SETTINGS.filter.aspect_below}
[image]
size = {SETTINGS.image.size}
[shards]
size = 20
[fetch]
"""
LIMITS = (
    "max_bytes",
    "max_pixels",
    "stall_timeout",
    "min_rate",
    "rate_grace",
    "retry_delay",
    "max_retry_delay",
    "max_redirects",
    "per_host",
)


def test_every_row_is_counted_once(invoke) -> None:
    assert len(ANSWERS) + len(ELSEWHERE) >= 25
    web = Web()
    web.answers = {path: answer for path, (answer, _) in ANSWERS.items()}
    with running(web):
        wanted = {web.url(path): status for path, (_, status) in ANSWERS.items()}
        # A table names no file outside of its folder.
        wanted |= {url: status for url, status in ELSEWHERE.items() if url and status != "unreadable_file"}
        rows = [{"url": url, "text": f"a caption\0of {n}\n\n lines"} for n, url in enumerate(wanted)]
        Path("links.jsonl").write_text("\n".join(map(json.dumps, rows)))
        limits = [f"{name} = {getattr(SETTINGS.fetch, name)}" for name in LIMITS]
        networks = f"allowed_networks = {json.dumps(list(SETTINGS.fetch.allowed_networks))}"
        Path("recipe.toml").write_text(RECIPE + "\n".join([*limits, networks, 'roots = ["/dev"]']))
        ran = invoke("prepare", "links.jsonl", "--recipe", "recipe.toml", "--out", "set")
    assert ran.exit_code == 0, ran.stderr
    found = dict(duckdb.sql("SELECT url, status FROM 'set/*.parquet'").fetchall())
    assert found == wanted
    report = json.loads(Path("set/report.json").read_text())
    assert Counter(report["causes"]) + Counter(success=report["images"]["successes"]) == Counter(found.values())
    samples = list(read_shards(find_shards("set")))
    assert len(samples) == report["images"]["successes"] == len(content(Path("set"))) / 3
    for sample in samples:
        assert sample.image.shape == (SETTINGS.image.size, SETTINGS.image.size, 3)
        assert "\n" not in sample.caption and "\0" not in sample.caption and sample.caption.endswith(" lines")
        assert "\0" in sample.record["caption"]
