"""Folders of images and of shards as sources."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.gallery import SETTINGS, content, image_bytes, settings_of
from helpers.shards import read_shards, write_tar

from jointnet_cli.data.build import build_plan, open_plan
from jointnet_cli.data.folders import images_below
from jointnet_cli.data.job import PrepareJob
from jointnet_cli.data.plan import Plan, read_plan
from jointnet_cli.data.prepare import prepare
from jointnet_cli.data.settings import FilterSettings
from jointnet_cli.data.shards.format import PLAN, png, unpack
from jointnet_cli.data.shards.index import count_samples, read_samples
from jointnet_cli.data.source_files import Source
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.captions import shard_caption


def sift(source: Path, out: Path, **bounds: object) -> Plan:
    out.mkdir()
    return build_plan(Source((str(source),)), settings_of(10, FilterSettings(**bounds)), out)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep" / ".hidden").mkdir(parents=True)
    for number, name in enumerate(["b.jpg", "a.JPEG", "deep/c.jpg", "deep/.hidden/d.jpg"]):
        (folder / name).write_bytes(image_bytes(number))
    (folder / "a.txt").write_text("a cat\x00\n on a roof\n", encoding="utf-8")
    (folder / "b.json").write_text(json.dumps({"text": "a dog", "score": 0.7, "boxes": [[1, 2]]}))
    (folder / "notes.md").write_text("no image")
    return folder


def test_a_folder_of_images_with_captions_from_either_file(photos: Path, tmp_path: Path) -> None:
    rows = sift(photos, tmp_path / "out").read(0)
    assert [(Path(row.url).relative_to(photos).as_posix(), row.caption) for row in rows] == [
        ("a.JPEG", "a cat\x00\n on a roof"),
        ("b.jpg", "a dog"),
        ("deep/c.jpg", ""),
    ]
    assert [row.fields["score"] for row in rows] == [None, 0.7, None]
    assert "boxes" not in rows[0].fields


def test_captions_beside_images_are_text(photos: Path, tmp_path: Path) -> None:
    (photos / "a.txt").write_text("a cat", encoding="utf-8-sig")
    (photos / "a.json").write_text('{"text": ["not", "needed"]}')
    (photos / "b.json").write_text('{"caption": 0, "phash": 9223372036854775815}', encoding="utf-8-sig")
    (photos / "deep" / "c.json").write_text('{"Text": true}')
    rows = sift(photos, tmp_path / "out").read(0)
    assert [row.caption for row in rows] == ["a cat", "0", "true"]
    assert [row.fields["phash"] for row in rows] == [None, 9223372036854775815, None]
    (photos / "a.txt").write_text("")
    (photos / "a.json").write_text('{"text": "not", "title": "needed"}')
    assert sift(photos, tmp_path / "empty").read(0)[0].caption == ""
    (photos / "b.json").write_text('{"caption": ["a", "dog"]}')
    with pytest.raises(UserError, match=r"b\.json: the caption is a list or an object"):
        sift(photos, tmp_path / "again")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_a_caption(photos: Path, tmp_path: Path, encoding: str) -> None:
    (photos / "a.txt").write_text("a bœuf", encoding=encoding)
    assert sift(photos, tmp_path / "out").read(0)[0].caption == "a bœuf"
    sample = {"__key__": "a", "png": png(np.zeros((2, 2, 3), np.uint8)), "txt": "a bœuf".encode(encoding)}
    assert unpack(sample, ()).caption == "a bœuf"


def test_without_a_text_file_the_record_has_the_caption(tmp_path: Path) -> None:
    members = {"1.jpg": image_bytes(0), "1.json": b'{"Caption": "", "TEXT": "a dog"}'}
    members |= {"2.jpg": image_bytes(1), "2.json": b'{"caption": 7, "text": "no"}'}
    members |= {"3.jpg": image_bytes(2), "3.json": b'{"caption": "no"}', "3.txt": b"a cat"}
    shard = write_tar(tmp_path / "0.tar", {**members, "4.jpg": image_bytes(3)})
    captions = ["a dog", "7", "a cat", ""]
    assert [row.caption for row in sift(shard, tmp_path / "out").read(0)] == captions
    assert [sample.caption for sample in read_shards([shard], ())] == captions
    assert [shard_caption(raw).text for raw in read_samples(str(shard))] == captions
    sample = {"__key__": "5", "jpg": image_bytes(0), "json": b'{"caption": ["a"]}'}
    with pytest.raises(UserError, match="the record of sample 5: the caption is a list or an object"):
        unpack(sample, ())


@pytest.mark.parametrize(
    ("names", "captions", "torn"),
    [
        (["0.jpg", "1.jpg", "0.txt", "1.txt"], ["", ""], 2),
        (["0.jpg", "0.txt", "1.jpg", "2.jpg", "1.txt"], ["text", "", ""], 1),
        (["._0.jpg", "0.jpg", "._0.txt", "0.txt"], ["text"], 0),
        (["__0.jpg", "__0.txt", "__meta__", "1.txt", "1.jpg"], ["text", "text"], 0),
    ],
)
def test_every_reader_finds_the_same_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str], captions: list[str], torn: int
) -> None:
    shard = write_tar(tmp_path / "0.tar", {name: b"text" if name.endswith("txt") else image_bytes(0) for name in names})
    assert [row.caption for row in sift(shard, tmp_path / "out").read(0)] == captions
    message = f"warning: {torn} samples in {shard} are incomplete: their files do not follow one another"
    assert capsys.readouterr().err.count(message) == bool(torn)
    (found,) = count_samples([str(shard)])
    assert found.count == len(captions)
    assert capsys.readouterr().err.count(message) == bool(torn)
    assert [shard_caption(raw).text for raw in read_samples(str(shard)) if "jpg" in raw] == captions


def test_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    members = {"caf\udce9.jpg": image_bytes(0), "caf\udce9.txt": b"a cat"}
    options = {"format": tarfile.GNU_FORMAT, "encoding": "utf-8", "errors": "surrogateescape"}
    shard = write_tar(tmp_path / "0.tar", members, **options)
    (row,) = sift(shard, tmp_path / "out").read(0)
    assert (row.url, row.caption) == ("0.tar/caf?.jpg", "a cat")


def test_captions_that_are_no_text_are_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latin = "a bœuf caf\xe9".replace("œ", "oe").encode("latin-1")
    (photos / "a.txt").write_bytes(latin)
    (photos / "deep" / "c.txt").write_bytes(latin)
    assert sift(photos, tmp_path / "out").read(0)[0].caption == "a boeuf caf\ufffd"
    said = capsys.readouterr().err
    assert f"warning: 2 captions are not UTF-8 text, such as {photos / 'a.txt'}: unreadable bytes become U+FFFD" in said
    shard = write_tar(tmp_path / "0.tar", {"1.jpg": image_bytes(0), "1.txt": latin})
    assert sift(shard, tmp_path / "again").read(0)[0].caption == "a boeuf caf\ufffd"
    assert f"warning: 1 captions are not UTF-8 text, such as {shard}: 1.txt" in capsys.readouterr().err


def test_no_record_takes_the_place_of_its_image(photos: Path, tmp_path: Path) -> None:
    record = {"URL": "http://a", "Text": "a dog", "__TAR": "/etc/hostname", "Score": 1}
    (photos / "b.json").write_text(json.dumps(record))
    rows = sift(photos, tmp_path / "out").read(0)
    assert [Path(row.url).name for row in rows] == ["a.JPEG", "b.jpg", "c.jpg"]
    assert (rows[1].caption, rows[1].fields) == ("a dog", {"text": "a dog", "score": 1})


def test_the_fields_of_images_can_be_filtered(photos: Path, tmp_path: Path) -> None:
    assert [row.caption for row in sift(photos, tmp_path / "out", caption_above=5).read(0)] == ["a cat\x00\n on a roof"]


def test_a_caption_is_one_line_of_text_and_the_record_has_it_as_it_was(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(PrepareJob(out, open_plan(out, Source((str(photos),)), settings_of(10)), SETTINGS))
    found = content(out)
    assert found["000000000.txt"] == b"a cat on a roof"
    assert json.loads(found["000000000.json"])["caption"] == "a cat\x00\n on a roof"


def test_shards_of_others_are_a_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    record = {
        "url": "https://example.com/1",
        "caption": "one",
        "key": "0",
        "status": "success",
        "width": 24,
        "score": 3,
    }
    first = {"a/0.jpg": image_bytes(0), "a/0.json": json.dumps(record).encode(), "a/0.txt": b"one"}
    write_tar(source / "00000.tar", {**first, "a/1.webp": image_bytes(1), "a/1.txt": b"two", "a/2.txt": b"no image"})
    write_tar(source / "00001.tar", {"x.depth.png": b"a map", "x.png": image_bytes(2)})
    out = tmp_path / "out"
    plan = open_plan(out, Source((str(source),)), settings_of(2))
    assert plan.funnel["rows read"] == 3
    prepare(PrepareJob(out, plan, SETTINGS))
    samples = list(read_shards(sorted(out.glob("*.tar")), ()))
    assert [(sample.key, sample.caption) for sample in samples] == [
        ("000000000", "one"),
        ("000000001", "two"),
        ("000010000", ""),
    ]
    records = [sample.record for sample in samples]
    assert [record["url"] for record in records] == ["https://example.com/1", "00000.tar/a/1.webp", "00001.tar/x.png"]
    assert records[0]["score"] == 3 and records[0]["original_width"] == 24
    assert not any(name.startswith("__") for record in records for name in record)
    assert not list(out.glob(".0*"))


def test_images_with_another_dot_in_their_name_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = image_bytes(1)
    members = {"a.jpg": image, "a.mask.png": image, "b.v1.jpg": image, "b.v1.txt": b"", "c.v1.JPEG": image}
    members |= {"d.depth.png": image, "e.png": image}
    tar = write_tar(tmp_path / "dots.tar", members)
    said = "2 images in {} are not read: the key of a sample ends at the first dot of a file's name"
    assert [shard.count for shard in count_samples([str(tar)])] == [2]
    assert said.format(tar) in capsys.readouterr().err
    count_samples([str(tar)])  # a count that is kept
    assert said.format(tar) in capsys.readouterr().err
    assert len(sift(tar, tmp_path / "out").read(0)) == 2
    assert said.format(tar) in capsys.readouterr().err


def test_our_own_shards_can_be_sifted_again_and_again(photos: Path, tmp_path: Path) -> None:
    source = photos
    for step in range(3):
        out = tmp_path / str(step)
        plan = open_plan(out, Source((str(source),)), settings_of(10))
        prepare(PrepareJob(out, plan, SETTINGS))
        source = out
    assert len(content(source)) == 9
    assert read_plan(source / PLAN).funnel["rows read"] == 3


@pytest.mark.parametrize("make", ["empty", "bad record", "no tar"])
def test_folders_that_are_no_source(tmp_path: Path, make: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if make == "bad record":
        (source / "a.jpg").write_bytes(image_bytes(0))
        (source / "a.json").write_text("{")
    elif make == "no tar":
        (source / "a.tar").write_bytes(b"nothing" * 200)
    with pytest.raises(UserError, match="source"):
        sift(source, tmp_path / "out")


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret.txt"
    secret.write_text("password")
    (tmp_path / "secret.json").write_text('{"caption": "password"}')
    (tmp_path / "secret.png").touch()
    folder.mkdir()
    for name in ("a.png", "b.png", "real.png"):
        (folder / name).touch()
    (folder / "a.txt").symlink_to(secret)
    (folder / "b.json").symlink_to("../secret.json")
    (folder / "c.png").symlink_to("../secret.png")
    (folder / "d.png").symlink_to("real.png")
    found = list(images_below([folder]))
    names = ["a.png", "b.png", "real.png", "real.png"]
    assert [(Path(str(row["url"])).name, row["caption"]) for row in found] == [(name, "") for name in names]
    told = capsys.readouterr().err
    assert told.startswith(f"warning: 3 files are links out of the folders that were named, such as {folder}/a.txt: ")
    assert next(row["caption"] for row in images_below([folder, tmp_path]) if "a.png" in str(row["url"])) == "password"
    (folder / "e.png").symlink_to("../secret.png")
    assert len(list(images_below([folder / "e.png"]))) == 1  # the user named it
