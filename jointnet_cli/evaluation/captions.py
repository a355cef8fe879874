"""Prompts and captions: of the fixed prompts, of shards, of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointnet_cli.data.shards.format import sample_caption
from jointnet_cli.errors import UserError, reading
from jointnet_cli.evaluation.judge.labels import Labels, label_record, labels_of_caption, labels_of_prompt
from jointnet_cli.evaluation.judge.prompts import fixed_prompts
from jointnet_cli.files.batch_file import read_rows
from jointnet_cli.files.text import MOST_TABLE, from_json, read_bytes

CAPTION_COLUMNS = ("prompt", "caption", "text")
"""Names of the column with the captions of a table, the first choice first."""


@dataclass(frozen=True)
class Caption:
    """A text, and what an image of it must show."""

    text: str
    asked: Labels | None = None
    """`UNKNOWN` where the text does not say; `None` where no judge can tell."""


def fixed_captions() -> list[Caption]:
    """Return the 200 fixed prompts."""
    return [Caption(prompt.text, labels_of_prompt(prompt)) for prompt in fixed_prompts()]


def shard_caption(raw: Mapping[str, Any]) -> Caption:
    """Return the caption of an undecoded sample of shards, with labels if it is a world; a damaged record counts as none."""
    try:
        record = from_json(raw.get("json", b"{}"))
    except ValueError:
        record = {}
    record = record if isinstance(record, dict) else {}
    text = sample_caption(raw, record)
    labels = label_record(record, text)
    return Caption(text, None if labels is None else labels_of_caption(text, labels))


def read_captions(path: Path) -> list[Caption]:
    """Read captions: COCO's JSON, a prompt a line, or a table with a column `prompt`, `caption` or `text`.

    Raises:
        UserError: the file cannot be read or holds no captions.
    """
    if path.suffix.lower() == ".json":
        return read_coco(path)
    captions = []
    for row in read_rows(str(path)):
        if (column := next((name for name in CAPTION_COLUMNS if name in row.values), None)) is None:
            raise UserError(f"{row.place} has no caption", hint="name the column prompt")
        captions.append(Caption(str(row.values[column])))
    return captions


def read_prompts(source: str) -> list[str]:
    """Read prompts, one a line or in a column `prompt`; `-` is stdin.

    Raises:
        UserError: the file cannot be read, or a row has no prompt.
    """
    rows = read_rows(source)
    if lacking := next((row.place for row in rows if not str(row.values.get("prompt", "")).strip()), None):
        raise UserError(f"{lacking}: no prompt", hint="the column is called prompt")
    return [str(row.values["prompt"]).strip() for row in rows]


def read_coco(path: Path) -> list[Caption]:
    """Read a COCO captions file: the first caption of every image, in the order of the images' ids.

    A JSON list of texts, or of objects with `caption`, is read, too.

    Raises:
        UserError: the file cannot be read or holds no captions.
    """
    with reading(path):
        content = from_json(read_bytes(path, MOST_TABLE, pipes=True))
    entries = content.get("annotations") if isinstance(content, dict) else content
    hint = "it takes COCO's captions_val2014.json"
    with reading(path, hint, cause="it has no captions"):
        texts = _texts(entries if isinstance(entries, list) else [])
    if not texts:
        raise UserError(f"{path} has no captions", hint)
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
