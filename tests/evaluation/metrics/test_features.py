"""The networks that look at pictures, and the numbers of a set, against closed forms and other packages."""

from __future__ import annotations

import pickle
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import save_clip, save_judge
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.intervals import share_estimate
from jointnet_cli.evaluation.judge.classifier import Judge, accuracy, load_labelled
from jointnet_cli.evaluation.judge.labels import UNKNOWN
from jointnet_cli.evaluation.metrics.captions import QUESTIONS, Clip, count_correct
from jointnet_cli.evaluation.metrics.distribution import RealFeatures, inception_score
from jointnet_cli.evaluation.metrics.features import open_features, tensors_only
from jointnet_cli.files.images import read_image


def draw(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def gaussian(count: int, mean: NDArray[np.float64], deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows whose mean and diagonal covariance are exactly these."""
    rows = draw(count, len(mean))
    rows -= rows.mean(axis=0)
    white = np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return rows @ white * deviations + mean


def torch_fidelity(module: str) -> Any:
    """A module of torch-fidelity; skips where it, or a torchvision that fits torch, is not installed."""
    try:
        return import_module(f"torch_fidelity.{module}")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no torch-fidelity: {error}")


@pytest.fixture
def photo() -> Tensor:
    """(1, 3, H, W): a real photograph, of a woman in naval uniform, that matplotlib ships."""
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return torch.from_numpy(read_image(path).copy()).permute(2, 0, 1)[None]


def test_the_distance_of_known_gaussians() -> None:
    means = draw(2, 6, seed=1)
    deviations = np.random.default_rng(2).uniform(0.5, 3, (2, 6))
    real = RealFeatures(gaussian(40, means[0], deviations[0]))
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert real.distance(gaussian(50, means[1], deviations[1])) == pytest.approx(expected)
    assert real.distance(gaussian(40, means[0], deviations[0])) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("count", "width"), [(60, 12), (9, 12)])
def test_the_distance_is_torchmetrics(count: int, width: int) -> None:
    """With more pictures than features, and with fewer."""
    image = pytest.importorskip("torchmetrics.image.fid")

    class Given(torch.nn.Module):
        num_features = width

        def forward(self, rows: Tensor) -> Tensor:
            return rows[:, :width, 0, 0].double()

    real, others = draw(80, width) @ draw(width, width, seed=1), 2 * draw(count, width, seed=2) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = image.FrechetInceptionDistance(Given(), normalize=True).set_dtype(torch.float64)
    for rows, is_real in ((real, True), (others, False)):
        metric.update(torch.from_numpy(rows)[:, :, None, None].expand(-1, -1, 4, 4), real=is_real)
    assert RealFeatures(real).distance(others) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_the_inception_score_is_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.image.inception")

    class Given(torch.nn.Module):
        num_features = 7

        def forward(self, rows: Tensor) -> Tensor:
            return rows[:, :, 0, 0]

    logits = 2 * draw(40, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = image.InceptionScore(Given(), splits=1)
    metric.update(torch.from_numpy(logits)[:, :, None, None])
    assert inception_score(logits) == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_the_inception_score_of_known_answers() -> None:
    certain = 100 * np.eye(5)
    assert inception_score(np.repeat(certain, 3, axis=0)) == pytest.approx(5)
    assert inception_score(np.zeros((8, 5))) == pytest.approx(1)
    assert inception_score(np.repeat(certain[:1], 6, axis=0)) == pytest.approx(1)
    assert inception_score(np.repeat(certain, 40, axis=0), splits=200) == pytest.approx(1), "one picture a split"
    logits = draw(30, 5)
    assert inception_score(logits, splits=3) < inception_score(logits) + 0.5


def test_torch_fidelity_says_the_same() -> None:
    fid = torch_fidelity("metric_fid")
    isc = torch_fidelity("metric_isc")
    real, others, logits = draw(50, 12), draw(8, 12, seed=1) + 1, 2 * draw(40, 7)
    statistics = [fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (real, others)]
    expected = fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert RealFeatures(real).distance(others) == pytest.approx(expected, rel=1e-6)
    expected = isc.isc_features_to_metric(torch.from_numpy(logits), splits=1)["inception_score_mean"]
    assert inception_score(logits) == pytest.approx(expected)


@pytest.mark.parametrize("count", [6, 40])
def test_frechet_distance_of_a_choice_is_that_of_its_rows(count: int) -> None:
    """Whether the pictures are fewer than the features or more."""
    generator = np.random.default_rng(4)
    real = RealFeatures(generator.normal(size=(50, 12)))
    others = generator.normal(1, 2, size=(count, 12))
    draw = generator.integers(0, count, count)
    assert real.distances(others)(draw) == pytest.approx(real.distance(others[draw]), rel=1e-8)


def test_efflite_knows_a_photograph(photo: Tensor) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    space = open_features("efflite", "cpu")
    assert (space.name, space.frechet, space.score) == ("EffLite0", "FD-EffLite0", "IS-EffLite0")
    features, logits = space.run(photo)
    assert features.shape == (1, 1280) and logits is not None and logits.shape == (1, 1000)
    assert logits.argmax() == 652, "ImageNet's military uniform"
    assert not features.requires_grad
    mirrored, _ = space.run(photo.flip(3))
    upside_down, _ = space.run(photo.flip(2))
    assert F.cosine_similarity(features, mirrored) > F.cosine_similarity(features, upside_down)


def test_efflite_takes_its_own_statistics(photo: Tensor) -> None:
    """Pictures are normalised as the weights were trained: the first batch norm sees the variance that it expects."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    seen: list[float] = []
    original = package.EfficientNet.extract_features

    def watch(self: Any, inputs: Tensor) -> Tensor:
        variance = self._conv_stem(inputs).var(dim=(0, 2, 3))
        seen.append((variance / self._bn0.running_var).log().median().item())
        return original(self, inputs)

    package.EfficientNet.extract_features = watch
    try:
        open_features("efflite", "cpu").run(photo)
    finally:
        package.EfficientNet.extract_features = original
    assert abs(seen[0]) < 0.5, "1.6 with the statistics that are usual for ImageNet"


def test_inception_is_torch_fidelity_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch_fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    path = tmp_path / "weights.pth"
    with (
        monkeypatch.context() as patch
    ):  # the class cannot be built without a file of its weights: make one of random ones
        patch.setattr(network, "load_state_dict", lambda self, *_: torch.save(self.state_dict(), path))
        patch.setattr(torch, "load", lambda *_, **__: {})
        theirs = network("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path="any")
    space = open_features(f"inception:{path}", "cpu")
    assert (space.frechet, space.score) == ("FID", "IS")
    pictures = torch.rand(2, 3, 20, 30)
    for ours, expected in zip(space.run(pictures), theirs((pictures * 255).round().byte()), strict=True):
        assert ours is not None and torch.equal(ours, expected)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_features(f"inception:{tmp_path / 'none.pth'}", "cpu")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="no file of weights"):
        open_features(f"inception:{tmp_path / 'text.pth'}", "cpu")
    torch.save(print, tmp_path / "code.pth")
    with pytest.raises(UserError, match="no file of weights"):
        open_features(f"inception:{tmp_path / 'code.pth'}", "cpu")
    with pytest.raises(UserError, match="no features eflite") as fault:
        open_features("eflite", "cpu")
    assert fault.value.hint == "did you mean efflite?"
    with pytest.raises(UserError, match="no classifier"):
        open_features(str(tmp_path), "cpu")


def test_clip_similarity_is_the_cosine_of_its_embeddings(tmp_path: Path) -> None:
    clip = Clip(str(save_clip(tmp_path / "tiny")), torch.device("cpu"))
    assert clip.name == "tiny"
    picture = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    model, words, resize = clip._model, clip._words, clip._resize
    pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    inputs = resize(images=[pixels], return_tensors="pt")["pixel_values"]
    assert inputs.shape == (1, 3, 16, 16)
    seen = model.visual_projection(model.vision_model(inputs).pooler_output)
    for text in ("two boats", "a lake at night " * 20):
        tokens = words([text], return_tensors="pt", truncation=True, max_length=12)
        meant = model.text_projection(model.text_model(**tokens).pooler_output)
        assert clip.similarity(picture, text) == pytest.approx(100 * F.cosine_similarity(seen, meant).item(), abs=1e-3)
    with pytest.raises(UserError, match="CLIP model"):
        Clip(str(tmp_path), torch.device("cpu"))


def test_counted_answers_are_the_judge_s_accuracy(tmp_path: Path, evaluation_shards: Path) -> None:
    judge, worlds = Judge.load(save_judge(tmp_path)), load_labelled(evaluation_shards)
    found = judge(worlds.images).labels()
    counts = count_correct(found, worlds.answers)
    expected = accuracy(found, worlds.answers)
    for number, name in enumerate(("biome", "time", "view", "objects_found", "colour", "objects_imagined")):
        share = share_estimate(counts.right[:, number], counts.asked[:, number], resamples=20)
        assert share is not None and share.value == pytest.approx(expected[name], abs=1e-4), QUESTIONS[number]
        assert 0 <= share.low <= share.value <= share.high <= 1
    worlds.answers.time[:] = UNKNOWN
    assert not count_correct(found, worlds.answers).asked[:, 1].any()
    assert accuracy(found, worlds.answers)["time"] is None
    assert share_estimate(np.zeros(3, int), np.zeros(3, int), resamples=20) is None


def test_libraries_read_tensors_alone(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "w.pth")
    with tensors_only(), pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pth", weights_only=False)
    assert torch.load(tmp_path / "w.pth", weights_only=False) == {"a": Path("x")}
