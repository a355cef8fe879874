"""Random known regions: every kind in its share, rectangles within the picture."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from jointnet_cli.training.determinism import SampleRNG
from jointnet_cli.training.recipe import Masks
from jointnet_cli.training.stages.masks import dense_prediction, random_masks, rectangles

COUNT, BRANCHES, SIDE = 4000, 3, 12
KINDS = ("image_known", "maps_known", "equal", "unequal")


def draw(shares: Masks, count: int = COUNT, seed: int = 0) -> Tensor:
    masks = random_masks(torch.zeros(count, BRANCHES, 4, SIDE, SIDE), shares, SampleRNG(seed, range(count)))
    assert masks.shape == (count, BRANCHES, 1, SIDE, SIDE)
    assert ((masks == 0) | (masks == 1)).all()
    return masks


def kind(masks: Tensor) -> str:
    """The one kind that the masks (N, 1, h, w) of an item can be of."""
    if masks.all():
        return "nothing known"
    if not masks[0].any() and masks[1:].all():
        return "image_known"
    if masks[0].all() and all(mask.all() or not mask.any() for mask in masks[1:]):
        return "maps_known"
    return "equal" if (masks == masks[:1]).all() else "unequal"


def shares_of(masks: Tensor) -> dict[str, float]:
    kinds = [kind(item) for item in masks]
    return {name: kinds.count(name) / len(kinds) for name in set(kinds)}


@pytest.mark.parametrize("name", KINDS)
def test_one_kind_alone(name: str) -> None:
    found = shares_of(draw(Masks(**{name: 1.0}), 500))
    assert found[name] > 0.99  # a rectangle covers the whole picture now and then
    assert sum(share for other, share in found.items() if other not in (name, "nothing known", "equal")) == 0


def test_no_shares_give_nothing() -> None:
    assert draw(Masks(), 50).all()


def test_kinds_come_in_their_shares() -> None:
    shares = Masks(image_known=0.35, maps_known=0.1, equal=0.2, unequal=0.05)
    found = shares_of(draw(shares))
    for name, share in {**shares.model_dump(include=set(KINDS)), "nothing known": 0.3}.items():
        assert found[name] == pytest.approx(share, abs=0.03), name


def test_dense_prediction_is_told_by_its_masks() -> None:
    masks = draw(Masks(image_known=0.35, maps_known=0.1, equal=0.2, unequal=0.05), 1000)
    assert dense_prediction(masks).tolist() == [kind(item) == "image_known" for item in masks]


def test_the_draws_decide() -> None:
    shares = Masks(image_known=0.3, equal=0.3, unequal=0.3)
    assert torch.equal(draw(shares, 50, 1), draw(shares, 50, 1))
    assert not torch.equal(draw(shares, 50, 1), draw(shares, 50, 2))


@pytest.mark.parametrize(("height", "width"), [(12, 12), (8, 24), (1, 3)])
def test_rectangles_lie_within_the_picture(height: int, width: int) -> None:
    generator = Generator().manual_seed(0)
    inside = reached = 0
    union = torch.zeros(height, width)
    for _ in range(600):
        mask = rectangles(height, width, torch.rand(5, generator=generator))
        assert mask.shape == (height, width)
        forms = [form for form in (mask, 1 - mask) if is_rectangle(form)]
        assert forms, mask
        inside += bool(is_rectangle(mask))
        sides = [(form.any(1).sum().item(), form.any(0).sum().item()) for form in forms]
        assert any(high >= int(0.2 * height) and wide >= int(0.2 * width) for high, wide in sides)
        union = torch.maximum(union, forms[0])
        reached += bool(forms[0].all())
    assert union.all() and reached < 600 * (0.1 if height > 1 else 1)
    if height > 1:
        assert 0.6 < inside / 600 < 0.85  # most are holes to fill, the rest frames to extend


def is_rectangle(mask: Tensor) -> bool:
    """Whether the ones of a mask fill the box around them."""
    return bool(mask.any() and mask.sum() == mask.any(1).sum() * mask.any(0).sum())
