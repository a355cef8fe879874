"""What a foreign model folder may state: known keys, numbers in ranges, regular files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.model.config import check_files, known_files, read_json
from jointnet_cli.model.folder import read_folder

HUGE = 10**9


@pytest.fixture
def model(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("depth"), tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "sample_size", HUGE),
        ("unet/config.json", "layers_per_block", HUGE),
        ("unet/config.json", "block_out_channels", [32] * 65),
        ("branches/depth/config.json", "transformer_layers_per_block", [[HUGE]]),
        ("vae/config.json", "latent_channels", -1),
        ("text_encoder/config.json", "num_hidden_layers", HUGE),
        ("text_encoder/config.json", "max_position_embeddings", HUGE),
        ("text_encoder/config.json", "vocab_size", "many"),
        ("tokenizer/tokenizer_config.json", "model_max_length", 2),
        ("scheduler/scheduler_config.json", "num_train_timesteps", HUGE),
        ("jointnet.json", "defaults", {"guidance": float("nan")}),
    ],
)
def test_numbers_that_no_model_has_are_refused(model: Path, file: str, key: str, value: Any) -> None:
    change(model / file, **{key: value})
    with pytest.raises(UserError, match=rf"{file}: (guidance|{key}) must be (from|at least) "):
        read_folder(model)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "tokenizer/merges.txt", "vae/model.bin"])
def test_pipes_and_devices_are_refused(model: Path, file: str) -> None:
    (model / file).unlink(missing_ok=True)
    if file.endswith("json"):
        os.mkfifo(model / file)
    else:
        (model / file).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"is not a regular file|no model in"):
        read_folder(model)


def test_texts_have_a_limit_and_weights_have_none(model: Path) -> None:
    os.truncate(model / "unet" / "diffusion_pytorch_model.safetensors", 2**33)
    check_files(model)
    os.truncate(model / "tokenizer" / "tokenizer.json", 2**33)
    with pytest.raises(UserError, match=r"tokenizer\.json has more than 64 MiB"):
        read_folder(model)


def test_libraries_see_known_keys_only(model: Path) -> None:
    hostile: dict[str, Any] = {
        "attn_implementation": "someone/kernel",
        "_attn_implementation": "someone/kernel",
        "auto_map": {"AutoModel": "someone/code--run.Evil", "AutoTokenizer": ["run.Evil", None]},
        "quantization_config": {"quant_method": "bitsandbytes"},
        "torch_dtype": "evil",
        "_name_or_path": "/etc",
        "unheard": 1,
    }
    for file in ("unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        change(model / file, **hostile)
    (model / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    with known_files(model) as known:
        for part in ("unet", "text_encoder", "tokenizer"):
            (stated,) = (json.loads(path.read_text()) for path in (known / part).glob("*config.json"))
            assert not hostile.keys() & stated.keys()
            before = json.loads(
                next(path for path in (model / part).glob("*config.json") if "ad" not in path.name).read_text()
            )
            assert stated == {key: value for key, value in before.items() if key not in hostile}
        assert (known / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size > 1000
    assert not known.exists()


def test_a_hostile_configuration_changes_nothing(model: Path) -> None:
    import torch

    from jointnet_cli.model.checkpoint import load_model

    expected = load_model(model)
    change(model / "text_encoder" / "config.json", attn_implementation="someone/kernel", torch_dtype="evil")
    change(model / "tokenizer" / "tokenizer_config.json", model_max_length=10**12, auto_map={"AutoTokenizer": "a--b.C"})
    loaded = load_model(model)
    assert next(iter(loaded.text.tokenizers.values())).model_max_length == 16
    (one,), (other,) = (list(each.text.encoders.values()) for each in (expected, loaded))
    places = {"_name_or_path": None}
    assert {**one.config.to_dict(), **places} == {**other.config.to_dict(), **places}
    tokens = loaded.text.tokens(["a red hut"], cut=True)
    assert tokens[0].shape == (1, 1, 16)
    torch.testing.assert_close(loaded.text(["a hut"]).text, expected.text(["a hut"]).text, rtol=0, atol=0)
    change(model / "text_encoder" / "config.json", hidden_act="none", num_attention_heads=7)
    with pytest.raises(UserError, match="cannot be read"):
        load_model(model)


def test_weights_and_parts_from_elsewhere_are_refused(model: Path) -> None:
    index = model / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../../other/a.safetensors"}}')
    with pytest.raises(UserError, match="names weights outside of its folder"), known_files(model / "unet"):
        pass
    index.unlink()
    change(model / "model_index.json", unet=["os", "system"])
    with pytest.raises(UserError, match=r"unet comes from \['os', 'system'\], which is not read"), known_files(model):
        pass


def test_what_is_no_object_is_refused(tmp_path: Path) -> None:
    for text, fault in (("[]", "not a JSON object"), ("[" * 200_000, "nested too deeply"), ("\0", "cannot be read")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=fault):
            read_json(tmp_path / "config.json")
