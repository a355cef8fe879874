"""Recipes: the shipped ones load, and every mistake is answered with what to write instead."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from jointnet_cli.data.settings import prepare_settings
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import shipped_files
from jointnet_cli.recipe_file import read_values, to_toml
from jointnet_cli.training.recipe import (
    BaseRecipe,
    JointRecipe,
    VaeRecipe,
    load_recipe,
    to_toml_record,
)

JOINT = """
stage = "joint"
description = "a test"
model = "base"
[data]
shards = "shards"
maps = ["rgb", "depth"]
[train]
batch_size = 2
learning_rate = 1e-3
max_steps = 10
"""
BASE = JOINT.replace('"joint"', '"base"').replace('model = "base"', 'vae = "vae"').replace(', "depth"', "") + (
    "[unet]\nblock_out_channels = [16, 32]\nattention = [false, true]\n"
)
VAE = JOINT.replace('"joint"', '"vae"').replace('model = "base"', "")


@pytest.fixture
def joint(tmp_path: Path) -> str:
    return written(tmp_path, JOINT)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(name: str, *overrides: str, match: str = r"mine\.toml(: | is not a valid TOML file)") -> UserError:
    with pytest.raises(UserError, match=match) as caught:
        load_recipe(name, overrides)
    return caught.value


TRAINING = {name: path for name, path in shipped_files().items() if not name.startswith("prepare/")}
SHIPPED = {
    *("depth", "normal", "depth-normal", "finetune", "inpaint", "lora-depth", "sdxl-depth", "if-depth"),
    *("baselines/direct-extend", "baselines/controlnet-direct-extend"),
    *("diorama/vae", "diorama/decoder", "diorama/base", "diorama/joint", "diorama/joint-depth", "diorama/inpaint"),
    "diorama/lora-depth",
    *("diorama/baselines/direct-extend", "diorama/baselines/controlnet-direct-extend"),
}


def test_what_is_shipped() -> None:
    assert TRAINING.keys() == SHIPPED


@pytest.mark.parametrize("name", TRAINING)
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.description and len(recipe.description) < 128
    assert load_recipe(str(TRAINING[name])) == recipe
    assert type(recipe).model_validate(to_toml_record(recipe)) == recipe


@pytest.mark.parametrize("name", TRAINING)
def test_every_shipped_recipe_says_how_it_is_run(name: str) -> None:
    head = TRAINING[name].read_text(encoding="utf-8").partition("stage =")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert f"train {name} " in head and "--out runs/" in head


def paper(name: str, *overrides: str) -> JointRecipe:
    recipe = load_recipe(name, overrides)
    assert isinstance(recipe, JointRecipe)
    return recipe


@pytest.mark.parametrize("name", sorted(name for name in SHIPPED if not name.startswith("diorama")))
def test_a_step_has_the_papers_samples(name: str) -> None:
    recipe = paper(name)
    train = recipe.train
    assert train.batch_size * train.accumulation == 4 and train.warmup_steps == 1000 and train.max_steps == 10000
    assert train.schedule == "constant" and train.mixed_precision == "bf16" and recipe.objective.noise_offset == 0.05
    second = recipe.train_rgb
    assert (train.learning_rate, recipe.objective.text_dropout) == ((1e-5, 0.5) if second else (1e-4, 0.15))
    assert recipe.data.label.keys() == set(recipe.data.maps[1:])  # labelled while training (3.3)
    assert not recipe.data.cache and recipe.inference is None


def test_second_stages_start_where_the_first_ended() -> None:
    first = TRAINING["depth"].read_text(encoding="utf-8")
    for name in ("finetune", "inpaint"):
        assert f"--out {paper(name).model.removesuffix('/model')}\n" in first
    assert paper("inpaint").masked_input and not paper("finetune").masked_input


def test_the_baselines_differ_in_the_network_alone() -> None:
    for prefix, reference in (("", "depth"), ("diorama/", "diorama/joint-depth")):
        wanted = paper(reference)
        for name in ("baselines/direct-extend", "baselines/controlnet-direct-extend", "lora-depth"):
            found = paper(prefix + name)
            assert found.network.architecture == {"lora-depth": "lora"}.get(name, name.removeprefix("baselines/"))
            budget = {"max_steps", "max_minutes", "preview_steps"}
            same = wanted.train.model_copy(update={key: getattr(found.train, key) for key in budget})
            changed = {"network": found.network, "description": found.description, "train": same}
            assert found == wanted.model_copy(update=changed)


def test_light_is_the_former_name_of_lora(joint: str) -> None:
    assert load_recipe(joint, ["network.architecture=light"]) == load_recipe(joint, ["network.architecture=lora"])


@pytest.mark.parametrize("name", shipped_files())
def test_a_recipe_survives_as_toml(name: str) -> None:
    values = read_values(shipped_files()[name])
    assert tomllib.loads(to_toml(values)) == values


def test_any_string_and_key_survives_as_toml() -> None:
    values = {"a": 'quo"te\\ \n ü', "b": [1, 2.5e-7, True], "t": {"with space": "x", "deep": {"é": []}}}
    assert tomllib.loads(to_toml({**values, "unset": None})) == values


def test_labels_are_of_maps_that_are_trained_and_streamed(joint: str) -> None:
    assert load_recipe(joint, ["data.label={depth='midas'}"]).data.label == {"depth": "midas"}
    assert "does not" in str(refusal(joint, "data.label={normal='omnidata:x.ckpt'}"))
    assert "only a streamed set" in str(refusal(joint, "data.label={depth='midas'}", "data.cache=true"))
    assert "unknown key" not in str(refusal(joint, "data.label={albedo='x'}"))


def test_only_a_joint_model_is_labelled_while_training(tmp_path: Path) -> None:
    for text in (VAE, BASE):
        assert "only a streamed set" in str(refusal(written(tmp_path, text), "data.label={depth='midas'}"))


def test_a_baseline_has_no_masked_input(joint: str) -> None:
    assert "no masked input" in str(refusal(joint, "network.architecture=direct-extend", "masked_input=true"))


def test_a_recipe_is_found_by_name_or_path() -> None:
    assert load_recipe("recipes/diorama/base.toml") == load_recipe("diorama/base")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("coyo", "did you mean prepare/coyo?"),
        ("vae", "did you mean diorama/vae?"),
        ("dept", "did you mean depth?"),
        ("mine.toml", "jointnet recipe list shows the shipped recipes"),
    ],
)
def test_a_wrong_name_has_a_short_hint(name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(name, match="no recipe").hint == hint
    Path(name).mkdir()
    assert "it is a folder" in str(refusal(name, match="no recipe"))


@pytest.mark.parametrize("name", ["depth.toml", "./depth", "recipes/depth.toml", "here/depth.toml", "~/depth.toml"])
def test_a_path_is_a_file_and_never_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("recipes").mkdir()
    fault = refusal(name, match="there is no such file")
    assert fault.hint == "did you mean depth?"
    path = Path(name).expanduser()
    path.parent.mkdir(exist_ok=True)
    path.write_text(JOINT)
    assert load_recipe(name).description == "a test"


def test_a_file_named_like_a_shipped_recipe_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("depth").write_text(JOINT)
    assert load_recipe("depth").description != "a test"
    assert "folder" in str(refusal(str(tmp_path), match="no recipe"))


def test_a_recipe_of_prepare_says_what_it_is_for(tmp_path: Path) -> None:
    fault = refusal("prepare/coyo", match="jointnet prepare")
    assert "COYO-700M" in str(fault) and fault.hint == (
        "jointnet recipe show prepare/coyo prints it; jointnet recipe list shows the recipes of `jointnet train`"
    )
    mine = tmp_path / "web.toml"
    mine.write_text("[image]\nsize = 64\n")
    assert str(refusal(str(mine), match="jointnet prepare")) == f"{mine} is a recipe of `jointnet prepare`"
    with pytest.raises(UserError, match="depth is a recipe of `jointnet train`: Depth branch"):
        prepare_settings("depth")


@pytest.mark.parametrize(
    ("text", "maps", "words"),
    [
        (JOINT, "['rgb']", "at least one dense map"),
        (JOINT, "['depth', 'rgb']", "at least one dense map"),
        (BASE, "['rgb', 'depth']", "data.maps = ['rgb']"),
        (VAE, "['depth']", "data.maps with 'rgb'"),
    ],
)
def test_a_stage_has_its_maps(tmp_path: Path, text: str, maps: str, words: str) -> None:
    assert words in str(refusal(written(tmp_path, text), f"data.maps={maps}"))


@pytest.mark.parametrize("override", ["scheduler=ddmi", "steps=5000", "depth_steps=1001", "guidance=1e300"])
def test_defaults_that_no_command_would_run_are_refused(tmp_path: Path, override: str) -> None:
    name = override.partition("=")[0]
    assert f"inference.{name}" in str(refusal(written(tmp_path, JOINT), f"inference.{override}"))


def test_stages(tmp_path: Path) -> None:
    for text, kind in ((VAE, VaeRecipe), (BASE, BaseRecipe), (JOINT, JointRecipe)):
        assert isinstance(load_recipe(written(tmp_path, text)), kind)
    assert "stage" in str(refusal(written(tmp_path, JOINT.replace('stage = "joint"', ""))))
    assert "'jiont'" in str(refusal(written(tmp_path, JOINT.replace('stage = "joint"', 'stage = "jiont"'))))


@pytest.mark.parametrize(
    ("text", "override", "where", "nearest"),
    [
        (JOINT, "train.learning_rat=1", "train.learning_rat", "learning_rate"),
        (JOINT, "train_rbg=true", "train_rbg", "train_rgb"),
        (JOINT, "masks.image_know=0.5", "masks.image_know", "image_known"),
        (JOINT, "inference.guidence=3", "inference.guidence", "guidance"),
        (BASE, "unet.block_channels=[8]", "unet.block_channels", "block_out_channels"),
        (VAE, "vae.kl_weigth=1", "vae.kl_weigth", "kl_weight"),
        (VAE, "data.shard='x'", "data.shard", "shards"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, override: str, where: str, nearest: str) -> None:
    error = refusal(written(tmp_path, text), override)
    assert str(error).endswith(f"unknown key {where}") and "mine.toml" in str(error)
    assert error.hint == f"did you mean {nearest}?"


def test_a_key_unlike_any_other_lists_the_valid_ones(joint: str) -> None:
    hint = refusal(joint, "masks.zzz=1").hint
    assert hint == "valid keys: decoded_weight, equal, image_known, maps_known, one_step, unequal"


def test_a_misspelt_and_thereby_missing_key_is_reported_as_misspelt(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, JOINT.replace("batch_size", "batchsize")))
    assert "unknown key train.batchsize" in str(error) and error.hint == "did you mean batch_size?"
    error = refusal(written(tmp_path, JOINT.replace("[train]", "[trian]")))
    assert "unknown key trian" in str(error) and error.hint == "did you mean train?"


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "train.max_steps is missing" in str(refusal(written(tmp_path, JOINT.replace("max_steps = 10", ""))))


@pytest.mark.parametrize(
    ("text", "override", "where"),
    [
        (JOINT, "train.batch_size=0", "train.batch_size"),
        (JOINT, "train.batch_size=many", "train.batch_size"),
        (JOINT, "train.learning_rate=-1", "train.learning_rate"),
        (JOINT, "train.ema=1.0", "train.ema"),
        (JOINT, "train.learning_rate=inf", "train.learning_rate"),
        (JOINT, "train.weight_decay=inf", "train.weight_decay"),
        (JOINT, "train.betas=[0.9, 1.0]", "train.betas.1"),
        (JOINT, "train.betas=[-0.1, 0.9]", "train.betas.0"),
        (JOINT, "train.seed=-1", "train.seed"),
        (JOINT, "train.seed=4294967296", "train.seed"),
        (JOINT, "train.schedule=linear", "train.schedule"),
        (JOINT, "train=5", "train"),
        (JOINT, "data.maps=['rgb', 'dept']", "data.maps.1"),
        (JOINT, "data.maps=[]", "data.maps"),
        (JOINT, "model=3", "model"),
        (JOINT, "objective.text_dropout=1.5", "objective.text_dropout"),
        (JOINT, "masks={image_known = 0.7, equal = 0.6}", "masks"),
        (BASE, "unet.attention=[true]", "unet"),
        (BASE, "unet.norm_num_groups=24", "unet"),
        (VAE, "vae.norm_num_groups=5", "vae"),
        (VAE, "vae.latent_channels=0", "vae.latent_channels"),
        (JOINT, "data.maps=['rgb', 'depth', 'depth']", "data.maps: a map is named twice"),
        (VAE, "data.maps=['rgb', 'depth', 'rgb']", "data.maps: a map is named twice"),
        (VAE, "vae.block_out_channels=[]", "vae.block_out_channels must be a list of at least 1"),
        (BASE, "text_encoder.heads=5", "text_encoder: width 192 must be a multiple of heads 5"),
        (BASE, "noise.prediction='epsilon'", "noise: the noise in pure noise says nothing of the picture"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, text: str, override: str, where: str) -> None:
    name = written(tmp_path, text)
    load_recipe(name)
    assert f"mine.toml: {where}" in str(refusal(name, override))


def test_a_pooled_text_has_whole_heads(tmp_path: Path) -> None:
    fault = refusal(written(tmp_path, BASE), "unet.pooled_text=true", "text_encoder.width=190", "text_encoder.heads=5")
    assert "text_encoder.width that unet.heads divides" in str(fault)


def test_overrides(joint: str) -> None:
    recipe = load_recipe(
        joint,
        [
            "train.max_minutes=2.5",
            "train.betas=[0.8, 0.9]",
            "objective.min_snr_gamma=5",
            "model=runs/base/model",
            "data.shards='with a = sign'",
            "data.flip=false",
            "preview_prompts=['a, b', 'c']",
            "description=two plain words",
        ],
    )
    assert isinstance(recipe, JointRecipe)
    assert recipe.train.max_minutes == 2.5 and recipe.train.betas == (0.8, 0.9)
    assert recipe.objective.min_snr_gamma == 5
    assert recipe.model == "runs/base/model" and recipe.data.shards == "with a = sign"
    assert recipe.data.flip is False and recipe.data.maps == ["rgb", "depth"]
    assert recipe.preview_prompts == ["a, b", "c"] and recipe.description == "two plain words"


def test_the_last_override_wins(joint: str) -> None:
    assert load_recipe(joint, ["train.seed=1", "train.seed=2"]).train.seed == 2


def test_a_flag_wins_over_an_override(joint: str) -> None:
    recipe = load_recipe(joint, ["train.max_minutes=90", "train.seed=4"], {"train": {"max_minutes": 2.5}})
    assert (recipe.train.max_minutes, recipe.train.seed) == (2.5, 4)


ODD = 'a \U0001f600 "quoted" \\ back\nnew \x7f = [1]'


def test_flags_are_values_and_no_toml(joint: str) -> None:
    assert load_recipe(joint, flags={"description": ODD}).description == ODD
    assert prepare_settings(flags={"columns": {"caption": ODD, "a.b": "c"}}).columns == {
        "caption": ODD,
        "a.b": "c",
    }


def test_an_override_of_several_lines_is_one_value(joint: str) -> None:
    for text in ("1\nextra = 2", "'a'\n[data]\nlimit = 3", "two\nlines"):
        recipe = load_recipe(joint, [f"description={text}"])
        assert recipe.description == text


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path, joint: str) -> None:
    plain = Path(joint).read_text(encoding="utf-8")
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "mine.toml").write_text(plain, encoding=encoding)
        assert load_recipe(str(tmp_path / "mine.toml")) == load_recipe(joint)


def test_an_override_keeps_characters_of_every_plane(joint: str) -> None:
    assert load_recipe(joint, ["description=\U0001f600 sea"]).description == "\U0001f600 sea"
    assert load_recipe(joint, ["description='\U0001f600'"]).description == "\U0001f600"


@pytest.mark.parametrize("override", ["train.seed", "=3", "description.x=3", "data.maps.0='rgb'"])
def test_an_override_that_is_none_is_refused(joint: str, override: str) -> None:
    assert override in str(refusal(joint, override, match=r"^--set .*: (expected table.key=value|\w+ is not a table)$"))


def test_a_missing_recipe_hints_at_the_nearest() -> None:
    error = refusal("diorama/joint-dept", match="diorama/joint-dept")
    assert "diorama/joint-dept" in str(error) and error.hint == "did you mean diorama/joint-depth?"


@pytest.mark.parametrize("text", ["stage = joint", "[data", "\x00"])
def test_text_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    assert "not a valid TOML file" in str(refusal(written(tmp_path, text)))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    assert "not a valid TOML file" in str(refusal(str(tmp_path / "mine.toml")))
