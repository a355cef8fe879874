"""Rows of a text, CSV or JSONL file: each overrides the flags for its item, and is checked as a flag is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.files.batch_file import BatchRow, read_rows
from jointnet_cli.params import Param


def plan(invoke, *arguments: str, stdin: str | None = None) -> list[dict]:
    ran = invoke(*arguments, "--dry-run", "--json", stdin=stdin)
    assert ran.exit_code == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


TABLES = {
    "items.csv": 'prompt,seed,width,negative-prompt\n"reef, blue",7,256,fog\nhills,,,\nlake,,512,\n',
    "items.jsonl": '{"prompt": "reef, blue", "seed": 7, "width": 256, "negative-prompt": "fog"}\n\n'
    '{"prompt": "hills", "width": null}\n{"prompt": "lake", "width": 512}\n',
    "items.tsv": "Prompt\tSeed\tWidth\tNegative Prompt\nreef, blue\t7\t256\tfog\nhills\nlake\t\t512\n",
    "semicolons.csv": '\ufeffPROMPT;SEED;WIDTH;"NEGATIVE-PROMPT"\r\nreef, blue;7;256;fog\r\n\r\nhills;;;\r\nlake;;512;\r\n',
    "excel.csv": "sep=;\nprompt;seed;width\nreef, blue;7;256\nhills\nlake;;512\n",
    "tabs.csv": "\nprompt\tseed\twidth\rreef, blue\t7\t256\rhills\rlake\t\t512\r",
    "items.json": '[{"Prompt": "reef, blue", "seed": 7, "width": 256}, "hills", {"prompt": "lake", "width": 512}]',
    "lines.json": '{"prompt": "reef, blue", "seed": 7, "width": 256}\n"hills"\n{"prompt": "lake", "width": 512}',
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_override_flags(invoke, name):
    Path(name).write_text(TABLES[name])
    items = plan(invoke, "generate", "--prompts", name, "--width", "128", "--seed", "3")
    assert [(item["prompt"], item["seed"], item["width"]) for item in items] == [
        ("reef, blue", 7, 256),
        ("hills", 4, 128),
        ("lake", 5, 512),
    ]


def test_jsonl_comes_from_stdin_too(invoke):
    items = plan(invoke, "panorama", "--prompts", "-", stdin='{"prompt": "sea", "width": 512, "wrap": false}\n')
    assert [(item["prompt"], item["width"]) for item in items] == [("sea", 512)]
    for stdin, prompts in (('["sea",\n "reef"]', ["sea", "reef"]), ("[sea]\nreef", ["[sea]", "reef"])):
        assert [item["prompt"] for item in plan(invoke, "generate", "--prompts", "-", stdin=stdin)] == prompts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_stdin_is_read_as_files_are(invoke, encoding):
    ran = invoke("generate", "--prompts", "-", "--dry-run", "--json", stdin="méer\nreef\n".encode(encoding))
    assert [json.loads(line)["prompt"] for line in ran.stdout.splitlines()] == ["méer", "reef"], ran.stderr
    Image.new("RGB", (8, 8)).save("é.png")
    ran = invoke("depth", "-", "--dry-run", "--json", stdin="é.png\r\n".encode(encoding))
    assert [json.loads(line)["source"] for line in ran.stdout.splitlines()] == ["é.png"], ran.stderr


@pytest.mark.parametrize("data", ["sea\n".encode("utf-16-le"), b"caf\xe9\n"])
def test_text_that_is_not_utf8_is_refused(invoke, data):
    Path("items.txt").write_bytes(data)
    for source, place in (("items.txt", "items.txt"), ("-", "stdin")):
        ran = invoke("generate", "--prompts", source, "--dry-run", stdin=data)
        assert ran.exit_code == 2 and f"{place} is not UTF-8 text" in ran.stderr and "hint: save it" in ran.stderr


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("items.csv", "prompt,seed,seed\nsea,1,2\n", "items.csv line 1: the column seed occurs twice"),
        ("items.csv", "prompt,negative-prompt,negative_prompt\nsea,a,b\n", "the column negative_prompt occurs twice"),
        ("items.csv", 'prompt,seed\n"sea,1\nreef,2\n', "items.csv line 2: a double quote is not closed"),
        ("items.csv", 'prompt,seed\nhut,1\n"sea" side,1\n', "items.csv line 3: text follows a closing double quote"),
        ("items.csv", 'prompt,seed\nhut,1\n"sea\nside,1\n', "items.csv line 3: a double quote is not closed"),
        ("items.json", '["sea",\n"reef"', "items.json line 2: not JSON"),
        ("items.csv", "\nprompt,sede\nsea,\nreef,3\n", "items.csv line 2: unknown column sede"),
        ("items.csv", "prompt,,seed\nsea,x,3\n", "items.csv line 1: column 2 has no name"),
        ("items.csv", f"prompt\n{'x' * 200_000}\n", "items.csv line 2: a cell is too long"),
        ("items.csv", f"prompt,seed\nsea,{'9' * 5000}\n", f"seed must be a whole number, got '{'9' * 40}…'"),
        ("items.csv", "prompt,guidance\nsea,nan\n", "items.csv line 2: guidance must be a finite number, got 'nan'"),
        ("items.csv", "sea\n", "no prompts in items.csv\nhint: the first line of a table names its columns"),
        ("items.json", " ", "no prompts in items.json"),
        ("items.json", "[" * 100_000, "items.json: not JSON that can be read"),
        ("items.json", '[{"seed": ' + "9" * 5000 + "}]", "items.json: not JSON that can be read"),
        ("items.json", '[{"prompt": "sea", "prompt": "reef"}]', "items.json item 1: prompt occurs twice"),
        ("items.ndjson", '{"prompt": "sea", "seed": -1}', "items.ndjson line 1: seed must be at least 0"),
        ("items.jsonl", '{"prompt": "se\\u0000a"}', "items.jsonl line 1: prompt must be text in UTF-8 without NUL"),
        ("items.json", '["sea", 3]', "items.json item 2: not a JSON object"),
        ("items.json", '[{"prompt": "sea", "Prompt": "reef"}]', "items.json item 1: prompt occurs twice"),
        ("items.json", '["sea", {"steps": 0}]', "items.json item 2: steps must be at least 1, got 0"),
        ("items.xlsx", "PK", "items.xlsx is not a text file"),
        ("items.jsonl", '{"prompt": "sea \\ud83d"}\n', "items.jsonl line 1: prompt must be text in UTF-8 without NUL"),
        (
            "items.jsonl",
            '{"prompt": "sea", "seed": 18446744073709551616}\n',
            "at most 18446744073709551615",
        ),
    ],
)
def test_rows_that_would_be_read_wrongly_are_refused(invoke, name, text, words):
    Path(name).write_text(text)
    ran = invoke("generate", "--prompts", name, "--dry-run")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr


def test_repeats_of_a_row_count_up_from_its_seed(invoke):
    Path("items.csv").write_text("prompt,seed\nreef,7\nhills,\n")
    items = plan(invoke, "generate", "--prompts", "items.csv", "--count", "2")
    assert [(item["prompt"], item["seed"]) for item in items] == [("reef", 7), ("reef", 8), ("hills", 2), ("hills", 3)]


def test_a_prompt_stands_in_where_rows_have_none(invoke):
    Path("items.csv").write_text("width\n256\n128\n")
    items = plan(invoke, "generate", "sea", "--prompts", "items.csv")
    assert [(item["prompt"], item["width"]) for item in items] == [("sea", 256), ("sea", 128)]


def test_inputs_may_differ_by_row(invoke):
    for name, size in (("a.png", (40, 24)), ("b.png", (24, 16))):
        Image.new("RGB", size).save(name)
        Image.new("L", size, 255).save(f"mask-{name}")
    Path("edits.csv").write_text("image,mask,prompt\na.png,mask-a.png,a palm\nb.png,mask-b.png,a hut\n")
    items = plan(invoke, "inpaint", "--prompts", "edits.csv")
    assert [(item["source"], item["prompt"], item["width"], item["height"]) for item in items] == [
        ("a.png", "a palm", 40, 24),
        ("b.png", "a hut", 24, 16),
    ]
    Path("scales.csv").write_text("image,scale\na.png,2\nb.png,1.5\n")
    assert [item["width"] for item in plan(invoke, "refine", "--prompts", "scales.csv")] == [80, 36]


MISTAKES = {
    "unknown column": ("items.csv", "prompt,stepz\nsea,3\n", "items.csv line 1: unknown column stepz", "mean steps?"),
    "no number": (
        "items.csv",
        "prompt,steps\nsea,3\nlake,many\n",
        "items.csv line 3: steps must be a whole number, got 'many'",
        None,
    ),
    "out of bounds": (
        "items.csv",
        "prompt,seed\nsea,-1\n",
        "items.csv line 2: seed must be at least 0, got '-1'",
        None,
    ),
    "no such choice": (
        "items.jsonl",
        '{"prompt": "sea", "depth_kind": "z"}',
        "line 1: depth_kind must be auto, disparity or distance, got 'z'",
        None,
    ),
    "wrong type": ("items.jsonl", '{"prompt": 3}', "items.jsonl line 1: prompt must be text, got 3", None),
    "no prompt": ("items.csv", "prompt,seed\nsea,1\n,2\n", "no prompt in items.csv line 3", "say what to draw"),
    "missing input": ("items.csv", "prompt,depth\nsea,none.exr\n", "items.csv line 2: no file none.exr", None),
    "too many cells": ("items.csv", "prompt\nsea, blue\n", "items.csv line 2: more cells", "double quotes"),
    "no JSON": ("items.jsonl", '{"prompt": "sea"}\n{"prompt"', "items.jsonl line 2: not JSON", None),
    "no object": ("items.jsonl", '["sea"]', "items.jsonl line 1: not a JSON object", "write {"),
    "header alone": ("items.csv", "prompt,seed\n", "no prompts in items.csv", "first line of a table"),
    "not of one item": ("items.csv", "prompt,out\nsea,here\n", "unknown column out", None),
}


@pytest.mark.parametrize(("name", "text", "words", "hint"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_bad_row_is_named_before_anything_runs(invoke, name, text, words, hint):
    Path(name).write_text(text)
    ran = invoke("generate", "--prompts", name)
    assert (ran.exit_code, ran.stdout) == (2, "")
    message, *hints = ran.stderr.splitlines()
    assert words in message
    assert len(hints) <= 1
    assert hint is None or hint in hints[0]
    assert sorted(path.name for path in Path.cwd().iterdir()) == [name]


@dataclass(frozen=True)
class Options:
    steps: Annotated[int | None, Param("Any.", ge=1, le=1000)] = None
    strength: Annotated[float, Param("Any.")] = 1.0
    what: Annotated[Literal["both", "depth"], Param("Any.")] = "both"
    wrap: Annotated[bool | None, Param("Any.")] = None
    mask: Annotated[Path | None, Param("Any.")] = None
    prompt: Annotated[str, Param("Any.")] = ""


OPTIONS = st.builds(
    Options,
    steps=st.integers(1, 1000),
    strength=st.floats(0, 1),
    what=st.sampled_from(["both", "depth"]),
    wrap=st.booleans(),
    mask=st.from_regex(r"[a-z/]{1,8}\.png", fullmatch=True).map(Path),
    prompt=st.text(),
)


@settings(max_examples=20)
@given(OPTIONS)
def test_text_becomes_the_options_own_types(options):
    text = {name: str(value) for name, value in vars(options).items()}
    assert BatchRow("here", text).override(Options()) == options


@given(st.integers().filter(lambda steps: not 1 <= steps <= 1000))
def test_the_flags_bounds_hold(steps):
    with pytest.raises(UserError, match="here: steps"):
        BatchRow("here", {"steps": steps}).override(Options())


def test_a_file_may_have_dos_line_ends_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes("\N{BYTE ORDER MARK}prompt,seed\r\nsea,1\r\n".encode())
    assert [dict(row.values) for row in read_rows(str(path))] == [{"prompt": "sea", "seed": "1"}]


def test_maps_are_announced_once_a_file(invoke):
    np.save("far.npy", np.full((32, 32), 3.0))
    ran = invoke("generate", "sea", "--depth", "far.npy", "--count", "3", "--dry-run")
    assert ran.stderr == "far.npy: distance, turned into disparity\n"
    assert invoke("generate", "sea", "--depth", "far.npy", "--dry-run", "--quiet").stderr == ""
