"""Rows a second and peak memory of the filter, on generated metadata of COYO-700M's schema.

    python benchmarks/filter.py --rows 2000000 8000000 --parts 4

The rows are made once and kept in `--folder`. About a tenth passes the paper's bounds, of which some are duplicates by
`image_phash` or by url. Every size is filtered by the recipe `prepare/coyo` in a process of its own, from the start of the
filter to the finished plan; its peak memory is the process's, with Python and DuckDB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

COLUMNS = """
    number AS id,
    'https://host' || (hash(number, 1) % 5000) || '.example.com/images/' || md5((number - number % 50 // 49)::VARCHAR)
        || '.jpg' AS url,
    'a photo of ' || md5((number * 7)::VARCHAR) || ' on a day in spring' AS "text",
    printf('%016x', (hash(number - number % 10 // 9, 2) >> 1)::BIGINT) AS image_phash,
    (200 + hash(number, 3) % 1400)::INTEGER AS width,
    (200 + hash(number, 4) % 1400)::INTEGER AS height,
    (20 + hash(number, 5) % 80)::INTEGER AS text_length,
    (3 + hash(number, 6) % 12)::INTEGER AS word_count,
    (4 + hash(number, 7) % 14)::INTEGER AS num_tokens_bert,
    (4 + hash(number, 8) % 14)::INTEGER AS num_tokens_gpt,
    (hash(number, 9) % 3)::INTEGER AS num_faces,
    (hash(number, 10) % 10000 / 25000)::FLOAT AS clip_similarity_vitb32,
    (hash(number, 11) % 10000 / 25000)::FLOAT AS clip_similarity_vitl14,
    (hash(number, 12) % 10000 / 10000)::FLOAT AS nsfw_score_opennsfw2,
    (hash(number, 13) % 10000 / 10000)::FLOAT AS nsfw_score_gantman,
    (hash(number, 14) % 10000 / 10000)::FLOAT AS watermark_score,
    (3 + hash(number, 15) % 10000 / 3333)::FLOAT AS aesthetic_score_laion_v2
"""
"""Every fiftieth url and every tenth hash is that of the row before."""


def make_metadata(folder: Path, rows: int, parts: int) -> Path:
    """Parquet files of so many rows in all, snappy-compressed as COYO's are."""
    made = folder / f"coyo-{rows}-{parts}"
    if made.exists():
        return made
    building = made.with_suffix(".building")
    building.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '1GB'; SET threads = 2")
        for part in range(parts):
            start, stop = rows * part // parts, rows * (part + 1) // parts
            connection.execute(
                f"COPY (SELECT {COLUMNS} FROM range({start}, {stop}) AS numbers(number)) "
                f"TO '{building}/part-{part:05}.parquet' (FORMAT parquet, COMPRESSION snappy)"
            )
    return building.rename(made)


def measure(source: Path) -> dict[str, object]:
    """Filter one source in this process."""
    from jointnet_cli.data.build import build_plan
    from jointnet_cli.data.settings import prepare_settings
    from jointnet_cli.data.source_files import Source

    settings = prepare_settings("prepare/coyo")
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        started, before = time.monotonic(), os.times()
        plan = build_plan(Source((str(source),)), settings, Path(folder))
        seconds, after = time.monotonic() - started, os.times()
    rows = plan.funnel["rows read"]
    return {
        "rows": rows,
        "megabytes": round(sum(path.stat().st_size for path in source.iterdir()) / 1e6),
        "seconds": round(seconds, 2),
        "rows_per_second": round(rows / seconds),
        "cpu_seconds": round(after.user + after.system - before.user - before.system, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "funnel": plan.funnel,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000, 8_000_000])
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "jointnet-filter"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    for rows in options.rows:
        source = make_metadata(options.folder, rows, options.parts)
        command = [sys.executable, __file__, "--measure", str(source)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        machine = {"cores": os.cpu_count(), "duckdb": duckdb.__version__, "python": platform.python_version()}
        print(json.dumps({**found, **machine}), flush=True)


if __name__ == "__main__":
    main()
