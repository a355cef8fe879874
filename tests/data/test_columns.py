"""Columns of tables: every value arrives as the file has it, whatever its type and in whichever file it lies."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from helpers.gallery import settings_of

from jointnet_cli.data.build import build_plan
from jointnet_cli.data.plan import Plan
from jointnet_cli.data.rows import ImageRow
from jointnet_cli.data.settings import FilterSettings
from jointnet_cli.data.source_files import Source
from jointnet_cli.data.sources import LINES
from jointnet_cli.errors import UserError

SCORE = "aesthetic_score_laion_v2"
NAN = float("nan")


def planned(source: Path, wanted: FilterSettings | None = None, **columns: str) -> Plan:
    folder = source.parent / "plan"
    folder.mkdir(exist_ok=True)
    return build_plan(Source((str(source),)), settings_of(50, wanted or FilterSettings(), columns), folder)


def rows_of(source: Path, wanted: FilterSettings | None = None, **columns: str) -> list[ImageRow]:
    plan = planned(source, wanted, **columns)
    return [row for shard in plan.shards() for row in plan.read(shard)]


def write_jsonl(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_parquet(path: Path, columns: dict[str, str], rows: Sequence[tuple[Any, ...]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE t ({typed})")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})", rows)
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    return path


def urls(count: int) -> list[str]:
    return [f"http://a/{number}" for number in range(count)]


def test_captions_of_several_json_types_are_text(tmp_path: Path) -> None:
    values = [
        '"a red boat"',
        "42",
        "true",
        "1.5",
        "null",
        '"null"',
        '"007"',
        '"2020-01-01"',
        '" x "',
        '"True"',
        '"\\ufeffq"',
    ]
    lines = [f'{{"url": "{url}", "caption": {value}}}' for url, value in zip(urls(11), values, strict=True)]
    found = [row.caption for row in rows_of(write_jsonl(tmp_path / "t.jsonl", [*lines, '{"url": "http://a/b"}']))]
    assert found == ["a red boat", "42", "true", "1.5", "", "null", "007", "2020-01-01", " x ", "True", "q", ""]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("INTEGER", 42, "42"),
        ("DOUBLE", 1.5, "1.5"),
        ("DOUBLE", NAN, ""),
        ("BOOLEAN", True, "true"),
        ("DATE", "2020-01-02", "2020-01-02"),
        ("DECIMAL(5, 2)", "1.50", "1.50"),
        ("JSON", '"a boat"', "a boat"),
        ("JSON", "42", "42"),
    ],
)
def test_captions_of_any_plain_parquet_type_are_text(tmp_path: Path, kind: str, value: Any, text: str) -> None:
    table = write_parquet(tmp_path / "t.parquet", {"url": "VARCHAR", "caption": kind}, [("http://a", value)])
    assert [row.caption for row in rows_of(table)] == [text]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("VARCHAR[]", ["a"]),
        ("STRUCT(a INTEGER)", {"a": 1}),
        ("BLOB", b"a"),
        ("JSON", "[1]"),
        ("MAP(VARCHAR, INTEGER)", {"a": 1}),
    ],
)
def test_captions_without_a_text_form_are_refused_by_file(tmp_path: Path, kind: str, value: Any) -> None:
    folder = tmp_path / "source"
    write_parquet(folder / "a.parquet", {"url": "VARCHAR", "caption": "VARCHAR"}, [("http://a", "words")])
    write_parquet(folder / "b.parquet", {"url": "VARCHAR", "caption": kind}, [("http://b", value)])
    with pytest.raises(UserError, match=r"b\.parquet: column caption has .*cannot be read as plain text"):
        planned(folder)


def test_nested_json_is_refused_where_it_is_wanted_and_left_out_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    write_jsonl(folder / "a.jsonl", ['{"url": "http://a", "tags": "x", "caption": "one", "LINES": 1}'])
    write_jsonl(folder / "b.jsonl", ['{"url": "http://b", "tags": ["x"], "caption": "two"}'])
    assert [(row.caption, row.fields) for row in rows_of(folder)] == [("one", {"LINES": 1}), ("two", {"LINES": None})]
    for wanted, columns in (
        (FilterSettings(), {"caption": "tags"}),
        (FilterSettings(dedupe=["tags"]), {}),
        (FilterSettings(), {"words": "tags"}),
    ):
        with pytest.raises(UserError, match=r"b\.jsonl: column tags has lists or objects"):
            planned(folder, wanted, **columns)
    with pytest.raises(UserError, match=r"b\.jsonl: column tags has lists or objects"):
        planned(folder, FilterSettings(aesthetic_above=1), **{SCORE: "tags"})


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT", "VARCHAR", "csv", "jsonl"])
def test_not_a_number_passes_no_bound(tmp_path: Path, kind: str) -> None:
    names = [SCORE, "clip_similarity_vitl14", "width", "height", "watermark_score"]
    scores = [NAN, 4.0, 6.0, None, 5.5, NAN, float("inf"), 5.0]
    cells = [None if score is None else str(score) if kind in ("VARCHAR", "csv") else score for score in scores]
    if kind == "csv":
        table = tmp_path / "t.csv"
        lines = [",".join([url, *[cell or ""] * 5]) for url, cell in zip(urls(8), cells, strict=True)]
        table.write_text("\n".join([",".join(["url", *names]), *lines]))
    elif kind == "jsonl":
        lines = [
            json.dumps({"url": url} | dict.fromkeys(names, cell)) for url, cell in zip(urls(8), cells, strict=True)
        ]
        table = write_jsonl(tmp_path / "t.jsonl", lines)
    else:
        rows = [(url, *[cell] * 5) for url, cell in zip(urls(8), cells, strict=True)]
        table = write_parquet(tmp_path / "t.parquet", {"url": "VARCHAR"} | dict.fromkeys(names, kind), rows)
    for bound in ({"aesthetic_above": 5}, {"clip_above": 5}, {"side_above": 5}):
        assert [row.url[-1] for row in rows_of(table, FilterSettings(**bound))] == ["2", "4", "6"], bound
    assert [row.url[-1] for row in rows_of(table, FilterSettings(watermark_below=5))] == ["1"]
    assert [row.url[-1] for row in rows_of(table, FilterSettings(aspect_below=2))][:4] == ["1", "2", "4", "7"]
    if kind in ("DOUBLE", "FLOAT"):
        assert len(rows_of(table, FilterSettings(dedupe=[SCORE]))) == 8  # rows without a value are all kept


@pytest.mark.parametrize(
    ("bound", "columns"),
    [
        ({"side_above": 512}, {"width": (511, 512, 513), "height": (600, 600, 600)}),
        ({"side_above": 512}, {"height": (511, 512, 513), "width": (600, 600, 600)}),
        ({"aesthetic_above": 0.5}, {SCORE: (0.4, 0.5, 0.6)}),
        ({"clip_above": 0.5}, {"clip_similarity_vitl14": (0.4, 0.5, 0.6)}),
        ({"watermark_below": 0.5}, {"watermark_score": (0.6, 0.5, 0.4)}),
        ({"nsfw_below": 0.5}, {"nsfw_score_opennsfw2": (0.6, 0.5, 0.4), "nsfw_score_gantman": (0.1, 0.1, 0.1)}),
        ({"nsfw_below": 0.5}, {"nsfw_score_gantman": (0.6, 0.5, 0.4), "nsfw_score_opennsfw2": (0.1, 0.1, 0.1)}),
        ({"aspect_below": 1.5}, {"width": (151, 150, 149), "height": (100, 100, 100)}),
        ({"aspect_below": 1.5}, {"height": (151, 150, 149), "width": (100, 100, 100)}),
        ({"caption_above": 4}, {"caption": ("čtr", "čtyř", "čtyři")}),
        ({"caption_below": 4}, {"caption": ("čtyři", "čtyř", "čtr")}),
    ],
)
def test_every_bound_is_strict(tmp_path: Path, bound: dict[str, Any], columns: dict[str, tuple[Any, ...]]) -> None:
    lines = [
        json.dumps({"url": f"http://a/{n}"} | {name: values[n] for name, values in columns.items()}) for n in range(3)
    ]
    table = write_jsonl(tmp_path / "t.jsonl", lines)
    assert [row.url for row in rows_of(table, FilterSettings(**bound))] == ["http://a/2"]


@pytest.mark.parametrize("first", ["a", "b"])
def test_integers_and_fractions_in_several_files(tmp_path: Path, first: str) -> None:
    folder, second = tmp_path / "source", {"a": "b", "b": "a"}[first]
    write_parquet(
        folder / f"{first}.parquet", {"url": "VARCHAR", SCORE: "BIGINT"}, [("http://a/0", 4), ("http://a/1", 6)]
    )
    scores = [(f"http://b/{n}", score) for n, score in enumerate((5.4, 4.6, 6.2))]
    write_parquet(
        folder / f"{second}.parquet",
        {"url": "VARCHAR", SCORE: "DOUBLE", "id": "INTEGER"},
        [(*row, 7) for row in scores],
    )
    write_parquet(folder / "c.parquet", {"URL": "VARCHAR"}, [("http://c",)])
    found = {row.url: row.fields for row in rows_of(folder, FilterSettings(aesthetic_above=5))}
    assert found == {
        "http://a/1": {SCORE: 6.0, "id": None},
        "http://b/0": {SCORE: 5.4, "id": 7},
        "http://b/2": {SCORE: 6.2, "id": 7},
    }
    assert {row.url for row in rows_of(folder)} >= {"http://a/0", "http://c"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_files_are_joined_by_name(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    tables = [
        [{"url": "http://a", "score": 4}],
        [{"score": 5.4, "caption": "x", "url": "http://b"}],
        [{"url": "http://c"}],
    ]
    for number, rows in enumerate(tables):
        if kind == "csv":
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        else:
            lines = [json.dumps(row) for row in rows]
        (folder / f"{number}.{kind}").write_text("\n".join(lines) + "\n")
    found = [(row.url, row.caption, row.fields["score"]) for row in rows_of(folder)]
    assert found == [("http://a", "", 4.0), ("http://b", "x", 5.4), ("http://c", "", None)]


def test_a_folder_is_all_its_tables(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    write_jsonl(folder / "b.jsonl", ['{"url": "http://b"}'])
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b'{"url": "http://a"}'))
    assert [row.url for row in rows_of(folder)] == ["http://a", "http://b"]
    write_parquet(folder / "c.parquet", {"url": "VARCHAR"}, [("http://c",)])
    for source in (folder, folder / "*.*"):
        with pytest.raises(UserError, match="has files of several kinds: jsonl, parquet") as caught:
            rows_of(source)
        assert caught.value.hint == "name those of one kind by a pattern in quotes, such as 'FOLDER/*.jsonl'"
    assert [row.url for row in rows_of(folder / "*.parquet")] == ["http://c"]


@pytest.mark.parametrize(
    ("kinds", "values", "expected"),
    [
        (("BIGINT", "DOUBLE"), (2**63 - 1, 3.0), [2**63 - 1, 3]),
        (("BIGINT", "DOUBLE"), (2**63 - 1, NAN), [2**63 - 1, None]),
        (("INTEGER", "UBIGINT"), (3, 2**64 - 1), [3, 2**64 - 1]),
        (("BIGINT", "UBIGINT"), (-3, 2**63 - 1), [-3, 2**63 - 1]),
        (("BIGINT", "UBIGINT"), (-3, 2**64 - 1), ["-3", str(2**64 - 1)]),
        (("FLOAT", "DOUBLE"), (0.5, 0.1), [0.5, 0.1]),
        (("VARCHAR", "BIGINT"), ("007", 2**62 + 1), ["007", str(2**62 + 1)]),
        (("BOOLEAN", "INTEGER"), (True, 1), ["true", "1"]),
    ],
)
def test_one_type_keeps_every_value(tmp_path: Path, kinds: Any, values: Any, expected: list[Any]) -> None:
    for order in (1, -1):
        folder = tmp_path / f"source{order}"
        for number, (kind, value) in enumerate(list(zip(kinds, values, strict=True))[::order]):
            write_parquet(folder / f"{number}.parquet", {"url": "VARCHAR", "what": kind}, [(f"http://{number}", value)])
        found = [row.fields["what"] for row in rows_of(folder)]
        assert found == expected[::order] and [type(v) for v in found] == [type(v) for v in expected[::order]]


@pytest.mark.parametrize(
    ("name", "kinds", "values"),
    [
        ("what", ("BIGINT", "DOUBLE"), (2**62 + 1, 0.5)),
        ("id", ("BIGINT", "DOUBLE"), (1, 0.5)),
        ("image_phash", ("VARCHAR", "DOUBLE"), ("a", 0.5)),
    ],
)
def test_types_without_a_common_one_are_refused(tmp_path: Path, name: str, kinds: Any, values: Any) -> None:
    folder = tmp_path / "source"
    for number, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        write_parquet(folder / f"{number}.parquet", {"url": "VARCHAR", name: kind}, [(f"http://{number}", value)])
    with pytest.raises(UserError, match=rf"column {name} has types that no common type keeps exactly: .*1\.parquet"):
        planned(folder)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("column", ["phash", "id", "anything"])
def test_large_integers_keep_all_digits(tmp_path: Path, kind: str, column: str) -> None:
    numbers = [2**63 + 7 * n for n in range(6)]
    table = tmp_path / f"t.{kind}"
    if kind == "parquet":
        write_parquet(table, {"url": "VARCHAR", column: "UBIGINT"}, list(zip(urls(6), numbers, strict=True)))
    elif kind == "csv":
        table.write_text("\n".join([f"url,{column}", *(f"{u},{n}" for u, n in zip(urls(6), numbers, strict=True))]))
    else:
        lines = [json.dumps({"url": u, column: n}) for u, n in zip(urls(6), numbers, strict=True)]
        text = "\n".join(lines).encode()
        table.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    wanted = FilterSettings(dedupe=[column])
    found = [row.fields[column] for row in rows_of(table, wanted)]
    assert found == (list(map(str, numbers)) if (kind, column) == ("csv", "phash") else numbers)


def test_integers_of_any_size_are_distinct(tmp_path: Path) -> None:
    numbers = [-(2**63) - 1, 2**64 + 1, 2**64 + 2, 2**200, 2**200 + 1]
    lines = [json.dumps({"url": u, "hash": n}) for u, n in zip(urls(5), numbers, strict=True)]
    found = rows_of(write_jsonl(tmp_path / "t.jsonl", lines), FilterSettings(dedupe=["hash"]))
    assert [row.fields["hash"] for row in found] == list(map(str, numbers))


def test_text_columns_of_csv_files_are_spelled_as_in_the_file(tmp_path: Path) -> None:
    words = ["True", "007", "1e5", "1.50", "2020-01-01", " null ", "NULL", "nan", "12:30"]
    for words in (words, *([word] for word in words)):  # noqa: B020 - also a column of one kind alone
        table = tmp_path / "t.csv"
        lines = [f"{word},http://a/{n},{word}" for n, word in enumerate(words)]
        table.write_text("\n".join(["TEXT,url,md5", *lines]), encoding="utf-8-sig")
        found = rows_of(table, caption="TEXT")
        assert [row.caption for row in found] == words
        assert [row.fields["md5"] for row in found] == words


def test_other_columns_of_csv_files_are_numbers_only_where_nothing_is_lost(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "url,n,code,score,flag,day,big,junk\n"
        "http://a,1,007,0.5,true,2020-01-01,9007199254740993,4\n"
        "http://b,-2,010,1e-3,false,2020-01-02,0.5,n/a\n"
    )
    assert [row.fields for row in rows_of(table)] == [
        {
            "n": 1,
            "code": "007",
            "score": 0.5,
            "flag": True,
            "day": "2020-01-01",
            "big": "9007199254740993",
            "junk": "4",
        },
        {"n": -2, "code": "010", "score": 0.001, "flag": False, "day": "2020-01-02", "big": "0.5", "junk": "n/a"},
    ]
    kept = rows_of(table, FilterSettings(aesthetic_above=3), **{SCORE: "junk"})
    assert [(row.url, row.fields[SCORE]) for row in kept] == [("http://a", 4.0)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_tables_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str, suffix: str) -> None:
    table = tmp_path / f"t.{suffix}"
    row = {"url": "http://a/0", "caption": 'a bœuf, "red"'}
    text = json.dumps(row) if suffix == "jsonl" else 'url,caption\nhttp://a/0,"a bœuf, ""red"""'
    table.write_text(f"{text}\n", encoding=encoding)
    assert [(row.url, row.caption) for row in rows_of(table)] == [(row["url"], row["caption"])]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_bytes(b"\xff\xfeabc")
    with pytest.raises(UserError, match=r"t\.jsonl is not text in utf-16"):
        rows_of(table)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_each_row_takes_the_first_name_that_has_a_value_there(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    tables = [
        (["url", "caption", "title"], [["http://a", "one", "no"], ["http://b", "", "two"]]),
        (["LINK", "Text"], [["http://c", "three"]]),
        (["Image_URL", "url", "CAPTION"], [["http://d", "", "four"]]),
    ]
    for number, (names, rows) in enumerate(tables):
        path = folder / f"{number}.{kind}"
        if kind == "parquet":
            write_parquet(path, dict.fromkeys(names, "VARCHAR"), [tuple(row) for row in rows])
        elif kind == "csv":
            path.write_text("\n".join(",".join(row) for row in [names, *rows]))
        else:
            write_jsonl(path, [json.dumps(dict(zip(names, row, strict=True))) for row in rows])
    found = [(row.url, row.caption) for row in rows_of(folder)]
    assert found == [("http://a", "one"), ("http://b", "two"), ("http://c", "three"), ("http://d", "four")]
    assert [row.caption for row in rows_of(folder, caption="title")] == ["no", "two", "", ""]


def test_a_further_caption_without_a_text_form_is_refused_only_where_it_is_needed(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    write_jsonl(folder / "a.jsonl", ['{"url": "http://a", "caption": "one", "text": ["x"]}'])
    assert [(row.caption, row.fields) for row in rows_of(folder)] == [("one", {})]
    for lines in (['{"url": "http://b", "text": ["x"]}'], ['{"url": "http://b", "caption": "", "text": "two"}']):
        write_jsonl(folder / "b.jsonl", lines)
        with pytest.raises(UserError, match=r"\.jsonl: column text has lists or objects"):
            planned(folder)
    assert [row.caption for row in rows_of(folder, caption="caption")] == ["one", ""]


def test_not_a_number_passes_no_bound_where_the_file_states_a_minimum_and_maximum(tmp_path: Path) -> None:
    for kind, code in (("DOUBLE", "<d"), ("FLOAT", "<f")):
        table = tmp_path / f"{kind}.parquet"
        scores = [4.0, 5.25, 5.5]
        with duckdb.connect() as connection:
            listed = f"unnest({list(urls(3))}) AS url, unnest({scores})::{kind} AS {SCORE}"
            connection.execute(f"COPY (SELECT {listed}) TO '{table}' (FORMAT parquet, COMPRESSION uncompressed)")
        # Other writers leave NaN out of the minimum and maximum. DuckDB does not, so it is put in afterwards.
        content = table.read_bytes()
        assert content.count(struct.pack(code, 5.25)) == 1
        table.write_bytes(content.replace(struct.pack(code, 5.25), struct.pack(code, NAN)))
        assert [row.fields[SCORE] for row in rows_of(table)] == [4.0, None, 5.5]
        assert [row.url for row in rows_of(table, FilterSettings(aesthetic_above=5))] == ["http://a/2"]
        assert len(rows_of(table, FilterSettings(dedupe=[SCORE]))) == 3


def test_values_that_are_no_numbers_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    cells = ["5.4", "n/a", " 7 ", "", "nan", '"1,024"', "-inf", "1e1"]
    lines = [f"{url},{cell}" for url, cell in zip(urls(8), cells, strict=True)]
    table.write_text("\n".join([f"url,{SCORE}", *lines]))
    assert [row.fields[SCORE] for row in rows_of(table, FilterSettings(aesthetic_above=5))] == [5.4, 7.0, 10.0]
    expected = f"{table}: 2 values of {SCORE} are not numbers, such as '1,024'; no bound keeps them"
    assert capsys.readouterr().err == f"warning: {expected}\n"
    rows_of(table)
    assert capsys.readouterr().err == ""


def test_times_with_a_zone_are_text_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    rows = [("http://a", "2020-01-01 01:02:03+02"), ("http://b", None)]
    for name in ("taken", "caption"):
        table = write_parquet(tmp_path / f"{name}.parquet", {"url": "VARCHAR", name: "TIMESTAMPTZ"}, rows)
        found = [
            (row.fields | {"caption": row.caption or None})[name]
            for row in rows_of(table, FilterSettings(dedupe=[name]))
        ]
        assert found == ["2019-12-31 23:02:03+00", None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more.csv", b"url,caption\nh:1,a\nh:2,b,c\n", "lines do not have as many values as the header url,caption"),
        ("fewer.csv", b"url,caption\nh:1,a\nh:2\n", "lines do not have as many values as the header url,caption"),
        ("two.csv", b"url,caption\nh:1,a\nurl,caption,n\nh:2,b,3\n", "as many values as the header url,caption"),
        ("ends.csv", b"url,caption\nh:1,a\r\nh:2,b\n", "Error when sniffing"),
        ("latin.csv", "url,caption\nh:1,caf\xe9\n".encode("latin-1"), r"latin\.csv is not UTF-8 text, line 2"),
        ("latin.jsonl", '{"url":"h:1","caption":"\xe9"}\n'.encode("latin-1"), r"latin\.jsonl is not UTF-8 text, line"),
        ("array.jsonl", b'[{"url":"h:1"}]', "there are no JSON objects in it"),
        ("empty.jsonl", b"", "there are no JSON objects in it"),
    ],
)
def test_text_that_is_no_table_is_refused_with_the_fault(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        planned(tmp_path / name)
    assert caught.value.hint in (LINES, "save it as UTF-8", "write one JSON object a line")


def test_csv_files_have_neither_comments_nor_guessed_delimiters_within_values(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("url,caption\nhttp://a/0,#a\n#b,c\n#d,e\n")
    assert [(row.url, row.caption) for row in rows_of(table)] == [("http://a/0", "#a"), ("#b", "c"), ("#d", "e")]
    table.write_text("url\nhttp://a;b\nhttp://c;d\n")
    assert [row.url for row in rows_of(table)] == ["http://a;b", "http://c;d"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", 'URL\tCaption\nh:1\ta, b; c\nh:2\t5" screen\n'),
        ("t.TSV", 'URL\tCaption\nh:1\ta, b; c\nh:2\t5" screen\n'),
        ("t.csv", 'URL;Caption\nh:1;a, b; c\nh:2;5" screen\n'.replace("a, b; c", '"a, b; c"')),
        ("t.csv", 'url,CAPTION\nh:1,"a, b; c"\nh:2,"5"" screen"\n'),
        ("t.jsonl", '{"URL": "h:1", "Caption": "a, b; c"}\n{"url": "h:2", "caption": "5\\" screen"}\n'),
    ],
)
def test_delimiters_and_the_case_of_names(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert [(row.url, row.caption) for row in rows_of(tmp_path / name)] == [("h:1", "a, b; c"), ("h:2", '5" screen')]


def test_columns_are_named_in_any_case(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("Link,ALT,Image_PHash\nh:1,a,7\nh:2,b,7\n")
    (row,) = rows_of(table, FilterSettings(dedupe=["image_phash"]), url="link", caption="alt")
    assert (row.url, row.caption, row.fields) == ("h:1", "a", {"image_phash": "7"})


@pytest.mark.parametrize(
    ("name", "line", "content"),
    [
        ("t.csv", 3, 'url,caption\nh:1,a\nh:2,"open\nh:3,b\n'),
        ("t.csv", 3, 'url,caption\nh:1,"two\nlines"" of"\n'.replace("two\n", "two ") + 'h:2,"open'),
        ("t.csv", 4, 'url;caption\nh:1;"two\nlines"\nh:2;"open\nh:3;"closed"\n'),
        ("t.csv", 1, 'url,"caption\nh:1,a\n'),
        ("t.tsv", 2, 'url\tcaption\nh:1\t"a" b\n'),
        ("t.csv.gz", 2, 'url,caption\nh:1,"open\n' + "h:2,b\n" * 99),
    ],
)
def test_a_quote_that_is_not_closed_is_named_by_its_line(tmp_path: Path, name: str, line: int, content: str) -> None:
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(UserError, match=rf"{name}, line {line}: a quote is opened and not closed$") as caught:
        planned(tmp_path / name)
    assert caught.value.hint == 'close it, or write a quote inside of a value as ""'


def test_captions_may_be_megabytes(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"url,caption\nh:1,{'x' * 3_000_000}\n")
    assert [len(row.caption) for row in rows_of(table)] == [3_000_000]


def test_several_sources_of_one_kind_are_read_in_their_order(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"url\nh:{name}\n")
    (tmp_path / "c.jsonl").write_text('{"url": "h:c"}')
    b, a, c = (str(tmp_path / name) for name in ("b.csv", "a.csv", "c.jsonl"))
    plan = build_plan(Source((b, a)), settings_of(50), tmp_path)
    assert ([row.url for row in plan.read(0)], plan.facts["source"]) == (["h:b", "h:a"], [b, a])
    with pytest.raises(UserError, match=f"^{b} is read as csv and {c} as jsonl$"):
        build_plan(Source((b, c)), settings_of(50), tmp_path)
    with pytest.raises(UserError, match=r"^worlds cannot be combined with other sources$"):
        Source((b, "worlds"))


WIDE_DECIMALS = (
    "c-jka3^EjD5OooC(Gg_<GT21fWEdD2n1Gmtkqby>l#~=$>FX!z8=&w&ntB+42#Yob2oT&{rm)tF`P}h<OYBje3G)IOkINK-5CeX|"
    "irZ)=Dj2OJs)N(b59}fI4|`D-$sAJ#3AW<ojMUsjQ4R)C9#tj@=F*}ZRR$lBHc>uN2T>*o#ynLnpjk5*bz;C2P{tG}S}e*0Q^AyH"
    "grP)~3uqW)1%nuiq>QAG8iR}|kEALagCy7jQJ}C`mROb=ho=ls0|U?~8!-(@Hc2%G7NA~`YCec+#yqgvZHz#qR)kQkiK$kDu^8wO"
    "B;_lZP}G|-z%_6|4X*&J4iXDeyT^>hY_SzAVk~MLK#D;_p&+rSur#$qH@TodH?gQFzg(d#wWv5VKTpBPOwT~iP!beoaKsP?41@q+"
    "$^!s8n^?g"
)
"""A parquet file by pyarrow: `url`, `n` (decimal256 of 76 digits), `s` (a structure of one) and `x`, two rows."""


def test_decimals_of_too_many_digits_are_never_rounded(tmp_path: Path) -> None:
    source = tmp_path / "wide.parquet"
    source.write_bytes(zlib.decompress(base64.b85decode(WIDE_DECIMALS)))
    assert [row.fields for row in rows_of(source)] == [{"x": 0.5}, {"x": 1.5}]
    with pytest.raises(UserError, match=r"wide.parquet: column n has type decimal of 76 digits"):
        rows_of(source, FilterSettings(dedupe=("n",)))
