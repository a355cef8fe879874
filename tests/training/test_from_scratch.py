"""The tokenizer that is learned from captions, and its text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from jointnet_cli.training.recipe import TextEncoder
from jointnet_cli.training.stages.from_scratch import (
    END,
    START,
    add_words,
    build_text_encoder,
    grow_vocabulary,
    learn_tokenizer,
)

CAPTIONS = [
    "a snow-covered hill at night",
    "the sea at sunrise, with a red boat",
    "two orange tents by a lake in the Fog",
    "a café on the beach",
    "海边 的 雪山",
]
LENGTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> CLIPTokenizer:
    return learn_tokenizer(CAPTIONS, 800, LENGTH, folder)


def encode(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    return tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True).input_ids


def letters(text: str) -> str:
    return "".join(text.lower().split())


@pytest.mark.parametrize("caption", CAPTIONS)
def test_every_word_of_the_captions_is_one_token(tokenizer: CLIPTokenizer, caption: str) -> None:
    words = caption.lower().replace("-", " - ").replace(",", " ,").split()
    assert len(tokenizer.tokenize(caption)) == len(words)


def test_the_vocabulary_is_kept(tmp_path: Path) -> None:
    tokenizer = learn_tokenizer(CAPTIONS, 520, LENGTH, tmp_path)
    assert len(tokenizer) == 520
    assert len(tokenizer.tokenize("sunrise")) > 1
    bytes_alone = learn_tokenizer(CAPTIONS, 300, LENGTH, tmp_path)
    assert len(bytes_alone) == 514
    assert bytes_alone.tokenize("sea") == ["s", "e", "a</w>"]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=40))
@example("🐚 Ozean ÄÖß 12.5 %")
@example("\x00\x7f\u2028")
def test_any_text_is_tokens_of_a_fixed_length(tokenizer: CLIPTokenizer, text: str) -> None:
    numbers = encode(tokenizer, text)
    assert len(numbers) == LENGTH
    assert numbers[0] == tokenizer.bos_token_id
    end = numbers.index(tokenizer.eos_token_id)
    assert set(numbers[end:]) == {tokenizer.pad_token_id}
    # The unknown mark is the end mark, so anything unknown would show as an early end.
    pieces = tokenizer.tokenize(text)
    assert tokenizer.unk_token not in pieces or END in text.lower()
    assert end == min(len(pieces), LENGTH - 2) + 1 or END in text.lower()


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_characters="<|>"), max_size=12))
def test_tokens_say_what_the_text_says(tokenizer: CLIPTokenizer, text: str) -> None:
    said = tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)
    assert letters(said) == letters(text)


def test_a_long_prompt_is_cut_and_keeps_its_end(tokenizer: CLIPTokenizer) -> None:
    numbers = encode(tokenizer, "sea " * 40)
    sea = tokenizer.convert_tokens_to_ids("sea</w>")
    assert numbers == [tokenizer.bos_token_id, *[sea] * (LENGTH - 2), tokenizer.eos_token_id]


def test_case_and_spaces_do_not_matter(tokenizer: CLIPTokenizer) -> None:
    assert encode(tokenizer, "  The SEA\nat  night") == encode(tokenizer, "the sea at night")


def test_the_folder_is_clip_s(folder: Path, tokenizer: CLIPTokenizer) -> None:
    files = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH)
    for caption in [*CAPTIONS, "🐚 unheard of"]:
        assert files(caption).input_ids == tokenizer(caption).input_ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (START, END, END)


def test_learning_twice_gives_the_same_files(folder: Path, tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    learn_tokenizer(iter(CAPTIONS), 800, LENGTH, tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_text_encoder_fits_the_tokenizer(tokenizer: CLIPTokenizer) -> None:
    encoder = build_text_encoder(TextEncoder(width=24, layers=2, heads=3), tokenizer).eval()
    with torch.inference_mode():
        states = encoder(torch.tensor([encode(tokenizer, text) for text in ("sea", "lake")])).last_hidden_state
    assert states.shape == (2, LENGTH, 24)
    assert not torch.equal(states[0], states[1])
    assert encoder.config.eos_token_id == tokenizer.eos_token_id


def test_added_words_are_one_token_each_and_leave_the_others_as_they_were(
    tokenizer: CLIPTokenizer, tmp_path: Path
) -> None:
    # The pieces of `sunset` and `sun` are those of `sunrise`; `overlooking` is begun by `over` and ended by `looking`.
    added = ["looking", "over", "overlooking", "sun", "sunset", "up", "x"]
    grown = add_words(tokenizer, added, tmp_path)
    assert [grown.tokenize(word) for word in added] == [[f"{word}</w>"] for word in added]
    assert grown.get_vocab().items() >= tokenizer.get_vocab().items()
    assert sorted(grown.get_vocab().values()) == list(range(len(grown)))
    for caption in CAPTIONS:
        assert encode(grown, caption) == encode(tokenizer, caption)
    assert CLIPTokenizer.from_pretrained(tmp_path).tokenize("looking up") == ["looking</w>", "up</w>"]


def test_a_grown_text_encoder_reads_old_words_as_before(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_text_encoder(TextEncoder(width=16, layers=1, heads=2), tokenizer).eval()
    words = add_words(tokenizer, ["looking"], tmp_path)
    grown = grow_vocabulary(encoder, len(words))
    known = torch.tensor([encode(tokenizer, CAPTIONS[0])])
    for one, other in zip(encoder(known)[:2], grown(known)[:2], strict=True):
        assert torch.equal(one, other)
    table = grown.get_input_embeddings().weight
    assert len(table) == len(words) > len(tokenizer)
    assert 0.01 < float(table[len(tokenizer) :].detach().std()) < 0.03  # the initial deviation is 0.02
