from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.model.perceptual import DEFAULT, Perceptual, open_perceptual, trunk


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Three with large and small structure, (3, 3, 48, 64)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 4, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, (48, 64), mode="bilinear")
    return (smooth + 0.2 * torch.rand(3, 3, 48, 64, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return open_perceptual()


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_is_that_of_its_package(net: str, pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, used in {"IPython": "embed", "torchsummary": "summary", "torchvision": "models"}.items():
        unused = ModuleType(name)  # the package imports them and does not use them for these networks
        setattr(unused, used, None)
        monkeypatch.setitem(sys.modules, name, unused)
    from stlpips_pytorch import stlpips

    peer = stlpips.LPIPS(net=net, variant="shift_tolerant", verbose=False)
    others = pictures.roll(1, 0)
    with torch.inference_mode():
        expected = peer(pictures, others, normalize=True).flatten()
    torch.testing.assert_close(open_perceptual(f"st-lpips-{net}")(pictures, others), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_that_of_torchmetrics(
    net: str, pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a trunk of random weights, kept as torchvision keeps its classifiers."""
    from torchmetrics.functional.image import lpips

    torch.manual_seed(1)
    layers, _ = trunk(net, shift_tolerant=False)
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    torch.save({**state, "classifier.1.weight": torch.zeros(1)}, tmp_path / "trunk.pth")
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda name, pretrained: layers)
    peer = lpips._NoTrainLpips(net=net, pnet_rand=True)
    others = pictures.roll(1, 0)
    with torch.inference_mode():
        expected = peer(pictures, others, normalize=True).flatten()
    found = open_perceptual(f"lpips-{net}:{tmp_path / 'trunk.pth'}")(pictures, others)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("net", "places"), [("alex", (1, 4, 7, 9, 11)), ("vgg", (3, 8, 15, 22, 29))])
def test_lpips_compares_the_layers_that_it_is_defined_by(net: str, places: tuple[int, ...]) -> None:
    """In torchvision's numbering; relu1 to relu5 of AlexNet, relu1_2, 2_2, 3_3, 4_3, 5_3 of VGG-16."""
    layers, found = trunk(net, shift_tolerant=False)
    assert found == places
    assert len(layers) == places[-1] + 1


def test_equal_pictures_are_at_no_distance(perceptual: Perceptual, pictures: Tensor) -> None:
    assert perceptual(pictures, pictures).tolist() == [0, 0, 0]


def test_efflite_compares_the_features_of_its_package(pictures: Tensor) -> None:
    """On the 128 pixels of a side at which whole pictures are enlarged to the 224 of the classifier."""
    from jointnet_cli.model.efflite import open_efflite

    network, perceptual = open_efflite(), open_perceptual("efflite")
    whole = nn.functional.interpolate(pictures, (128, 128), mode="bilinear")
    larger = nn.functional.interpolate(whole, (224, 224), mode="bilinear")
    features = ((larger * 255) - 127) / 128
    features = network._swish(network._bn0(network._conv_stem(features)))
    expected = []
    for number, block in enumerate(network._blocks):
        features = block(features)
        if number in (0, 2, 4, 10, 15):
            expected.append(nn.functional.normalize(features, dim=1))
    for level, wanted in zip(perceptual.levels(whole), expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-4)
    assert perceptual.channels == tuple(level.shape[1] for level in expected)
    others = perceptual.levels(whole.roll(1, 0))
    apart = torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(expected, others, strict=True)]).mean(0)
    torch.testing.assert_close(perceptual(whole, whole.roll(1, 0)), apart, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [DEFAULT, "efflite"])
def test_distances_are_computed_in_float32_under_autocast(name: str, pictures: Tensor) -> None:
    perceptual = open_perceptual(name)
    expected = perceptual(pictures, pictures.roll(1, 0))
    with torch.autocast("cpu", torch.bfloat16):
        levels = perceptual.levels(pictures), perceptual.levels(pictures.roll(1, 0))
        assert levels[0][0].dtype == torch.float32
    torch.testing.assert_close(perceptual.distance(*levels), expected)


def test_pairs_are_all_pairs(perceptual: Perceptual, pictures: Tensor) -> None:
    left, right = zip(*combinations(range(3), 2), strict=True)
    expected = perceptual(pictures[list(left)], pictures[list(right)])
    torch.testing.assert_close(perceptual.pairs(pictures), expected)
    assert (expected > 0.01).all()


def test_the_name_says_which_space_it_is(perceptual: Perceptual) -> None:
    assert DEFAULT == "st-lpips-alex"
    assert perceptual.name == "ST-LPIPS (AlexNet)"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no perceptual distance 'lpips'") as fault:
        open_perceptual("lpips")
    assert "lpips-alex" in str(fault.value.hint)
    with pytest.raises(UserError, match="no file"):
        open_perceptual("lpips-alex:nowhere.pth")
    with pytest.raises(UserError, match="efflite takes no file"):
        open_perceptual("efflite:weights.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="is no file of weights"):
        open_perceptual(f"st-lpips-alex:{tmp_path / 'text.pth'}")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("st-lpips-vgg", "lpips-vgg"):
        with pytest.raises(UserError, match="does not hold the weights of"):
            open_perceptual(f"{name}:{tmp_path / 'other.pth'}")


def test_without_a_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointnet_cli.model.perceptual.find_spec", lambda name: None)
    with pytest.raises(UserError, match="stlpips-pytorch, which is not installed") as fault:
        open_perceptual()
    assert "[eval]" in str(fault.value.hint)
