"""From flags and batch files to items: every row, every repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jointnet_cli.cli.batch import Item
from jointnet_cli.cli.inputs import require_files
from jointnet_cli.cli.options import BatchOptions, CaptionOptions, PromptOptions
from jointnet_cli.cli.rows import BatchRow, read_rows
from jointnet_cli.errors import UserError

MakeItem = Callable[..., Item]
"""`make(index, prompts, *groups)`: the item of these options, whose seed is the item's own."""


def list_items(
    make: MakeItem, batch: BatchOptions, prompts: PromptOptions | CaptionOptions, *groups: Any
) -> list[Item]:
    """Every row of the batch file, or the one that the flags describe, `--count` times.

    Item n has seed + n, and in a row with a seed of its own repeat k has that seed + k.

    Raises:
        UserError: a prompt that is missing or given twice; what `read_rows` and `BatchRow.override` refuse; an input
            that is not there.
    """
    rows = [BatchRow("", {})] if batch.prompts is None else read_rows(batch.prompts)
    if prompts.prompt and all("prompt" in row.values for row in rows):
        raise UserError("a prompt and --prompts were both given", "leave one of them out")
    items: list[Item] = []
    for row in rows:
        own, *others = row.override([prompts, *groups])
        own = replace(own, prompt=_prompt(own, row.place))
        independent = bool(row.values.keys() - {"prompt", "seed"})
        for repeat in range(batch.count):
            seed = own.seed + (repeat if "seed" in row.values else len(items))
            item = replace(make(len(items), replace(own, seed=seed), *others), independent=independent)
            require_files(item.files, row.place)
            items.append(item)
    return items


def _prompt(options: PromptOptions | CaptionOptions, place: str) -> str:
    """The prompt without the blanks around it; only a caption may be empty."""
    prompt = options.prompt.strip()
    if not prompt and not isinstance(options, CaptionOptions):
        where = f" in {place}" if place else ""
        raise UserError(f"no prompt{where}", 'say what to draw, such as "ocean reef", or give --prompts FILE')
    return prompt
