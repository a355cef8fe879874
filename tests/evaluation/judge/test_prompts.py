"""The fixed prompts: fixed, even, and in the words of the captions."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

from jointnet_cli.data.worlds import grammar
from jointnet_cli.data.worlds.vocabulary import caption_words
from jointnet_cli.evaluation.judge.labels import BIOMES, KINDS, PAINTED, TIMES, named_objects
from jointnet_cli.evaluation.judge.prompts import fixed_prompts, spread

PROMPTS = fixed_prompts()


def test_fixed() -> None:
    """Figures are comparable only over the same prompts: whoever changes them changes this, and measures anew."""
    text = "\n".join(prompt.text for prompt in PROMPTS)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "652c950e53e01d04"


def test_two_hundred_different_ones() -> None:
    assert len(PROMPTS) == len({prompt.text for prompt in PROMPTS}) == 200


def test_even() -> None:
    assert Counter(prompt.biome for prompt in PROMPTS) == dict.fromkeys(BIOMES, 20)
    assert Counter(prompt.time for prompt in PROMPTS) == dict.fromkeys(TIMES, 50)
    kinds = Counter(prompt.kind for prompt in PROMPTS)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 10
    assert max(kinds.values()) <= 20
    for kind, colours in PAINTED.items():
        uses = Counter(prompt.colour for prompt in PROMPTS if prompt.kind == kind)
        assert set(uses) == set(colours)
        assert max(uses.values()) - min(uses.values()) <= 1
        times = {(prompt.colour, prompt.time) for prompt in PROMPTS if prompt.kind == kind}
        assert len(times) > len(colours), f"{kind} has the same colour at the same hour always"


def test_words_are_those_of_captions() -> None:
    words = set(caption_words())
    for prompt in PROMPTS:
        assert set(re.findall(r"[a-z]+", prompt.text)) <= words
        assert re.fullmatch(r"[a-z ]+", prompt.text)


def test_text_names_what_is_asked_for() -> None:
    for prompt in PROMPTS:
        assert named_objects(prompt.text) == {prompt.kind: {prompt.colour} - {None}}, prompt.text


def test_objects_occur_in_their_biome() -> None:
    for prompt in PROMPTS:
        biome = grammar.BIOMES[prompt.biome]
        kinds = {rule.kind for rule in biome.heroes + biome.company}
        assert prompt.kind in kinds or (prompt.kind, prompt.biome) == ("pine", "forest")


def test_evenly() -> None:
    assert spread("abcdefg", 3) == ["a", "d", "g"]
    assert spread("abc", 1) == ["a"]
    assert spread("abc", 5) == ["a", "b", "c"]
    assert {prompt.biome for prompt in spread(PROMPTS, 24)} == set(BIOMES)
