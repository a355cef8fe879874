"""Prompts longer than a text encoder reads at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPTokenizer
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.text import tokenize_in_chunks
from jointnet_cli.training.stages.from_scratch import learn_tokenizer

Folders = Callable[[str], Path]
CLIPS = ["sd1", "sd2", "sdxl"]
LENGTH = 16
"""Tokens of a chunk of the tiny pipelines, the two marks included."""
LONG = "snowy hills by the sea ocean reef snowy hills by the sea a lake ocean reef by the sea"
PIECES = ["snowy hills by the sea ocean reef snowy hills by the sea a lake", "ocean reef by the sea"]
"""`LONG`, in which every word is a token, in chunks."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return learn_tokenizer([LONG], 600, LENGTH, tmp_path_factory.mktemp("tokenizer"))


@torch.no_grad()
def by_hand(model: JointModel, text: str) -> tuple[Tensor, Tensor]:
    """The states (L, width) of one text that fits, and the pooled output, by calls of the tokenizers and encoders."""
    states = []
    for tokenizer, encoder in zip(model.text.tokenizers.values(), model.text.encoders.values(), strict=True):
        tokens = tokenizer([text], padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        output = encoder(tokens.input_ids, output_hidden_states=True)
        states.append(output.hidden_states[-2] if len(model.text.encoders) == 2 else output.last_hidden_state)
    return torch.cat(states, dim=-1)[0], output[0][0]


@torch.no_grad()
def encode(model: JointModel, *prompts: str, cut: bool = False) -> Conditioning:
    return model.encode_text(list(prompts), cut=cut)


@pytest.mark.parametrize("family", CLIPS)
@pytest.mark.parametrize("prompt", ["ocean reef", PIECES[0], "Unheard, 海"])
def test_a_prompt_that_fits_is_one_plain_call(tiny_pipeline: Folders, family: str, prompt: str) -> None:
    model = load_model(tiny_pipeline(family))
    found, (states, pooled) = encode(model, prompt), by_hand(model, prompt)
    assert torch.equal(found.text, states[None]) and torch.equal(encode(model, prompt, cut=True).text, found.text)
    if found.added:
        assert torch.equal(found.added["text_embeds"][0], pooled)


@pytest.mark.parametrize("family", CLIPS)
def test_a_long_prompt_is_the_states_of_its_chunks(tiny_pipeline: Folders, family: str) -> None:
    model = load_model(tiny_pipeline(family))
    found = encode(model, LONG)
    first, second = (by_hand(model, piece) for piece in PIECES)
    assert torch.allclose(found.text[0], torch.cat([first[0], second[0]]), atol=1e-5)
    assert not torch.allclose(first[0], second[0], atol=1e-2)
    if found.added:
        assert torch.allclose(found.added["text_embeds"][0], first[1], atol=1e-5)
    cut = encode(model, LONG, cut=True)
    assert torch.equal(cut.text[0], first[0])
    other = encode(model, LONG.removesuffix("sea") + "lake").text
    assert torch.allclose(other[0, :LENGTH], first[0], atol=1e-5)
    assert not torch.allclose(other[0, LENGTH:], second[0], atol=1e-3)


@pytest.mark.parametrize("family", CLIPS)
def test_prompts_of_unequal_lengths_are_those_alone_and_empty_chunks(tiny_pipeline: Folders, family: str) -> None:
    model = load_model(tiny_pipeline(family))
    together = encode(model, LONG, "a lake", "")
    long, short, empty = (encode(model, prompt) for prompt in (LONG, "a lake", ""))
    blank = by_hand(model, "")[0]
    nothing = torch.zeros_like(blank) if family == "sdxl" else blank
    wanted = [long.text[0], torch.cat([short.text[0], blank]), torch.cat([nothing, nothing])]
    assert torch.allclose(together.text, torch.stack(wanted), atol=1e-5)
    if together.added:
        pooled = torch.cat([given.added["text_embeds"] for given in (long, short, empty) if given.added])
        assert torch.allclose(together.added["text_embeds"], pooled, atol=1e-5)


def read(tokenizer: CLIPTokenizer, chunks: Tensor) -> list[str]:
    return [tokenizer.decode(chunk, skip_special_tokens=True) for chunk in chunks]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (LONG, PIECES),
        ("the sea " * 6 + "reef-hills-lake by", ["the sea " * 6, "reef - hills - lake by"]),
        ("sea," * 9, ["sea , " * 7, "sea , " * 2]),
        ("a " + "q" * 30 + " sea", ["a", "q" * 14, "q" * 14, "qq sea"]),
        ("", [""]),
    ],
)
def test_chunks_end_between_words(tokenizer: CLIPTokenizer, prompt: str, expected: list[str]) -> None:
    (chunks,) = tokenize_in_chunks([tokenizer], [prompt])
    assert [" ".join(chunk.split()) for chunk in read(tokenizer, chunks[0])] == [text.strip() for text in expected]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("seaqé海,-7"), min_size=1, max_size=4), max_size=30))
def test_chunks_are_all_tokens_of_the_text_in_whole_words(tokenizer: CLIPTokenizer, words: list[str]) -> None:
    (chunks,) = tokenize_in_chunks([tokenizer], [" ".join(words)])
    marks = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    found = [[number for number in chunk if number not in marks] for chunk in chunks[0].tolist()]
    whole = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    expected: list[list[int]] = [[]]
    for word in whole:  # none has more than 14 tokens
        if len(expected[-1]) + len(word) > LENGTH - 2:
            expected.append([])
        expected[-1] += word
    assert found == expected


def test_two_encoders_have_equally_many_chunks(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    letters = learn_tokenizer([], 514, LENGTH, tmp_path)
    letters.pad_token = "!"
    first, second = tokenize_in_chunks([tokenizer, letters], ["the sea by the lake", "reef"])
    assert read(tokenizer, first[0]) == ["the sea by the lake", ""]
    assert [text.strip(" !") for text in read(letters, second[0])] == ["the sea by the", "lake"]
    padding = [letters.pad_token_id] * (LENGTH - 6)
    assert second[1, 0].tolist()[-len(padding) :] == padding
    assert second[1, 1].tolist() == [letters.bos_token_id, letters.eos_token_id, *[letters.pad_token_id] * 14]


def test_deepfloyd_if_names_the_words_it_cuts_off(tiny_joint: Callable[..., Path], tmp_path: Path) -> None:
    """T5 reads 76 tokens and its end mark; every word is a token but `xlake`, which the end goes through."""
    folder = str(tiny_joint("if", ["depth"]))
    fits, end = "a lake " * 37 + "a", "xlake Ocean reef"
    model = load_model(find_model(folder))
    assert model.cut_words(fits, "a " * 76) == []
    assert model.cut_words(f"{fits} {end}", "a " * 76 + "sea") == ["xlake", "ocean", "reef", "sea"]
    assert torch.equal(encode(model, f"{fits} {end}").text, encode(model, f"{fits} {end} sea").text)

    options = ["--model", folder, "--steps", "1", "--out", str(tmp_path)]
    ran = CliRunner().invoke(app, ["generate", f"{fits} {end}", "--count", "2", *options])
    assert ran.exit_code == 0
    assert ran.stderr.count("cannot read a prompt this long and ignores its end: xlake ocean reef\n") == 1
    records = [json.loads(path.read_text())["settings"] for path in tmp_path.glob("*.metadata.json")]
    assert [record["cut_words"] for record in records] == [["xlake", "ocean", "reef"]] * 2
    fitting = ["generate", fits, *options[:-1], str(tmp_path / "fits")]
    ran = CliRunner().invoke(app, fitting)
    assert ran.exit_code == 0 and "ignores" not in ran.stderr
    (path,) = (tmp_path / "fits").glob("*.metadata.json")
    assert "cut_words" not in json.loads(path.read_text())["settings"]


def test_clip_cuts_nothing_off(tiny_pipeline: Folders) -> None:
    model = load_model(tiny_pipeline("sd2"))
    assert model.cut_words(LONG) == []
    assert model.count_cut([LONG, PIECES[0], "a lake"]) == 1
