"""What the branches are told while training, against what they are told in sampling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model
from jointnet_cli.training.captions import CaptionEncoder

CPU = torch.device("cpu")
CAPTIONS = ["ocean reef", "", "a lake"]
CROPS = torch.tensor([[3000.0, 4032, 0, 120], [640, 480, 16, 0], [48, 64, 0, 0]])


@pytest.fixture(params=["sd2", "sdxl", "if"])
def model(request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Path]) -> JointModel:
    return load_model(tiny_pipeline(request.param))


@pytest.fixture
def sdxl(tiny_pipeline: Callable[[str], Path]) -> JointModel:
    return load_model(tiny_pipeline("sdxl"))


def tensors(given: Conditioning) -> dict[str, torch.Tensor]:
    return {"text": given.text, **(given.added or {})}


@torch.no_grad()
def test_training_says_what_sampling_says(model: JointModel) -> None:
    wanted = tensors(model.encode_text(CAPTIONS))
    found = tensors(CaptionEncoder(model)(CAPTIONS, CPU))
    kept = tensors(CaptionEncoder(model, CAPTIONS[2:] + CAPTIONS)(CAPTIONS, CPU))
    assert found.keys() == kept.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == kept[name].dtype == torch.float32
        assert torch.equal(found[name], value), name
        assert torch.allclose(kept[name], value, rtol=1e-3, atol=1e-3), name  # kept in float16
    assert not found["text"].requires_grad


def test_mixed_precision_does_not_reach_the_encoders(model: JointModel) -> None:
    wanted = CaptionEncoder(model)(CAPTIONS, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CaptionEncoder(model)(CAPTIONS, CPU).text, wanted.text)


@pytest.mark.parametrize("kept", [None, CAPTIONS])
def test_crop_conditioning_changes_the_sizes_and_nothing_else(sdxl: JointModel, kept: list[str] | None) -> None:
    texts = CaptionEncoder(sdxl, kept)
    plain, cropped = texts(CAPTIONS, CPU), texts(CAPTIONS, CPU, CROPS)
    assert plain.added is not None and cropped.added is not None
    assert torch.equal(plain.added["time_ids"], torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 3))
    assert torch.equal(cropped.added["time_ids"][:, :4], CROPS)
    assert torch.equal(cropped.added["time_ids"][:, 4:], torch.full((3, 2), 32.0))
    assert torch.equal(cropped.text, plain.text)
    assert torch.equal(cropped.added["text_embeds"], plain.added["text_embeds"])
    assert torch.equal(texts(CAPTIONS, CPU).added["time_ids"], plain.added["time_ids"])  # nothing stuck


def test_a_dropped_caption_is_zeros_but_for_the_sizes(sdxl: JointModel) -> None:
    given = CaptionEncoder(sdxl)(CAPTIONS, CPU, CROPS)
    assert given.added is not None
    assert not given.text[1].any() and not given.added["text_embeds"][1].any()
    assert given.text[0].any() and given.added["time_ids"][1, :2].tolist() == [640, 480]
    sdxl.text.zero_empty = False
    assert CaptionEncoder(sdxl)(CAPTIONS, CPU).text[1].any()


def test_pictures_of_another_size_say_so(sdxl: JointModel) -> None:
    texts = CaptionEncoder(sdxl, side=24)
    assert texts(["a lake"], CPU).added["time_ids"].tolist() == [[24, 24, 0, 0, 24, 24]]
    assert texts(["a lake"], CPU, CROPS[:1]).added["time_ids"].tolist() == [[3000, 4032, 0, 120, 24, 24]]


def test_crop_conditioning_is_nothing_to_models_that_are_not_told(tiny_pipeline: Callable[[str], Path]) -> None:
    given = CaptionEncoder(load_model(tiny_pipeline("sd2")))(CAPTIONS, CPU, CROPS)
    assert given.added is None


def test_a_caption_that_was_not_encoded_is_an_error(sdxl: JointModel) -> None:
    with pytest.raises(KeyError, match="ocean reef"):
        CaptionEncoder(sdxl, ["a lake"])(["ocean reef"], CPU)


LONG = "a lake " * 40
"""80 tokens, more than any of the tiny encoders reads."""


@torch.no_grad()
def test_captions_are_cut_and_counted_once(model: JointModel) -> None:
    said: list[str] = []
    captions = ["a lake", LONG, "", LONG + "reef"]
    streamed, cached = CaptionEncoder(model, warn=said.append), CaptionEncoder(model, captions, warn=said.append)
    assert said == ["2 of 3 captions are longer than the text encoder reads and are cut"]
    streamed(["a lake", "", "ocean reef"], CPU)
    given = [streamed(captions, CPU), streamed(captions, CPU), cached(captions, CPU)]
    assert said[1:] == ["2 of 5 captions are longer than the text encoder reads and are cut"]
    for texts in given:
        assert texts.text.shape == (4, *model.encode_text(["a lake"]).text.shape[1:])
        assert torch.equal(texts.text[1], texts.text[3])
