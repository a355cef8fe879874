"""The plan of a set: rows that pass every bound, once, in the order of the source, from every kind of table."""

from __future__ import annotations

import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from helpers.gallery import settings_of
from helpers.shards import write_tar

from jointnet_cli.data import build, sql
from jointnet_cli.data.build import build_plan, open_plan
from jointnet_cli.data.filter import conditions
from jointnet_cli.data.plan import Plan, image_facts
from jointnet_cli.data.rows import OFFSET, ImageRow, local_path
from jointnet_cli.data.settings import FilterSettings, ImageSettings, PrepareSettings, ShardSettings
from jointnet_cli.data.source_files import Source
from jointnet_cli.data.sources import SourceTable
from jointnet_cli.data.web.fetch import _first_url
from jointnet_cli.data.web.status import FetchError
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import claim

COYO = FilterSettings(side_above=512, watermark_below=0.5, aesthetic_above=5, dedupe=["image_phash", "url"])
COLUMNS = {
    "id": "BIGINT",
    "url": "VARCHAR",
    "text": "VARCHAR",
    "image_phash": "VARCHAR",
    "width": "INTEGER",
    "height": "INTEGER",
    "watermark_score": "FLOAT",
    "aesthetic_score_laion_v2": "FLOAT",
}
ROWS = 9000
Rows = list[dict[str, Any]]


def coyo_rows() -> Rows:
    """Rows of COYO's schema with duplicates and gaps."""
    draw = random.Random(5)

    def maybe(value: Any) -> Any:
        return None if draw.random() < 0.02 else value

    return [
        {
            "id": number,
            "url": maybe(f"https://example.com/{draw.randrange(ROWS)}.jpg"),
            "text": maybe(f"words, “quoted” and\nbroken {number}"),
            "image_phash": maybe(f"{draw.randrange(ROWS // 2):016x}"),
            "width": maybe(draw.choice([300, 512, 513, 800])),
            "height": maybe(draw.choice([512, 513, 700, 900])),
            "watermark_score": maybe(draw.choice([0.1, 0.499, 0.5, 0.9])),
            "aesthetic_score_laion_v2": maybe(draw.choice([4.5, 5.0, 5.001, 6.0])),
        }
        for number in range(ROWS)
    ]


def expected(rows: Rows) -> tuple[list[int], list[tuple[str, int]]]:
    """The ids that the paper's filter leaves, in order, and the funnel, row by row in plain Python."""
    funnel = [("rows read", len(rows))]

    def keep(name: str, left: Rows) -> Rows:
        funnel.append((name, len(left)))
        return left

    def bounded(column: str, rule: Any) -> Rows:
        return [row for row in rows if row[column] is not None and rule(row[column])]

    rows = keep(
        "side_above 512",
        [r for r in rows if None not in (r["width"], r["height"]) and min(r["width"], r["height"]) > 512],
    )
    rows = keep("watermark_below 0.5", bounded("watermark_score", lambda score: score < 0.5))
    rows = keep("aesthetic_above 5", bounded("aesthetic_score_laion_v2", lambda score: score > 5))
    rows = keep("has a URL", bounded("url", bool))
    for column in ("image_phash", "url"):
        seen: set[str] = set()
        rows = keep(
            f"unique {column}",
            [r for r in rows if r[column] is None or not (r[column] in seen or seen.add(r[column]))],
        )
    return [row["id"] for row in rows], funnel


def write_source(folder: Path, rows: Rows, kind: str, parts: int = 1) -> Path:
    folder.mkdir()
    with duckdb.connect() as connection:
        table = folder.with_suffix(".rows")
        table.write_text("\n".join(map(json.dumps, rows)))
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE source AS SELECT * FROM read_json('{table}', columns = {{{columns}}})")
        table.unlink()
        for part in range(parts):
            start, stop = len(rows) * part // parts, len(rows) * (part + 1) // parts
            selected = f"SELECT * FROM source WHERE id >= {start} AND id < {stop} ORDER BY id"
            options = {"parquet": "FORMAT parquet, ROW_GROUP_SIZE 2048", "csv": "HEADER", "jsonl": "FORMAT json"}[kind]
            connection.execute(f"COPY ({selected}) TO '{folder}/part-{part:05}.{kind}' ({options})")
    return folder


def asked(source: object, **changes: Any) -> tuple[Source, PrepareSettings]:
    wanted = {
        "shard_size": 50,
        "wanted": COYO,
        **{"wanted" if key == "filter" else key: changes[key] for key in changes},
    }
    return Source((str(source),)), settings_of(**wanted)


def ids(plan: Plan) -> list[int]:
    return [row.fields["id"] for shard in plan.shards() for row in plan.read(shard)]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return coyo_rows()


@pytest.mark.parametrize(("kind", "parts"), [("parquet", 1), ("parquet", 5), ("csv", 3), ("jsonl", 2)])
def test_the_paper_s_filter_row_by_row(rows: Rows, tmp_path: Path, kind: str, parts: int) -> None:
    plan = build_plan(*asked(write_source(tmp_path / "source", rows, kind, parts)), tmp_path)
    wanted, funnel = expected(rows)
    assert list(plan.funnel.items()) == funnel
    assert ids(plan) == wanted and len(wanted) > 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "rows-00000.parquet", "source"]


def test_keys_are_places_and_fields_keep_their_values(rows: Rows, tmp_path: Path) -> None:
    plan = build_plan(*asked(write_source(tmp_path / "source", rows, "parquet")), tmp_path)
    found = [row for shard in plan.shards() for row in plan.read(shard)]
    assert [row.key for row in found] == [f"{number // 50:05}{number % 50:04}" for number in range(len(found))]
    for row in found:
        source = rows[row.fields["id"]]
        assert (row.url, row.caption) == (source["url"], source["text"] or "")
        # The download has a width and a height of its own.
        assert (row.fields["source_width"], row.fields["source_height"]) == (source["width"], source["height"])
        assert row.fields["image_phash"] == source["image_phash"]
    short = plan.shards(limit=120)
    assert (short, len(plan.positions(2, 120)), [row.key for row in plan.read(2, 120)][-1]) == (
        range(3),
        20,
        "000020019",
    )


def test_columns_of_other_names(tmp_path: Path) -> None:
    table = tmp_path / "links.csv"
    table.write_text("LINK,alt,w,h\nhttp://a/1,one,600,600\nhttp://a/2,two,100,600\n,three,600,600\n")
    plan = build_plan(
        *asked(table, columns={"width": "w", "height": "h"}, filter=FilterSettings(side_above=512)), tmp_path
    )
    assert plan.funnel == {"rows read": 3, "side_above 512": 2, "has a URL": 1, "unique url": 1}
    (row,) = plan.read(0)
    assert (row.url, row.caption, row.fields) == ("http://a/1", "one", {"source_width": 600, "source_height": 600})


@pytest.mark.parametrize(
    ("web_only", "left"),
    [
        (True, ["http://a", "https://b"]),
        (False, ["/etc/hostname", "http://a", "file:///x", "https://b", "xhttp://c"]),
    ],
)
def test_a_table_from_the_web_names_addresses_of_the_web_alone(tmp_path: Path, web_only: bool, left: list[str]) -> None:
    passed = tmp_path / "passed.parquet"
    addresses = "('/etc/hostname'), ('http://a'), (''), ('file:///x'), (NULL), ('https://b'), ('xhttp://c')"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE given AS SELECT *, '' AS caption FROM (VALUES {addresses}) AS listed(url)")
        table = SourceTable("given", ("url", "caption"), web_only)
        funnel = build._sift(connection, table, Source(("given",)), FilterSettings(caption_below=9), passed)
        assert funnel == {"rows read": 7, "caption_below 9": 7, "has a URL": len(left)}
        assert connection.execute(f"SELECT url FROM '{passed}'").fetchall() == [(url,) for url in left]


def test_words_pass_no_bound(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,width,height\nhttp://a,wide,high\nhttp://b,600,nan\nhttp://c,600,600\n")
    (tmp_path / "plan").mkdir()
    plan = build_plan(*asked(table, filter=FilterSettings(side_above=512)), tmp_path / "plan")
    assert [row.url for row in plan.read(0)] == ["http://c"]


def test_rows_beyond_the_last_shard_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_DIGITS", 2)
    lines = [f"http://{number}" for number in range(100)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["url", *lines, lines[0]]))
    assert build_plan(*asked(table, filter=FilterSettings(), shard_size=1), tmp_path).rows == 100
    table.write_text("\n".join(["url", *lines, lines[0], "http://100"]))
    with pytest.raises(UserError, match=r"^101 images do not fit into 100 shards of 1$") as caught:
        build_plan(*asked(table, filter=FilterSettings(), shard_size=1), tmp_path)
    assert caught.value.hint == "choose a larger --shard-size"


def test_a_database_is_in_memory_or_in_the_file_that_is_named(tmp_path: Path) -> None:
    for path, stored in ((None, None), (tmp_path / "work.db", str(tmp_path / "work.db"))):
        with sql.connect(path) as connection:
            databases = connection.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchall()
            assert databases == [(stored,)]
            threads = connection.execute("SELECT current_setting('threads')").fetchall()
            assert threads == [(min(os.cpu_count() or 1, 4),)]


def test_three_columns_are_deduplicated_one_after_the_other(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,a,b\nhttp://1,1,1\nhttp://2,1,2\nhttp://3,2,1\nhttp://1,3,3\nhttp://5,4,4\n")
    plan = build_plan(*asked(table, filter=FilterSettings(dedupe=["a", "b", "url"])), tmp_path)
    left = {"unique a": 4, "unique b": 3, "unique url": 2}
    assert plan.funnel == {"rows read": 5, "has a URL": 5, **left}
    assert ids_of(plan) == ["http://1", "http://5"]
    record = (tmp_path / "plan.json").read_text()
    assert record == json.dumps(json.loads(record), indent=1)  # readable


def test_columns_of_the_plan_itself_are_renamed(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,number,file_row_number,source_number\nhttp://a,1,2,3\n")
    (row,) = build_plan(*asked(table, filter=FilterSettings()), tmp_path).read(0)
    assert row.fields == {"source_number": 1, "source_file_row_number": 2, "source_source_number": 3}


def test_further_bounds(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    lines = [
        "good,600,700,0.1,0.2,0.4,http://a/good",
        "nsfw by one,600,700,0.1,0.9,0.4,http://a/2",
        "unlike,600,700,0.1,0.2,0.2,http://a/3",
        "wide,600,1200,0.1,0.2,0.4,http://a/4",
        "tiny,600,700,0.1,0.2,0.4,http://a/5",
        "far too long a text,600,700,0.1,0.2,0.4,http://a/6",
    ]
    names = "caption,width,height,nsfw_score_opennsfw2,nsfw_score_gantman,clip_similarity_vitl14,url"
    table.write_text("\n".join([names, *lines]).replace("tiny", "t"))
    bounds = FilterSettings(nsfw_below=0.5, clip_above=0.3, aspect_below=2, caption_above=2, caption_below=15)
    plan = build_plan(*asked(table, filter=bounds), tmp_path)
    assert list(plan.funnel.values()) == [6, 5, 4, 3, 2, 1, 1, 1]
    assert plan.read(0)[0].caption == "good"


def test_columns_with_bounds_are_found_in_any_case(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("URL,TEXT,WIDTH,Height,Score\nhttp://a,large,600,700,1\nhttp://b,small,600,500,2\n")
    plan = build_plan(*asked(table, filter=FilterSettings(side_above=512)), tmp_path)
    assert plan.funnel["side_above 512"] == 1
    (row,) = plan.read(0)
    assert (row.caption, row.fields) == ("large", {"source_width": 600, "source_height": 700, "Score": 1})
    plan = build_plan(*asked(table, filter=FilterSettings(side_above=1), columns={"width": "Score"}), tmp_path)
    assert plan.funnel["side_above 1"] == 1  # the column that was named, not the one of that name


def test_parts_of_a_large_plan_are_one_sequence(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BLOCK", 70)
    plan = build_plan(*asked(write_source(tmp_path / "source", rows, "parquet", 2)), tmp_path)
    assert len(list(tmp_path.glob("rows-*.parquet"))) > 4
    assert ids(plan) == expected(rows)[0]
    assert [row.key[5:] for row in plan.read(3)] == [f"{place:04}" for place in range(50)]
    assert "rows-00000.parquet" not in plan.select(3)  # only the files that hold the shard are read


def test_no_rows_no_shards(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,caption,width,height\nhttp://a,b,1,1\n")
    plan = build_plan(*asked(table, filter=FilterSettings(side_above=512)), tmp_path)
    assert plan.rows == 0 and list(plan.shards()) == []
    assert list(plan.positions(1)) == []


def test_a_plan_is_read_in_one_thread(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url\nhttp://a\n")
    build_plan(*asked(table, filter=FilterSettings()), tmp_path)
    assert sql.plan_cursor().execute("SELECT current_setting('threads')").fetchall() == [(1,)]


def test_a_source_is_recorded_by_a_name_that_holds_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for source, recorded in (("t.csv", str(tmp_path / "t.csv")), ("https://host/t.csv", "https://host/t.csv")):
        settings = settings_of(50, FilterSettings(side_above=512), {"url": "link"})
        assert image_facts(Source((source,)), settings) == {
            "source": recorded,
            "columns": {"url": "link"},
            "filter": {
                "side_above": 512,
                "watermark_below": None,
                "aesthetic_above": None,
                "nsfw_below": None,
                "clip_above": None,
                "aspect_below": None,
                "caption_above": None,
                "caption_below": None,
                "dedupe": ["url"],
            },
            "shard_size": 50,
            "image": {
                "size": 16,
                "resize": "center_crop",
                "quality": 95,
                "min_side": 513,
                "max_aspect": None,
                "max_bytes": 33554432,
                "max_pixels": 64000000,
                "opt_out": ["noai", "noimageai", "noindex", "noimageindex"],
            },
        }


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"columns": {"url": "linq"}}, "no column linq for url", "did you mean link?"),
        (
            {"filter": FilterSettings(watermark_below=0.5)},
            "^the filter watermark_below needs a column watermark_score; the source has ",
            "say which column it is with --columns watermark_score=watermark, or leave the filter watermark_below out",
        ),
        (
            {"filter": FilterSettings(dedupe=["zz"])},
            "^dedupe needs a column zz; the source has ",
            "say which column it is with --columns zz=NAME, or leave dedupe out",
        ),
    ],
)
def test_what_the_source_cannot_give(tmp_path: Path, changes: Any, message: str, hint: str | None) -> None:
    table = tmp_path / "t.csv"
    table.write_text("link,watermark\nhttp://a,0.1\n")
    with pytest.raises(UserError, match=message) as caught:
        build_plan(*asked(table, **{"filter": FilterSettings(), **changes}), tmp_path)
    assert caught.value.hint == hint


def test_a_source_without_sizes_is_not_bounded_by_size() -> None:
    bounds = FilterSettings(side_above=512, aspect_below=2, caption_below=10)
    assert conditions(bounds, ["url", "caption"]) == {"caption_below 10": "length(caption) < 10"}
    with pytest.raises(UserError, match=r"^the filter side_above needs a column height; the source has url, width$"):
        conditions(bounds, ["url", "width"])


def test_a_table_without_addresses(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"has no column of addresses; it has a, b$"):
        build_plan(*asked(table, filter=FilterSettings()), tmp_path)


@pytest.mark.parametrize(("name", "text"), [("t.parquet", "no parquet"), ("t.xyz", "")])
def test_files_that_are_no_source(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        build_plan(*asked(tmp_path / name), tmp_path)


def test_no_table_reaches_for_files_by_our_hidden_columns(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,__tar,__offset,__size,__OFFSET2\nhttp://a,/etc/hostname,0,9,1\n")
    (row,) = build_plan(*asked(table, filter=FilterSettings()), tmp_path).read(0)
    assert row.fields == {"__OFFSET2": 1}


def test_a_folder_keeps_to_one_set(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,caption\nhttp://a,1\nhttp://b,2\n")
    source, settings = asked(table, filter=FilterSettings())
    out = tmp_path / "sets/out"
    first = open_plan(out, source, settings)
    table.unlink()  # it is not read again
    assert ids_of(open_plan(out, source, settings)) == ids_of(first) == ["http://a", "http://b"]
    changes: dict[str, Any] = {
        "shard_size = 50, now 7": {"shards": ShardSettings(7)},
        "filter.aesthetic_above = None, now 5": {"filter": replace(settings.filter, aesthetic_above=5)},
        "image.size = 16, now 256": {"image": ImageSettings(256)},
        "columns.url = None, now link": {"columns": {"url": "link"}},
    }
    for words, change in changes.items():
        with pytest.raises(UserError, match=f"^{out} was made with {words}$") as caught:
            open_plan(out, source, replace(settings, **change))
        hints = {
            "shard_size": "--shard-size 50",
            "image.size": "--size 16",
            "filter.aesthetic_above": "leave --aesthetic-above out",
        }
        asked_for = hints.get(words.partition(" ")[0])
        assert (
            caught.value.hint == f"choose another --out, or {asked_for or f'ask for what {out}/.plan/plan.json says'}"
        )
    record = json.loads((out / ".plan/plan.json").read_text())
    del record["facts"]["image"]
    (out / ".plan/plan.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"image = None, now \{'size': 16,"):
        open_plan(out, source, settings)


def ids_of(plan: Plan) -> list[str]:
    return [row.url for shard in plan.shards() for row in plan.read(shard)]


def test_a_second_process_waits_for_the_plan_of_the_first(tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("url\nhttp://a\n")
    out.mkdir()
    with ThreadPoolExecutor() as threads:
        with claim(out / ".plan"):
            plan = threads.submit(open_plan, out, *asked(table, filter=FilterSettings()))
            time.sleep(0.3)
            assert not plan.done() and not (out / ".plan").exists()
        assert plan.result(timeout=30).rows == 1


def test_a_wrong_source_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no source"):
        open_plan(tmp_path / "out", *asked(tmp_path / "none.parquet"))
    assert not (tmp_path / "out").exists()


def test_what_a_killed_filter_left_is_cleared(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url\nhttp://a\n")
    (tmp_path / "out" / ".plan.building").mkdir(parents=True)
    (tmp_path / "out" / ".plan.building" / "rows.parquet").write_text("half")
    assert open_plan(tmp_path / "out", *asked(table, filter=FilterSettings())).rows == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".plan"]


def test_a_table_with_damaged_values_is_refused_by_name(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    duckdb.execute(
        f"COPY (SELECT 'http://a/' || range AS url FROM range(100)) TO '{table}' (FORMAT parquet, COMPRESSION snappy)"
    )
    data = bytearray(table.read_bytes())
    data[40:200] = bytes(160)  # values of the one column: the schema at the end is whole
    table.write_bytes(data)
    with pytest.raises(UserError, match=rf"^{re.escape(str(table))}: \S.*") as caught:
        build_plan(*asked(table, filter=FilterSettings()), tmp_path)
    assert isinstance(caught.value.__cause__, duckdb.Error)
    assert str(caught.value.__cause__).splitlines()[0].endswith(str(caught.value).removeprefix(f"{table}: "))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_an_empty_table_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"{name} is empty$"):
        build_plan(*asked(tmp_path / name, filter=FilterSettings()), tmp_path)


def test_hosts_are_spread_evenly_and_keep_their_order(tmp_path: Path) -> None:
    hosts = [
        "a.example",
        "A.example:80",
        "user@a.example.",
        *["a.example"] * 5,
        "b.example",
        "c.example",
        "b.example",
        "[::1]",
    ]
    urls = [f"http://{host}/{number}" for number, host in enumerate(hosts)]
    urls += ["photos/1.jpg"]
    (tmp_path / "t.csv").write_text("\n".join(["url,text", *(f"{url},words" for url in urls)]))
    plan = open_plan(tmp_path / "out", Source((str(tmp_path / "t.csv"),)), settings_of(20))
    found = [row.url.rpartition("/")[2] for row in plan.read(0)]
    assert found == ["0", "8", "1", "2", "3", "9", "4", "10", "11", "5", "6", "1.jpg", "7"]


def test_images_of_tar_files_stay_in_their_order(tmp_path: Path) -> None:
    members = {
        f"{n:03}.{end}": data
        for n in range(4)
        for end, data in (("jpg", b"x"), ("json", b'{"url": "http://%d/"}' % (n // 2)))
    }
    write_tar(tmp_path / "a.tar", members)
    plan = open_plan(tmp_path / "out", Source((str(tmp_path / "a.tar"),)), settings_of(columns={}))
    assert [row.fields[OFFSET] for row in plan.read(0)] == sorted(row.fields[OFFSET] for row in plan.read(0))


def test_a_table_names_files_below_its_own_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, here, elsewhere = tmp_path / "tables", tmp_path / "here", tmp_path / "elsewhere"
    for folder in (tables, here, elsewhere):
        folder.mkdir()
        (folder / "a.png").touch()
    (tables / "link.png").symlink_to(elsewhere / "a.png")
    monkeypatch.chdir(here)
    inside = ["http://a/1.png", "HTTPS://b/2.png", "a.png", str(tables / "a.png"), f"file://{tables}/a.png"]
    outside = [
        *("/etc/passwd", "file:///etc/passwd", "FILE:/etc/passwd", "file:%2Fetc%2Fpasswd", "../elsewhere/a.png"),
        *(str(tables / "../elsewhere/a.png"), str(tables / "link.png"), f"file://{tables}/%2e%2e/elsewhere/a.png"),
    ]
    table = tables / "t.csv"
    table.write_text("\n".join(["url", *inside, *outside]))
    unbounded = FilterSettings(dedupe=())
    plan = build_plan(*asked(table, filter=unbounded), tmp_path)
    assert {row.url for row in plan.read(0)} == {*inside}  # the rows of hosts are spread
    assert "names files outside of its folder and of this one, such as '../elsewhere/a.png'" in capsys.readouterr().err
    source, settings = asked(table, filter=unbounded)
    trusting = replace(settings, fetch=replace(settings.fetch, roots=(str(elsewhere),)))
    (tmp_path / "more").mkdir()
    plan = build_plan(source, trusting, tmp_path / "more")
    assert {row.url for row in plan.read(0)} == {*inside, *outside[4:]}


def test_what_is_fetched_from_this_machine_is_what_tables_are_asked_about() -> None:
    for address in (
        "a.png",
        "/a",
        " /a",
        "file:a",
        "FILE:///a",
        " file:/a",
        "http://a",
        "C:a",
        "ftp://a",
        "x:1",
        "é:a",
    ):
        try:
            is_local = _first_url(ImageRow("0", address, "")) is None
        except FetchError:
            is_local = False
        assert is_local == (local_path(address) is not None), address
