"""Lists of captions that pictures are generated from, and what the pictures must show where that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jointnet_cli.data.shards import sample_caption
from jointnet_cli.data.worlds import phrases
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.labels import TIMES, UNKNOWN, Labels, label, place_pattern
from jointnet_cli.evaluation.prompts import fixed_prompts
from jointnet_cli.text_file import decode_text


@dataclass(frozen=True)
class Caption:
    """A text, and what a picture of it must show."""

    text: str
    asked: Labels | None = None
    """`UNKNOWN` where the text does not say; `None` where no judge can tell."""


def fixed_captions() -> list[Caption]:
    """The two hundred fixed prompts."""
    from jointnet_cli.evaluation.follow import asked_for

    prompts = fixed_prompts()
    asked = asked_for(prompts)
    return [
        Caption(prompt.text, Labels(int(biome), int(time), tuple(present.tolist()), tuple(colour.tolist())))
        for prompt, biome, time, present, colour in zip(
            prompts, asked.biome, asked.time, asked.present, asked.colour, strict=True
        )
    ]


def shard_caption(raw: Mapping[str, Any]) -> Caption:
    """The caption of an undecoded sample of shards; of a world with what it says of it."""
    record = json.loads(raw.get("json", b"{}"))
    text = sample_caption(raw, record)
    return Caption(text, said(text, label(record["scene"], text)) if "scene" in record else None)


def said(text: str, labels: Labels) -> Labels:
    """Labels of a world without the biome or the time of day where its caption leaves them out."""
    return replace(
        labels,
        biome=labels.biome if place_pattern().search(text) else UNKNOWN,
        time=labels.time if any(phrase in text for phrase in _hours(TIMES[labels.time])) else UNKNOWN,
    )


def read_coco(path: Path) -> list[Caption]:
    """One caption an image of a COCO captions file, the first of each, in the order of the images' ids.

    A JSON list of texts, or of objects with `caption`, is read too.

    Raises:
        UserError: the file cannot be read or holds no captions.
    """
    try:
        content = json.loads(decode_text(path.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"no file {path}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    entries = content.get("annotations") if isinstance(content, dict) else content
    try:
        texts = _texts(entries if isinstance(entries, list) else [])
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} has no captions", hint="it takes COCO's captions_val2014.json") from error
    if not texts:
        raise UserError(f"{path} has no captions", hint="it takes COCO's captions_val2014.json")
    return [Caption(text) for text in texts]


def _texts(entries: list[Any]) -> list[str]:
    if all(isinstance(entry, str) for entry in entries):
        return [entry.strip() for entry in entries]
    if "image_id" not in entries[0]:
        return [entry["caption"].strip() for entry in entries]
    first: dict[int, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry["image_id"], entry.get("id", 0))):
        first.setdefault(entry["image_id"], entry["caption"].strip())
    return list(first.values())


def _hours(time: str) -> list[str]:
    """The phrases that tell a time of day."""
    spans = [
        phrase.format(phrases.SPANS[time]) for group in phrases.WEATHER.values() for phrase in group if "{}" in phrase
    ]
    moon = phrases.MOON if time == "night" else ()
    return [*phrases.HOURS[time], *phrases.CLEAR_HOURS[time], *phrases.DEEP_HOURS[time], *moon, *spans]
