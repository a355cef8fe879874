"""The page for blind choice: what it shows of which method, and what a real browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Page, find_browser, open_browser, wait
from PIL import Image
from typer.testing import CliRunner, Result

from jointnet_cli.cli import app
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.study.page import (
    KEY,
    PAGE,
    StudySample,
    default_question,
    make_pairs,
    match,
    parse_methods,
    read_samples,
)
from jointnet_cli.files.images import write_grey_png, write_png

PROMPTS = ["ocean reef", "a <b>hut</b> & </script>", "ocean reef", "海边"]


def pixels(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32) / np.float32(255)


def write(folder: Path, name: str, seed: int, *, depth: bool = True, prompt: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = {"jointnet": json.dumps({"model": folder.name, "prompt": prompt, "seed": seed % 100})} if prompt else {}
    write_png(folder / f"{name}.image.png", pixels(seed), text)
    if depth:
        write_grey_png(folder / f"{name}.depth.png", pixels(seed)[..., 0] / 4, text)


@pytest.fixture
def methods(tmp_path: Path) -> Path:
    """Three methods' results of four prompts, in our own layout."""
    for number, method in enumerate(("coral", "granite", "velvet")):
        for index, prompt in enumerate(PROMPTS):
            write(tmp_path / method, f"{index:05}_{index}_x", 100 * number + index, prompt=prompt)
    return tmp_path


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "compare", *map(str, arguments)])


def study(methods: Path, *options: object) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The page's text, its data and the key."""
    folders = [methods / name for name in ("coral", "granite", "velvet")]
    ran = compare(*folders, "--out", methods / "out", "--overwrite", *options)
    assert ran.exit_code == 0, ran.stderr
    page, key = (Path(line) for line in ran.stdout.splitlines())
    text = page.read_text()
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert data and (page.name, key.name) == (PAGE, KEY)
    return text, json.loads(data[1]), json.loads(key.read_text())


def pictures(text: str) -> dict[str, Image.Image]:
    found = re.findall(r'<script id="(\w+)" type="text/plain">data:image/\w+;base64,([\w+/=]+)</script>', text)
    return {name: Image.open(io.BytesIO(base64.b64decode(data))) for name, data in found}


def test_the_page_tells_nothing_of_methods(methods: Path) -> None:
    text, data, key = study(methods)
    for name in ("coral", "granite", "velvet", str(methods), "jointnet_cli", "00000_0_x"):
        assert name not in text
    assert not re.search(r"https?:|src=|@import|url\(", text)
    assert text.count("</script>") == text.count("<script")
    for picture in pictures(text).values():
        assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert {pair["prompt"] for pair in data["pairs"]} == set(PROMPTS)
    assert data["page"] == key["page"] and data["pairs"][0].keys() == {"id", "prompt", "left", "right"}


def test_the_key_says_what_the_page_shows(methods: Path) -> None:
    text, data, key = study(methods)
    shown = pictures(text)
    assert set(shown) == {name for pair in data["pairs"] for name in (*pair["left"], *pair["right"])}
    for pair in data["pairs"]:
        told = key["pairs"][pair["id"]]
        assert told["prompt"] == pair["prompt"]
        for side in ("left", "right"):
            image, depth = (shown[name] for name in pair[side])
            source = Path(key["methods"][told[side]]) / f"{told['item']}.image.png"
            assert np.array_equal(image, Image.open(source))
            # A quarter of the range in the file: what is shown does not depend on a method's scale.
            assert depth.mode == "L" and np.asarray(depth).min() == 0 and np.asarray(depth).max() == 255


def test_sides_are_balanced_and_all_pairs_are_asked(methods: Path) -> None:
    _, data, key = study(methods)
    told = [key["pairs"][pair["id"]] for pair in data["pairs"]]
    twos = Counter(frozenset((pair["left"], pair["right"])) for pair in told)
    assert len(twos) == 3 and set(twos.values()) == {4}
    lefts = Counter((pair["left"], pair["right"]) for pair in told)
    assert set(lefts.values()) == {2}
    assert len({(pair["item"], pair["left"], pair["right"]) for pair in told}) == 12


def test_the_seed_decides_order_and_sides(methods: Path) -> None:
    first, again, other = study(methods)[0], study(methods)[0], study(methods, "--seed", 1)[0]
    assert first == again != other
    orders = {
        tuple((pair["item"], pair["left"]) for pair in study(methods, "--seed", seed)[2]["pairs"].values())
        for seed in range(4)
    }
    assert len(orders) == 4


def test_a_limit_spares_all_twos_alike(methods: Path) -> None:
    _, data, key = study(methods, "--limit", 6)
    twos = Counter(frozenset((pair["left"], pair["right"])) for pair in key["pairs"].values())
    assert len(data["pairs"]) == 6 and set(twos.values()) == {2}


def test_maps_are_shown_where_both_sides_have_them(methods: Path) -> None:
    (methods / "coral/00000_0_x.depth.png").unlink()
    _, data, key = study(methods)
    for pair in data["pairs"]:
        told = key["pairs"][pair["id"]]
        bare = told["item"] == "00000_0_x" and "coral" in (told["left"], told["right"])
        assert len(pair["left"]) == len(pair["right"]) == (1 if bare else 2)
    assert {len(pair["left"]) for pair in study(methods, "--no-maps")[1]["pairs"]} == {1}


def test_jpeg_where_pages_would_be_large(methods: Path) -> None:
    assert {picture.format for picture in pictures(study(methods)[0]).values()} == {"PNG"}
    assert {picture.format for picture in pictures(study(methods, "--quality", 80)[0]).values()} == {"JPEG"}


def test_questions(methods: Path) -> None:
    _, data, _ = study(methods, "--question", "More real?", "--question", "Better depth?")
    assert data["questions"] == ["More real?", "Better depth?"]
    _, data, _ = study(methods)
    (question,) = data["questions"]
    assert "prompt" in question and "geometry" in question
    samples = read_samples(methods / "coral")
    plain = [StudySample(sample.name, sample.image, {}, "", 0) for sample in samples]
    assert default_question(make_pairs([{"a": sample, "b": sample} for sample in plain])) == (
        "Which is better overall? Think of its quality."
    )


def test_prompts_of_foreign_pictures_lie_in_text_files(tmp_path: Path) -> None:
    write_png(tmp_path / "b.png", pixels(0))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.JPG")
    write_grey_png(tmp_path / "b.depth.png", pixels(0)[..., 0])
    write_png(tmp_path / "b.preview.png", pixels(0))
    (tmp_path / "b.txt").write_text("a red\nhut\n")
    first, second = read_samples(tmp_path)
    assert (first.name, first.image.name, first.maps, first.prompt) == ("a", "a.JPG", {}, "")
    assert (second.name, second.prompt) == ("b", "a red hut")
    assert {kind: path.name for kind, path in second.maps.items()} == {"depth": "b.depth.png"}


def test_stereo_images_and_textures_of_a_result_are_not_compared(methods: Path) -> None:
    for ending in ("sbs.png", "180_LR.jpg", "360_TB.jpg", "mesh.front.png", "mesh.behind.png", "preview.png"):
        Image.new("RGB", (4, 4)).save(methods / f"coral/00000_0_x.{ending}")
    Image.new("L", (4, 4)).save(methods / "coral/00000_0_x.depth-uncertainty.png")
    assert [sample.name for sample in read_samples(methods / "coral")] == [f"0000{n}_{n}_x" for n in range(4)]


def sample(name: str, prompt: str = "", seed: int = 0) -> StudySample:
    return StudySample(name, Path(name), {}, prompt, seed)


def names(groups: list[Any]) -> list[tuple[str, ...]]:
    return [tuple(sample.name for sample in group.values()) for group in groups]


def test_pictures_are_matched_by_name_prompt_or_order() -> None:
    ours = [sample("0", "sea", 2), sample("1", "sea", 1), sample("2", "hut")]
    groups, rule = match({"a": ours, "b": [sample("2", "HUT"), sample("1"), sample("9", "z")]})
    assert rule == "name" and sorted(names(groups)) == [("1", "1"), ("2", "2")]
    theirs = [sample("0", "Hut"), sample("y", "sea", 5), sample("z", "sea", 6), sample("2", "lake")]
    groups, rule = match({"a": ours, "b": theirs})
    assert rule == "prompt" and sorted(names(groups)) == [("0", "z"), ("1", "y"), ("2", "0")]
    groups, rule = match({"a": ours, "b": [sample("p"), sample("q"), sample("r")]})
    assert rule == "order" and names(groups) == [("0", "p"), ("1", "q"), ("2", "r")]
    with pytest.raises(UserError, match="match by neither name nor prompt: a has 3, b has 1"):
        match({"a": ours, "b": [sample("p")]})
    assert names(match({"a": ours, "b": [sample("p")]}, "order")[0]) == [("0", "p")]
    groups, _ = match({"a": ours, "b": ours[:2], "c": ours[1:]}, "name")
    assert sorted(map(len, groups)) == [2, 2, 3]


def test_faults(methods: Path) -> None:
    coral, granite, out = methods / "coral", methods / "granite", methods / "out"
    (methods / "void").mkdir()
    for arguments, words in [
        ([coral], "nothing to be compared with"),
        ([coral, methods / "none"], "no folder"),
        ([coral, coral], "two methods are called coral"),
        ([coral, methods / "void"], "no images in"),
    ]:
        ran = compare(*arguments, "--out", out)
        assert ran.exit_code == 2 and words in ran.stderr and "Traceback" not in ran.stderr
    assert compare(coral, f"other={coral}", "--out", out).exit_code == 0
    assert "exists already" in compare(coral, granite, "--out", out).stderr
    assert list(parse_methods([f"a={coral}", str(granite)])) == ["a", "granite"]


def test_different_prompts_are_noted(methods: Path) -> None:
    write(methods / "granite", "00001_1_x", 5, prompt="a lake")
    arguments = (methods / "coral", methods / "granite", "--out", methods / "out", "--match", "name")
    assert "1 of 4 items hold results of different prompts" in compare(*arguments).stderr


def test_pictures_without_counterpart_are_counted(methods: Path) -> None:
    write(methods / "coral", "extra", 7)
    ran = compare(methods / "coral", methods / "granite", "--out", methods / "out", "--json")
    assert "coral: 1 of 5 images have no counterpart" in ran.stderr
    line = json.loads(ran.stdout)
    assert (line["pairs"], line["items"], line["matched_by"]) == (4, 4, "name")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    with open_browser(program, tmp_path / "browser") as page:
        yield page


def votes_of(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("state.votes")


def test_votes_in_a_browser(methods: Path, page: Page, tmp_path: Path) -> None:
    """Keys, buttons and fingers vote; the page takes up where it was; what it saves can be tallied."""
    _, data, _ = study(methods, "--limit", 3, "--question", "More real?", "--question", "Better depth?")
    steps = [(pair["id"], question) for pair in data["pairs"] for question in (0, 1)]
    file = methods / "out" / PAGE
    page.open(file)
    page.press("ArrowLeft")
    assert votes_of(page) == []
    page.evaluate("document.getElementById('participant').value = ' Ada '")
    page.tap("#start")
    page.until("!document.getElementById('study').hidden")
    assert page.evaluate("document.getElementById('prompt').textContent") == data["pairs"][0]["prompt"]
    assert page.evaluate("document.getElementById('question').textContent") == "More real?"
    page.until("[...document.images].every(image => image.complete && image.naturalWidth === 16)")
    assert page.evaluate("document.images.length") == 4

    page.press("ArrowLeft")
    page.press("ArrowDown")
    page.press("u")
    page.press("ArrowRight")
    assert page.evaluate("document.getElementById('prompt').textContent") == data["pairs"][1]["prompt"]
    page.tap(".side[data-choice=left] img")
    page.until("state.votes.length === 3")
    page.open(file)
    page.until("!document.getElementById('study').hidden")
    assert [vote["choice"] for vote in votes_of(page)] == ["left", "right", "left"]
    page.press("z")
    assert page.evaluate("document.images[0].clientWidth > document.querySelector('.side').clientWidth")
    page.press("z")
    page.tap("#tie")
    page.press("t")
    page.tap("#undo")
    page.until("state.votes.length === 4")
    page.press("d")
    page.tap("#right")
    page.until("!document.getElementById('end').hidden")
    page.press("ArrowLeft")

    page.tap("#finish")
    downloads = tmp_path / "browser/downloads"
    wait(lambda: bool(list(downloads.glob("votes-*.json"))), "a download")
    (saved,) = downloads.glob("votes-*.json")
    record = json.loads(saved.read_text())
    assert record["participant"] == "Ada" and record["finished"] and record["page"] == data["page"]
    assert [(vote["pair"], vote["question"]) for vote in record["votes"]] == steps
    assert [vote["choice"] for vote in record["votes"]] == ["left", "right", "left", "tie", "right", "right"]
    assert all(vote["seconds"] >= 0 for vote in record["votes"])
    assert page.faults == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.requests)

    ran = CliRunner().invoke(
        app, ["evaluate", "tally", str(saved), "--key", str(file.parent / KEY), "--out", str(tmp_path / "t"), "--json"]
    )
    assert ran.exit_code == 0, ran.stderr
    facts = json.loads(ran.stdout.splitlines()[0])["facts"]
    assert (facts["votes"], facts["sessions"]) == (6, 1)
