"""The randomness of a sample belongs to its place, not to its batch."""

from __future__ import annotations

import math
from hashlib import blake2b

import pytest
import torch

from jointnet_cli.training.determinism import _GOLDEN, RankSampler, SampleRNG, _mixed


def numbers(draws: SampleRNG) -> list[torch.Tensor]:
    return [draws.normal(2, 3), draws.uniform(), draws.integers(1000), draws.normal(1)]


def test_a_sample_draws_the_same_in_any_batch() -> None:
    whole = numbers(SampleRNG(3, range(40, 48)))
    parts = [numbers(SampleRNG(3, range(start, start + 2))) for start in range(40, 48, 2)]
    for kind, values in enumerate(whole):
        assert torch.equal(values, torch.cat([part[kind] for part in parts]))


def test_places_seeds_and_purposes_differ() -> None:
    first = SampleRNG(0, range(64)).normal(4)
    assert len(first.unique(dim=0)) == 64
    for other in (SampleRNG(1, range(64)), SampleRNG(0, range(64, 128)), SampleRNG(0, range(64), "mirrored")):
        assert not torch.isin(first, other.normal(4)).any()


def test_the_generator_is_splitmix64() -> None:
    steps = 1234567 + torch.arange(1, 4) * _GOLDEN
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # of Vigna's splitmix64.c
    assert [int(bits) % 2**64 for bits in _mixed(steps)] == published


def splitmix64(state: int) -> int:
    """The output function of Vigna's splitmix64.c, in whole numbers of Python."""
    bits = state % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return bits ^ bits >> 31


@pytest.mark.parametrize(("seed", "purpose"), [(0, "noise"), (7, "timesteps")])
def test_the_numbers_are_those_of_the_sample_s_stream(seed: int, purpose: str) -> None:
    places = [0, 41, 2**40]
    draws = SampleRNG(seed, places, purpose)
    normal, uniform, integers, last = draws.normal(2, 3), draws.uniform(), draws.integers(1000, 2), draws.uniform(1)
    assert normal.shape == (3, 2, 3) and uniform.shape == (3,) and integers.shape == (3, 2) and last.shape == (3, 1)
    assert normal.dtype == uniform.dtype == torch.float32 and integers.dtype == torch.int64
    run = int.from_bytes(blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest(), "big")
    for item, place in enumerate(places):
        start = splitmix64(splitmix64(place) + run)
        bits = [splitmix64(start + 0x9E3779B97F4A7C15 * step) for step in range(1, 11)]
        for number, found in zip(bits, normal[item].flatten().tolist(), strict=False):
            radius = math.sqrt(-2 * math.log(((number >> 32) + 1) / 2**32))
            assert found == pytest.approx(radius * math.cos(2 * math.pi * (number % 2**32) / 2**32), abs=1e-5)
        assert uniform[item].item() == (bits[6] >> 40) / 2**24
        assert integers[item].tolist() == [1000 * (number >> 16) >> 48 for number in bits[7:9]]
        assert last[item].item() == (bits[9] >> 40) / 2**24


def test_the_rarest_normal_numbers_and_the_finest_integers() -> None:
    run = int.from_bytes(blake2b(b"noise/0", digest_size=8).digest(), "big")
    first, other = (splitmix64(splitmix64(splitmix64(place) + run) + 0x9E3779B97F4A7C15) for place in (664110, 5))
    assert first >> 32 == 170  # so close to 0 that one more or less changes the radius
    normal = math.sqrt(-2 * math.log(171 / 2**32)) * math.cos(2 * math.pi * (first % 2**32) / 2**32)
    assert SampleRNG(0, [664110]).normal(1).item() == pytest.approx(normal, rel=2e-6)
    assert SampleRNG(0, [5]).integers(2**48).item() == other >> 16


def test_an_empty_batch_draws_nothing() -> None:
    assert SampleRNG(0, []).uniform(2).shape == (0, 2)


def test_the_purpose_is_noise_unless_it_is_given() -> None:
    assert torch.equal(SampleRNG(3, [5]).normal(4), SampleRNG(3, [5], "noise").normal(4))


def test_numbers_are_made_on_the_device_asked_for() -> None:
    draws = SampleRNG(0, [1, 2], device="meta")
    assert draws.normal(3).device.type == draws.uniform().device.type == draws.integers(5).device.type == "meta"
    assert draws.uniform(device="cpu").device.type == "cpu"


def test_normal_numbers_are_normal() -> None:
    values = SampleRNG(0, range(100)).normal(2000).double().flatten()
    moments = [values.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.03)
    beyond = (values.abs() > 3).double().mean().item()
    assert beyond == pytest.approx(0.0027, rel=0.15)


def test_numbers_are_in_range_and_spread() -> None:
    draws = SampleRNG(0, range(4000))
    normal, uniform, integers = draws.normal(), draws.uniform(), draws.integers(10)
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.02
    assert integers.bincount(minlength=10).min() > 320


def test_a_step_is_the_same_samples_however_it_is_divided() -> None:
    def places(step: int, *shares: RankSampler) -> list[int]:
        return [
            place
            for sampler in shares
            for micro in range(sampler.accumulation)
            for place in sampler.positions(step, micro)
        ]

    for step in (0, 5):
        whole = places(step, RankSampler(8))
        assert whole == list(range(step * 8, step * 8 + 8))
        assert places(step, RankSampler(2, accumulation=4)) == whole
        assert places(step, *(RankSampler(4, processes=2, process=rank) for rank in range(2))) == whole
        assert places(step, *(RankSampler(2, accumulation=2, processes=2, process=rank) for rank in range(2))) == whole
    assert RankSampler(2, accumulation=2, processes=2, process=1).slots == range(4, 8)
    assert RankSampler(2, accumulation=2).positions(3) == range(12, 14)
