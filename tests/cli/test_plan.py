"""`--dry-run` shows what would be made: items, seeds, sizes and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image


def lines(ran) -> list[dict]:
    assert ran.exit_code == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_item_n_uses_seed_plus_n(invoke):
    Path("prompts.txt").write_text("ocean reef\n\n# a remark\n  snowy hills \n")
    plan = lines(invoke("generate", "--prompts", "prompts.txt", "--count", "2", "--seed", "7", "--dry-run", "--json"))
    assert [(item["prompt"], item["seed"]) for item in plan] == [
        ("ocean reef", 7),
        ("ocean reef", 8),
        ("snowy hills", 9),
        ("snowy hills", 10),
    ]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_size_that_the_model_refuses_names_its_item_before_anything_is_made(invoke, more):
    Path("rows.csv").write_text("prompt,width\nsea,64\nhills,12\n")
    ran = invoke("generate", "--prompts", "rows.csv", *more)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: item 1 (hills): width must be a multiple of 8, got 12\nhint: ")


def test_the_default_seed_is_zero(invoke):
    assert lines(invoke("generate", "sea", "--dry-run", "--json"))[0]["seed"] == 0


def test_prompts_come_from_stdin(invoke):
    plan = lines(invoke("panorama", "--prompts", "-", "--dry-run", "--json", stdin="sea\nlake\n"))
    assert [item["prompt"] for item in plan] == ["sea", "lake"]


def test_a_byte_order_mark_is_no_part_of_a_prompt(invoke):
    Path("prompts.txt").write_bytes("\N{BYTE ORDER MARK}sea\r\nlake\r\n".encode())
    plan = lines(invoke("generate", "--prompts", "prompts.txt", "--dry-run", "--json"))
    assert [item["prompt"] for item in plan] == ["sea", "lake"]


def test_prompts_of_other_encodings_are_read(invoke):
    Path("prompts.csv").write_bytes("prompt,seed\r\nbœuf,3\r\n".encode("utf-16"))
    plan = lines(invoke("generate", "--prompts", "prompts.csv", "--dry-run", "--json"))
    assert [(item["prompt"], item["seed"]) for item in plan] == [("bœuf", 3)]
    plan = lines(invoke("generate", "--prompts", "-", "--dry-run", "--json", stdin="\N{BYTE ORDER MARK}sea\n"))
    assert plan[0]["prompt"] == "sea"


def test_files_and_sizes_are_named(invoke):
    (item,) = lines(invoke("panorama", "Ocean reef!", "--width", "1024", "-o", "here", "--dry-run", "--json"))
    assert item["width"] == 1024
    assert item["height"] == 128
    assert item["files"]["image"] == "here/00000_0_ocean-reef.image.png"
    assert item["files"]["mesh"] == "here/00000_0_ocean-reef.mesh.glb"
    assert "metadata" in item["files"]
    assert not Path("here").exists()


def test_plain_plan_reads_well(invoke):
    ran = invoke("generate", "sea", "--width", "256", "--dry-run")
    head, first, *_ = ran.stdout.splitlines()
    assert re.fullmatch(r"00000: sea, seed 0, 256 x 128 pixels; estimate: [67]\d\d\.\d MB, \d+ s", head)
    assert first == "  outputs/00000_0_sea.image.png"


def test_without_metadata_there_is_no_sidecar(invoke):
    (item,) = lines(invoke("generate", "sea", "--no-metadata", "--dry-run", "--json"))
    assert "metadata" not in item["files"]


def test_photos_from_files_folders_patterns_and_stdin_come_once(invoke):
    for name in ("a.png", "trip/b.jpg", "trip/c.webp", "trip/notes.txt", "x/1.tif", "x/2.tif"):
        Path(name).parent.mkdir(exist_ok=True)
        if Path(name).suffix == ".txt":
            Path(name).touch()
        else:
            Image.new("L", (40, 30)).save(name)
    ran = invoke(
        "depth", "a.png", "trip", "x/*.tif", "-", "--seed", "5", "--dry-run", "--json", stdin="x/2.tif\na.png\n"
    )
    plan = lines(ran)
    assert [item["source"] for item in plan] == ["a.png", "trip/b.jpg", "trip/c.webp", "x/1.tif", "x/2.tif"]
    assert [item["seed"] for item in plan] == [5] * 5
    assert plan[1]["files"]["depth"] == "outputs/b.depth.png"


def test_a_file_with_brackets_in_its_name_is_no_pattern(invoke):
    Image.new("L", (40, 30)).save("a[1].png")
    assert lines(invoke("depth", "a[1].png", "--dry-run", "--json"))[0]["source"] == "a[1].png"


@pytest.mark.parametrize(("flag", "seed"), [([], 3), (["--seed", "4"], 4)])
def test_a_flag_beats_the_environment(invoke, flag, seed):
    plan = lines(invoke("generate", "sea", *flag, "--dry-run", "--json", JOINTNET_SEED="3", JOINTNET_OUT="elsewhere"))
    assert plan[0]["seed"] == seed
    assert plan[0]["files"]["image"].startswith("elsewhere/")


def test_prepare_names_its_shards_and_seeds(invoke):
    plan = lines(invoke("prepare", "worlds", "-n", "5", "--shard-size", "2", "--seed", "10", "--dry-run", "--json"))
    assert [(item["shard"], item["seeds"]) for item in plan] == [
        ("shards/00000.tar", [10, 11]),
        ("shards/00001.tar", [12, 13]),
        ("shards/00002.tar", [14, 14]),
    ]
    assert not Path("shards").exists()


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SEED", "-1", "error: JOINTNET_{} must be "),
        ("STEPS", "0", "error: JOINTNET_{} must be "),
        ("GUIDANCE", "-1", "error: JOINTNET_{} must be "),
        ("TILE_BATCH", "0", "error: JOINTNET_{} must be "),
        ("SCHEDULER", "unipd", "unknown scheduler unipd"),
        ("DTYPE", "float8", "error: JOINTNET_{} must be "),
        ("MODEL", "no/such/model", "no/such/model"),
        ("OVERWRITE", "perhaps", "error: JOINTNET_{} must be "),
        ("METADATA", "perhaps", "error: JOINTNET_{} must be "),
        ("QUIET", "perhaps", "error: JOINTNET_{} must be "),
    ],
)
def test_every_variable_reaches_its_option(invoke, variable, value, complaint):
    """A value that the option refuses is refused from the environment too; the flag wins over it."""
    name = f"JOINTNET_{variable}"
    ran = invoke("panorama", "sea", "--dry-run", "--json", **{name: value})
    assert (ran.exit_code, ran.stdout) == (2, ""), variable
    assert complaint.format(variable) in " ".join(ran.stderr.split())


@pytest.mark.parametrize(
    ("variable", "value", "flag", "place"),
    [
        ("SEED", "3", ["--seed", "5"], ["seed"]),
        ("OUT", "elsewhere", ["--out", "here"], ["files", "image"]),
    ],
)
def test_a_flag_wins_over_its_variable(invoke, variable, value, flag, place):
    def planned(*flags):
        (item,) = lines(invoke("panorama", "sea", *flags, "--dry-run", "--json", **{f"JOINTNET_{variable}": value}))
        for key in place:
            item = item[key]
        return str(item)

    assert planned().startswith(value) and planned(*flag).startswith(flag[1])


def test_an_ensemble_of_none_is_refused_from_the_environment(invoke):
    Path("a.png").write_bytes(b"")
    ran = invoke("depth", "a.png", "--dry-run", JOINTNET_ENSEMBLE="0")
    assert ran.exit_code == 2 and ran.stderr.startswith("error: JOINTNET_ENSEMBLE must be at least 1")
