"""Going on from the weights of an earlier model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.checkpoint import load_model
from jointnet_cli.training.run import train
from jointnet_cli.training.stages.vae import read_facts

from .conftest import Tiny, opened


def ignore(line: dict[str, Any]) -> None:
    pass


def test_a_base_starts_from_the_earlier_text_encoder_and_unet(tmp_path: Path, tiny: Tiny, base_run: Path) -> None:
    earlier = load_model(base_run / "model")
    stage = opened(tiny("base", f"start={base_run / 'model'}"), tmp_path)
    for name, value in stage.model.joint.backbone(RGB).state_dict().items():
        assert torch.equal(value, earlier.joint.backbone(RGB).state_dict()[name])
    for name, value in stage.model.text.text_encoder.state_dict().items():
        assert torch.equal(value, earlier.text.text_encoder.state_dict()[name])
    assert stage.model.text.tokenizer.get_vocab() == earlier.text.tokenizer.get_vocab()


def test_a_vae_starts_from_the_earlier_weights(tiny: Tiny, vae_run: Path) -> None:
    from diffusers import AutoencoderKL

    stage = opened(tiny("vae", f"start={vae_run / 'model'}"))
    earlier = AutoencoderKL.from_pretrained(vae_run / "model").state_dict()
    assert all(
        torch.equal(value, earlier[name.removeprefix("vae.")]) for name, value in stage.network.state_dict().items()
    )


def test_what_came_before_stays_on_record(tmp_path: Path, tiny: Tiny, vae_run: Path, base_run: Path) -> None:
    again = train(tiny("vae", f"start={vae_run / 'model'}", "train.max_steps=1"), out=tmp_path / "vae")
    assert read_facts(again)["earlier"] == read_facts(vae_run / "model")
    base = train(tiny("base", f"start={base_run / 'model'}", "train.max_steps=1"), out=tmp_path / "base")
    before, after = (load_model(folder).provenance["base"] for folder in (base_run / "model", base))
    assert after["steps"] == 1
    assert after["earlier"] == before


def test_another_network_cannot_start_from_it(tmp_path: Path, tiny: Tiny, base_run: Path) -> None:
    recipe = tiny("base", f"start={base_run / 'model'}", "unet.block_out_channels=[16, 48]")
    with pytest.raises(UserError, match=r"\[unet\] does not describe") as fault:
        opened(recipe, tmp_path)
    assert fault.value.hint


def test_a_missing_start_is_named_before_anything_is_written(tmp_path: Path, tiny: Tiny, vae_run: Path) -> None:
    for name in ("vae", "base"):
        with pytest.raises(UserError, match="nowhere"):
            train(tiny(name, "start=nowhere"), out=tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_decoder_trained_alone_leaves_the_latents(tmp_path: Path, tiny: Tiny, vae_run: Path) -> None:
    from diffusers import AutoencoderKL

    recipe = tiny("vae", f"start={vae_run / 'model'}", "decoder_only=true", "train.max_steps=2")
    before, after = (AutoencoderKL.from_pretrained(path) for path in (vae_run / "model", train(recipe, out=tmp_path)))
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        latents = before.encode(pictures).latent_dist.mean
        assert torch.equal(after.encode(pictures).latent_dist.mean, latents)
        assert not torch.equal(after.decode(latents).sample, before.decode(latents).sample)
