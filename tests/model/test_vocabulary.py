"""Prompts of a model that was trained on few words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.data.worlds.vocabulary import caption_words
from jointnet_cli.model import text as module
from jointnet_cli.model.checkpoint import JointModel, load_model, save_model
from jointnet_cli.model.folder import read_folder, read_published
from jointnet_cli.model.published import export_model, import_model
from jointnet_cli.model.vocabulary import FILE, MOST, Vocabulary
from jointnet_cli.training.stages.base import known_words

CAPTIONS = ["A lake at night", "snowy hills by the sea, two boats", "Café 3 d'Azur"]
TINY_CAPTIONS = ["a lake", "snowy hills by the sea", "ocean reef"]
WORDS = Vocabulary.of(CAPTIONS)
assert WORDS

FORMS = Vocabulary(frozenset({"sky", "beaches", "huts", "moss", "fir"}))


@pytest.mark.parametrize(
    ("word", "read"),
    [("sky", "sky"), ("skies", "sky"), ("beach", "beaches"), ("hut", "huts"), ("firs", "fir"), ("mosses", "moss"),
     ("fire", None), ("skys", "sky"), ("s", None), ("hat", None)],
)  # fmt: skip
def test_a_noun_in_its_other_number_is_known(word: str, read: str | None) -> None:
    assert FORMS.read_as(word) == read


def test_words_are_those_of_the_captions() -> None:
    lines = "a lake at night snowy hills by the sea , two boats café 3 d'azur"
    assert WORDS.known == set(lines.split())


@pytest.mark.parametrize(
    ("prompt", "kept", "unknown"),
    [
        ("Two BOATS by the sea", "Two BOATS by the sea", []),
        ("two boat by the seas", "two boats by the sea", []),
        ("hilly boats, a hill, lakes", "boats , a hills , lake", ["hilly"]),
        ("as bys", "", ["as", "bys"]),
        ("a purple dragon by the lake, a dragon", "a by the lake , a", ["purple", "dragon"]),
        ("masterpiece, best, snowy hills, 4k", "snowy hills", ["masterpiece", "best", "4k"]),
        ("snowy-hills!", "snowy hills", []),
        ("3 boats, 12 boats, d'Azur, l'azur", "3 boats , boats , d'azur", ["12", "l'azur"]),
        ("cafe\N{COMBINING ACUTE ACCENT} at night", "cafe\N{COMBINING ACUTE ACCENT} at night", []),
        ("<|endoftext|> sea", "sea", ["endoftext"]),
        ("dragon", "", ["dragon"]),
        ("", "", []),
    ],
)
def test_other_words_are_left_out_and_named(prompt: str, kept: str, unknown: list[str]) -> None:
    assert WORDS.keep(prompt) == kept
    assert WORDS.unknown(prompt) == unknown


@given(st.text(st.sampled_from("ab ,.'-éλ_1\n"), max_size=30) | st.text(max_size=30))
def test_what_is_kept_is_known(text: str) -> None:
    kept = WORDS.keep(text)
    assert WORDS.keep(kept) == kept and not WORDS.unknown(kept)
    everything = Vocabulary.of([text])
    assert everything and everything.keep(text) == text and not everything.unknown(text)
    nothing = Vocabulary(frozenset())
    assert nothing.keep(text) == "" or not Vocabulary.of([text]).known
    assert set(nothing.unknown(text, text)) == {piece for piece in everything.known if piece[0].isalnum()}


def test_an_encoder_that_knows_many_words_has_no_list() -> None:
    captions = [f"caption {number}" for number in range(MOST)]
    assert Vocabulary.of(captions) is None
    assert Vocabulary.of(captions[: MOST - 1])


def test_a_base_that_goes_on_from_another_knows_the_words_of_both(tiny_model: Callable[[str], JointModel]) -> None:
    earlier = replace(tiny_model("base"), words=Vocabulary.of(["a hut"]))
    assert known_words(["a lake"], None) == Vocabulary.of(["a lake"])
    assert known_words(["a lake"], earlier) == Vocabulary.of(["a hut", "a lake"])
    assert known_words(["a lake"], replace(earlier, words=None)) is None


def with_words(source: Path, folder: Path) -> Path:
    """A model's folder that states the words of `TINY_CAPTIONS`."""
    shutil.copytree(source, folder)
    words = Vocabulary.of(TINY_CAPTIONS)
    assert words
    words.write(folder / "tokenizer")
    return folder


def test_a_model_reads_prompts_without_other_words(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    plain, told = load_model(tiny_folder("depth")), load_model(with_words(tiny_folder("depth"), tmp_path / "told"))
    prompts = ["a purple lake", "a lake", "a dragon", ""]
    with torch.inference_mode():
        freely, bound = plain.encode_text(prompts).text, told.encode_text(prompts).text
    assert plain.words is None and plain.unknown_words(*prompts) == []
    assert not torch.equal(freely[0], freely[1])
    assert torch.equal(bound[0], bound[1]) and torch.equal(bound[1], freely[1]) and torch.equal(bound[3], freely[3])
    assert told.unknown_words(*prompts) == ["purple", "dragon"]


def test_the_words_stay_with_the_model(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    told = load_model(with_words(tiny_folder("depth"), tmp_path / "told"))
    save_model(told, tmp_path / "again")
    assert load_model(tmp_path / "again").words == told.words == Vocabulary.of(TINY_CAPTIONS)
    save_model(replace(told, words=None), tmp_path / "without")
    assert not (tmp_path / "without/tokenizer" / FILE).exists()


def test_a_command_says_once_a_prompt_what_it_ignores(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = str(with_words(tiny_folder("depth"), tmp_path / "told"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a purple lake\na lake\nocean dragon\n")
    options = ["--model", model, "--steps", "1", "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, ["generate", "--prompts", str(prompts), "--count", "2", *options])
    assert ran.exit_code == 0
    said = [line for line in ran.stderr.splitlines() if "ignores" in line]
    assert said == [f"{model} does not know and ignores: {word}" for word in ("purple", "dragon")]
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*.metadata.json"))]
    found = [(record["prompt"], record["settings"].get("unknown_words")) for record in records]
    assert found[::2] == [("a purple lake", ["purple"]), ("a lake", None), ("ocean dragon", ["dragon"])]

    negative = ["generate", "a lake", "--negative-prompt", "ugly", *options, "--overwrite"]
    assert "ignores: ugly" in CliRunner().invoke(app, negative).stderr
    assert "ignores" not in CliRunner().invoke(app, [*negative, "--quiet"]).stderr


def test_the_embedded_model_knows_the_words_of_the_worlds_and_its_card_lists_them() -> None:
    folder = Path(module.__file__).parent / "diorama"
    if not folder.is_dir():
        pytest.skip("the embedded model is not in this checkout")
    words = Vocabulary.read(folder / "tokenizer")
    assert words and words.unknown("two boats on a beach at sunset, a dragon") == ["dragon"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    listed = card.split("## Words")[1].split("## ")[0].rpartition(":")[2].split()
    assert sorted(words.known - {","}) == listed
    assert set(caption_words()) == set(listed)


def test_an_imported_model_knows_the_words_of_its_base(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    told = with_words(tiny_folder("depth"), tmp_path / "told")
    export_model(read_folder(told), tmp_path / "published")
    import_model(read_published(tmp_path / "published", read_folder(told), "depth"), tmp_path / "imported", {})
    assert load_model(tmp_path / "imported").words == Vocabulary.of(TINY_CAPTIONS)
