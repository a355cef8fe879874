"""`prepare` of images from elsewhere, as a user runs it."""

from __future__ import annotations

import io
import json
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.gallery import content, gallery, image_bytes, write_coyo, write_table
from helpers.teachers import INVERTED, save_onnx
from helpers.web import Web, reply
from PIL import Image

from jointnet_cli.data import source_files
from jointnet_cli.data.settings import prepare_settings
from jointnet_cli.data.source_files import OFFLINE
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import shipped_files

COUNT = 11
SMALL = ["--size", "16", "--shard-size", "4", "--allow-private-hosts", "--set", "fetch.retries=0"]


@pytest.fixture
def web() -> Iterator[Web]:
    with gallery(COUNT, missing=range(2)) as web:
        yield web


@pytest.fixture
def table(web: Web) -> str:
    return str(write_table(Path("links.csv"), web, COUNT))


def test_from_a_table_to_shards(invoke, table):
    ran = invoke("prepare", table, "--out", "set", *SMALL)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.split() == ["set/00000.tar", "set/00001.tar", "set/00002.tar"]
    assert len(content(Path("set"))) == 3 * (COUNT - 2)
    words = " ".join(ran.stderr.split())
    assert "rows read 11 rows #" in words
    assert "succeeded 9 images #" in words and "http_404 2 images #" in words
    assert json.loads(Path("set/report.json").read_text())["images"]["successes"] == 9
    assert Path("set/contact_sheet.png").read_bytes().startswith(b"\x89PNG")


def test_json_says_what_was_done(invoke, table):
    flags = ["prepare", table, "--out", "set", *SMALL, "--json", "-q"]
    first = invoke(*flags, "-n", "5")
    assert first.stderr == ""
    report = json.loads(first.stdout)
    assert (report["written"], report["skipped"], report["failed"]) == (3, 0, 2)
    assert report["shards"] == ["set/00000.tar", "set/00001.tar"] and report["report"] == "set/report.json"
    again = json.loads(invoke(*flags).stdout)
    assert (again["written"], again["skipped"], again["failed"]) == (6, 3, 0)


def test_a_dry_run_fetches_nothing_and_leaves_nothing(invoke, table, web):
    before = sorted(Path.cwd().rglob("*"))
    flags = ["prepare", table, "--out", "set", *SMALL, "--caption-above", "9", "--dry-run"]
    shown = invoke(*flags).stdout
    assert "caption_above 9" in shown and "1 images in 1 shards of 4" in shown and "images/s" in shown
    plan = json.loads(invoke(*flags, "--json").stdout)
    assert plan["funnel"] == {"rows read": 11, "caption_above 9": 1, "has a URL": 1, "unique url": 1}
    assert plan["images"] == 1 and plan["expected"]["shards"] == 1
    assert plan["expected"]["bytes"] > 0 and plan["expected"]["hours"] > 0 and "70%" in plan["expected"]["assuming"]
    assert web.asked.total() == 0
    assert sorted(Path.cwd().rglob("*")) == before


def test_workers_in_turn_make_the_whole(invoke, table):
    invoke("prepare", table, "--out", "whole", *SMALL)
    for part in ("2/2", "1/2"):
        ran = invoke("prepare", table, "--out", "parts", *SMALL, "--worker", part)
        assert ran.exit_code == 0, ran.stderr
    assert content(Path("parts")) == content(Path("whole"))


def test_flags_override_settings_and_these_the_recipe(invoke, table):
    Path("my.toml").write_text(
        'columns.caption = "text"\nfilter.caption_above = 100\nshards.size = 3\n[image]\nsize = 32\n'
    )
    flags = ["prepare", table, "--recipe", "my.toml", "--dry-run", "--json"]
    assert json.loads(invoke(*flags).stdout)["images"] == 0
    assert json.loads(invoke(*flags, "--set", "filter.caption_above=9").stdout)["images"] == 1
    plan = json.loads(invoke(*flags, "--set", "filter.caption_above=9", "--caption-above", "5").stdout)
    assert (plan["images"], plan["expected"]["shards"]) == (11, 4)
    for columns in (["caption=url,width=score"], ["caption=url", "width=score"]):
        plan = json.loads(invoke(*flags, "--caption-above", "5", "--columns", *columns).stdout)
        assert plan["images"] == 11


def test_nothing_came(invoke, table):
    ran = invoke("prepare", table, "--out", "set", "-n", "2", *SMALL)
    assert ran.exit_code == 1
    assert "http_404" in ran.stderr


def test_a_retry_may_heal_nothing(invoke, table):
    flags = ["prepare", table, "--out", "set", *SMALL]
    assert invoke(*flags).exit_code == 0
    ran = invoke(*flags, "--retry-failed", "4xx", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["failed"] == 2


def test_private_hosts_are_refused_unless_asked_for(invoke, table):
    flags = [flag for flag in SMALL if flag != "--allow-private-hosts"]
    ran = invoke("prepare", table, "--out", "set", *flags)
    assert ran.exit_code == 1
    assert json.loads(Path("set/report.json").read_text())["causes"] == {"private_host": COUNT}


def test_ctrl_c_leaves_whole_shards_and_the_next_run_goes_on(start, invoke):
    with gallery(60, pause=0.3) as web:
        table = str(write_table(Path("links.csv"), web, 60))
        process = start("prepare", table, "--out", "set", *SMALL, "--per-host", "2")
        while not list(Path("set").glob("*_stats.json")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=30)
        assert process.returncode == 130 and "Traceback" not in words, words
        assert 0 < len(list(Path("set").glob("*.tar"))) < 15
        assert invoke("prepare", table, "--out", "set", *SMALL).exit_code == 0
    assert len(content(Path("set"))) == 180


def test_ctrl_c_leaves_nothing_of_the_worlds_that_were_rendered(start):
    process = start(
        "prepare", "worlds", "-n", "64", "--size", "64", "--shard-size", "32", "--workers", "2", "--out", "set"
    )
    while not list(Path("set").glob(".*.new")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=30)
    assert (process.returncode, words) == (130, "interrupted\n")
    assert not list(Path("set").glob(".*"))


def test_a_folder_of_images(invoke):
    Path("photos").mkdir()
    Path("photos/a.jpg").write_bytes(image_bytes(1))
    ran = invoke("prepare", "photos", "--size", "16")
    assert ran.stdout == "shards/00000.tar\n" and "HEIC" not in ran.stderr, ran.stderr


def test_photos_that_need_an_extra_are_counted_with_the_way_out(invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    Path("photos").mkdir()
    Path("photos/a.jpg").write_bytes(image_bytes(1))
    for name in ("b.HEIC", "c.heif"):
        Path("photos", name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    ran = invoke("prepare", "photos", "--size", "16")
    assert "needs_heif              2 images" in ran.stderr
    assert ran.stderr.count("pip install 'jointnet-cli[heif]', then add --retry-failed needs_heif\n") == 1
    assert invoke("prepare", "photos", "--size", "16", "--retry-failed", "needs_heif").exit_code == 0
    ran = invoke("depth", "photos/b.HEIC", "photos/c.heif")
    assert ran.exit_code == 2 and ran.stderr.count("is HEIC") == 2 and ran.stderr.count("hint: ") == 1


MISTAKES = {
    "no such recipe": (["--recipe", "prepare/coyyo"], "did you mean prepare/coyo?"),
    "unknown key": (["--set", "filter.side_abov=3"], "did you mean side_above?"),
    "unknown table": (["--set", "filters.side_above=3"], "did you mean filter?"),
    "unknown image setting": (["--set", "image.sise=3"], "did you mean size?"),
    "a setting of another table": (["--set", "fetch.size=3"], "unknown key fetch.size"),
    "wrong type": (["--set", "fetch.retries=often"], "retries"),
    "no number": (["--set", "filter.side_above=big"], "filter.side_above"),
    "no finite number": (["--watermark-below", "nan"], "watermark-below"),
    "columns": (["--columns", "url"], "expected NAME=COLUMN"),
    "columns after a space": (["--columns", "url=url", "caption"], "there is no source 'caption'"),
    "worker 0": (["--worker", "0/4"], "I from 1 to N"),
    "worker 5 of 4": (["--worker", "5/4"], "I from 1 to N"),
    "cluster": (["--cluster", "spark"], "only Ray is known"),
    "retry": (["--retry-failed", "timeouts"], "did you mean timeout?"),
    "too many a shard": (["--shard-size", "20000"], "shards.size"),
    "missing column": (["--watermark-below", "0.5"], "needs a column watermark_score"),
    "seed": (["--seed", "3"], "--seed applies only to rendered worlds"),
    "relabel": (["--relabel"], "--relabel applies only to --label"),
    "unknown teacher": (["--label", "depth=nobody"], "nobody"),
}


@pytest.mark.parametrize(("flags", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(invoke, flags, words):
    Path("links.csv").write_text("url,caption\nhttp://127.0.0.1:9/a,b\n")
    ran = invoke("prepare", "links.csv", *flags)
    assert ran.exit_code == 2
    assert words in ran.stderr and "Traceback" not in ran.stderr
    assert ran.stdout == "" and not Path("shards").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--side-above", "3"],
        ["--resize", "no"],
        ["--allow-private-hosts"],
        ["--dedupe", "url"],
        ["--retry-failed", "all"],
    ],
)
def test_worlds_refuse_the_flags_of_downloads(invoke, flags):
    ran = invoke("prepare", "worlds", "-n", "1", *flags)
    assert ran.exit_code == 2
    assert f"{flags[0]} applies only to tables, images and shards as a source" in ran.stderr


def test_worlds_need_a_count(invoke):
    assert "worlds need --count" in invoke("prepare", "worlds", "--size", "32").stderr


def test_the_web_needs_duckdb_s_extension_or_says_so(invoke):
    ran = invoke("prepare", "https://127.0.0.1:9/t.parquet")
    assert ran.exit_code == 2
    assert "t.parquet" in ran.stderr and "Traceback" not in ran.stderr


def test_shards_that_are_their_own_source_are_only_labelled(invoke, table):
    assert invoke("prepare", table, "--out", "set", *SMALL).exit_code == 0
    assert "give --label" in invoke("prepare", "set", "--out", "set").stderr
    pytest.importorskip("onnxruntime")
    network = save_onnx(Path("inverted.onnx"), *INVERTED)
    flags = [
        "set",
        "--out",
        "set",
        "--label",
        f"depth=onnx:{network}?size=16&mean=0&std=1",
        "--device",
        "cpu",
    ]
    before = content(Path("set"))
    plan = invoke("prepare", *flags, "--dry-run").stdout
    assert plan.splitlines()[0] == "set/00000.tar: 2 images, depth from onnx:inverted.onnx"
    assert json.loads(invoke("prepare", *flags, "--dry-run", "--json").stdout.splitlines()[2])["count"] == 3
    assert content(Path("set")) == before
    ran = invoke("prepare", *flags)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.split() == ["set/00000.tar", "set/00001.tar", "set/00002.tar"]
    assert "9 depth maps made" in ran.stderr
    assert sum(name.endswith(".depth.png") for name in content(Path("set"))) == 9
    again = json.loads(invoke("prepare", *flags, "--json", "-q").stdout)
    assert (again["labelled"], again["shards"]) == ({}, [])


def test_a_retry_after_labelling_labels_what_is_new(invoke, table, web):
    pytest.importorskip("onnxruntime")
    network = save_onnx(Path("inverted.onnx"), *INVERTED)
    flags = [table, "--out", "set", *SMALL, "--json", "-q", "--device", "cpu"]
    flags += ["--label", f"depth=onnx:{network}?size=16&mean=0&std=1"]
    first = [json.loads(line) for line in invoke("prepare", *flags).stdout.splitlines()]
    assert (first[0]["written"], first[1]["labelled"]) == (9, {"depth": 9})
    before = content(Path("set"))
    web.answers["1"] = reply(image_bytes(1))
    second = [json.loads(line) for line in invoke("prepare", *flags, "--retry-failed", "4xx").stdout.splitlines()]
    assert (second[0]["written"], second[1]["labelled"]) == (1, {"depth": 1})
    after = content(Path("set"))
    assert before.items() <= after.items()
    new = {name.partition(".")[2] for name in after.keys() - before.keys()}
    assert new == {"jpg", "json", "txt", "depth.png"}


def test_a_map_that_cannot_be_made_is_told_by_the_exit_code(invoke, table):
    pytest.importorskip("onnxruntime")
    network = save_onnx(Path("inverted.onnx"), *INVERTED)
    assert invoke("prepare", table, "--out", "set", *SMALL).exit_code == 0
    with tarfile.open("set/00002.tar", "a") as tar:
        broken = tarfile.TarInfo("999.jpg")
        broken.size = 4
        tar.addfile(broken, io.BytesIO(b"JFIF"))
    stats = Path("set/00002_stats.json")
    facts = {key: value for key, value in json.loads(stats.read_text()).items() if key != "sha256"}
    stats.write_text(json.dumps({**facts, "successes": facts["successes"] + 1}))
    label = f"depth=onnx:{network}?size=16&mean=0&std=1"
    ran = invoke("prepare", "set", "--out", "set", "--label", label, "--device", "cpu")
    assert ran.exit_code == 1
    assert "9 depth maps made" in ran.stderr and "999: no depth" in ran.stderr


@pytest.mark.parametrize("name", [name for name in shipped_files() if name.startswith("prepare/")])
def test_shipped_recipes_are_valid(name):
    assert prepare_settings(name).description


def test_coyo_s_recipe_is_the_paper_s_filter():
    recipe = prepare_settings("prepare/coyo")
    bounds = recipe.filter
    assert (bounds.side_above, bounds.watermark_below, bounds.aesthetic_above) == (512, 0.5, 5)
    assert bounds.dedupe == ("image_phash", "url")
    assert (recipe.min_side, recipe.image.size) == (513, 512)


PAPER = {
    "rows read": 11,
    "side_above 512": 11,
    "watermark_below 0.5": 6,
    "aesthetic_above 5": 6,
    "has a URL": 6,
    "unique image_phash": 6,
    "unique url": 6,
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [("coyo.parquet", {}), ("coyo.csv", {"text": None, "TEXT": "'w'", "url": None, "Url": "'h:' || number"})],
)
def test_a_table_with_the_columns_of_coyo_is_filtered_as_in_the_paper(invoke, web, name, changes):
    Path("coyo").mkdir()
    write_coyo(Path("coyo", name), f"'{web.url('')}' || number", COUNT, **changes)
    ran = invoke("prepare", "coyo/", "--dry-run", "--json")
    assert json.loads(ran.stdout)["funnel"] == PAPER, ran.stderr
    assert ran.stderr.startswith("coyo/: recipe prepare/coyo, because the table has COYO's columns; ")
    plain = invoke("prepare", "coyo/", "--recipe", "none", "--dry-run", "--json")
    assert (json.loads(plain.stdout)["images"], plain.stderr) == (11, "")


def test_a_table_without_a_column_of_coyo_is_plain(invoke, web):
    table = write_coyo(Path("t.parquet"), f"'{web.url('')}' || number", COUNT, watermark_score=None)
    ran = invoke("prepare", table, "--dry-run", "--json")
    assert json.loads(ran.stdout)["images"] == 11
    assert ran.stderr == "t.parquet: plain columns, no recipe: prepare/coyo needs watermark_score\n"
    Path("photos").mkdir()
    Path("photos/a.jpg").touch()
    assert invoke("prepare", "photos", "--dry-run", "--json").stderr == "photos: images, no recipe\n"


def test_a_folder_keeps_the_recipe_that_was_chosen(invoke, web):
    web.answers |= {str(number): reply(image_bytes(number, 600)) for number in range(COUNT)}
    table = write_coyo(Path("coyo.parquet"), f"'{web.url('')}' || number", COUNT)
    flags = [table, "--out", "set", "--size", "16", "--allow-private-hosts", "-q", "--json"]
    assert json.loads(invoke("prepare", *flags, "-n", "2").stdout)["written"] == 2
    Path("coyo.parquet").write_bytes(b"")  # it is not read again
    ran = invoke("prepare", *[flag for flag in flags if flag != "-q"], "--dry-run")
    assert (json.loads(ran.stdout)["images"], ran.stderr) == (
        6,
        "coyo.parquet: recipe prepare/coyo, with which set was made\n",
    )
    again = json.loads(invoke("prepare", *flags).stdout)
    assert (again["written"], again["skipped"]) == (4, 2)
    assert "was made with columns.caption = text, now None" in invoke("prepare", *flags, "--recipe", "none").stderr


def test_a_recipe_states_its_source_and_asks_how_many(invoke, web):
    write_coyo(Path("coyo.parquet"), f"'{web.url('')}' || number", COUNT)
    Path("my.toml").write_text('source = "coyo.parquet"\ncolumns.caption = "text"\nfilter.watermark_below = 0.5\n')
    ran = invoke("prepare", "--recipe", "my.toml", "--out", "set", *SMALL)
    assert (ran.exit_code, ran.stdout) == (2, "") and web.asked.total() == 0
    lines = ran.stderr.splitlines()
    assert lines[1].split()[:3] == ["watermark_below", "0.5", "6"]
    assert lines[-4] == "6 images in 2 shards of 4"
    assert lines[-3].startswith("about 4 images, 307 bytes, less than a minute, if 70% of the images succeed")
    assert lines[-2:] == [
        "error: coyo.parquet: 6 images would be downloaded",
        "hint: say how many: --count N, or --all",
    ]
    assert invoke("prepare", "--recipe", "my.toml", "--out", "set", *SMALL, "--count", "2").exit_code == 0
    ran = invoke("prepare", "--recipe", "my.toml", "--out", "set", *SMALL, "--all", "--json")
    assert (json.loads(ran.stdout)["written"], ran.exit_code) == (4, 0), ran.stderr
    ran = invoke("prepare", "--recipe", "my.toml", "--all", "--count", "3")
    assert ran.stderr.startswith("error: --all and --count exclude each other\n")


def test_without_a_source_coyo_is_read_from_the_hub(invoke, monkeypatch):
    def unreachable(connection, spec):
        raise UserError(f"{spec} cannot be reached: no network", hint=OFFLINE)

    monkeypatch.setattr(source_files, "connect_remote", unreachable)
    for flags in ([], ["--all"], ["--count", "3", "--recipe", "prepare/coyo"], ["--dry-run"]):
        ran = invoke("prepare", *flags)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.splitlines() == [
            "error: hf://datasets/kakaobrain/coyo-700m cannot be reached: no network",
            "hint: name files of this machine, or render scenes: jointnet prepare worlds --count 64 --out shards/worlds",
        ]
    assert not Path("shards").exists()


def test_worlds_are_a_word_and_their_folder_a_path(invoke, table):
    Path("worlds").mkdir()
    Path(table).rename("worlds/links.csv")
    for folder in ("./worlds", "worlds/"):
        assert json.loads(invoke("prepare", folder, "--dry-run", "--json").stdout)["images"] == COUNT
    assert "seeds 0 to 2" in invoke("prepare", "worlds", "-n", "3", "--dry-run").stdout
    assert invoke("prepare", "--source", "worlds", "-n", "3", "--dry-run").exit_code == 0
    assert "--source" not in invoke("prepare", "--help").stdout


def test_a_recipe_of_another_kind_of_source_is_refused(invoke):
    Path("mine.toml").write_text('source = "worlds"\n')
    Path("table.csv").write_text("url\nhttps://example.org/a.jpg\n")
    for recipe, source, words in (
        ("prepare/coyo", "worlds", "source hf://datasets/kakaobrain/coyo-700m, not for worlds"),
        ("mine.toml", "table.csv", "source worlds, not for table.csv"),
    ):
        ran = invoke("prepare", source, "--recipe", recipe, "--count", "2", "--out", "set")
        assert (ran.exit_code, ran.stdout) == (2, "") and words in ran.stderr
        assert not Path("set").exists()


def test_processes_of_worlds_are_no_processes_of_images(invoke, tmp_path):
    Path("table.csv").write_text("url\nhttps://example.org/a.jpg\n")
    for source in (["table.csv"], []):
        ran = invoke("prepare", *source, "--workers", "2", "--dry-run")
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith("error: --workers applies only to rendered worlds\nhint: leave it out;")
    assert invoke("prepare", "table.csv", "--dry-run", JOINTNET_WORKERS="2").exit_code == 0


@pytest.mark.parametrize("flags", [["--count", "0"], ["--count", "-1"], ["--workers", "0"], ["--size", "7"]])
def test_numbers_of_worlds_out_of_range(invoke, flags):
    ran = invoke("prepare", "worlds", "--count", "2", *flags)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert not Path("shards").exists()


def test_a_long_dry_run_streams(start):
    with start("prepare", "worlds", "--count", "10000000", "--shard-size", "1", "--dry-run") as process:
        assert process.stdout.readline() == "shards/00000.tar: 1 scenes of 128x128, seeds 0 to 0\n"
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (1, "")
